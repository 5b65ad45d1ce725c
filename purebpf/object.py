"""An ObjectSpec brought to life: maps, programs, links and readers, all closed together.

What only some objects need (CO-RE, externs, perf buffers) is imported when one does: a tracer should start at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .errors import ClosedError, Error, ObjectError, RelocationError
from .formats import link
from .formats.abi import MapFlags, MapType
from .formats.btf import Btf
from .formats.kinds import essential
from .formats.layout import codec
from .formats.parse import parse
from .formats.spec import CoreRelocation, ObjectSpec, ProgramSpec
from .kernel import attach_target, bpffs, maps, probe, verifier
from .kernel import btf as kernel_btf
from .kernel.attach import Link
from .kernel.globals import Globals
from .kernel.maps import ArrayMap, Map
from .kernel.program import Program
from .kernel.ringbuf import RingBuffer
from .kernel.sys import require_supported

if TYPE_CHECKING:
    if sys.version_info >= (3, 11):
        from importlib.resources.abc import Traversable
    else:
        from importlib.abc import Traversable

    from .formats.core_relo import Outcome, Resolver
    from .kernel.externs import Externs
    from .kernel.perfbuf import PerfBuffer
    from .kernel.user_ringbuf import UserRingBuffer
else:
    Traversable = Any  # for typing.get_type_hints: importing the real one takes longer than to load an object

# Absolute now: the program may go to another folder later.
_PACKAGE = os.path.dirname(os.path.abspath(__file__))
_loader: Any = __spec__.loader
_ARCHIVE = os.path.abspath(_loader.archive) if hasattr(_loader, "archive") else None


class _Closable(Protocol):
    def close(self) -> None: ...


_Owned = TypeVar("_Owned", bound=_Closable)


def read(source: str | os.PathLike[str] | Traversable) -> ObjectSpec:
    """Read an object file. Raises ObjectError if it is missing, unreadable or no BPF object."""
    path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else str(source)
    try:
        return parse(contents(path), os.path.basename(path).split(".")[0])
    except ObjectError as error:
        raise type(error)(f"{path}: {error}", hint=error.hint) from error


def contents(path: str) -> bytes:
    """A file's bytes, also of one in the archive out of which purebpf is run. Raises ObjectError."""
    try:
        try:
            with open(path, "rb") as file:
                return file.read()
        except NotADirectoryError:
            inside = os.path.abspath(path)
            if _ARCHIVE is None or not inside.startswith(_ARCHIVE + os.sep):
                raise
            from zipimport import zipimporter

            return zipimporter(_ARCHIVE).get_data(inside)
    except OSError as error:  # zipimport's has no number
        raise ObjectError(error.strerror or "there is no such file in the archive") from error


def prebuilt_path(name: str) -> str:
    """As `prebuilt`, for those in a hurry: pathlib takes longer to import than an object to load."""
    inside, beside = os.path.join(_PACKAGE, "prebuilt"), os.path.join(os.path.dirname(_PACKAGE), "prebuilt")
    checkout = os.path.isdir(beside) and not os.path.isdir(inside)
    suffix = "bpf.o" if sys.byteorder == "little" else "bpfeb.o"
    return os.path.join(beside if checkout else inside, f"{name}.{suffix}")


def prebuilt(name: str) -> Traversable:
    """The object that comes with purebpf under this name, e.g. "trace_exec" for prebuilt/trace_exec.bpf.o.

    It is the one of this machine's byte order: on a big-endian one prebuilt/trace_exec.bpfeb.o.
    In an installed package the folder lies inside it, in a checkout beside it; then this is a pathlib.Path. Where
    purebpf is run out of an archive (purebpf.pyz) it is a zipfile.Path, which `load` takes and can be read as well.
    """
    path = prebuilt_path(name)
    if _ARCHIVE is None:
        from pathlib import Path

        return Path(path)
    from zipfile import Path as ArchivePath

    return ArchivePath(_ARCHIVE, os.path.relpath(path, _ARCHIVE))


def load(
    source: str | os.PathLike[str] | Traversable | ObjectSpec,
    *,
    btf: str | os.PathLike[str] | Btf | None = None,
    pin_path: str | os.PathLike[str] = bpffs.ROOT,
) -> Object:
    """Create the maps and load the programs of an object file or of a spec.

    `btf` is what CO-RE relocations are resolved against, a file or parsed; by default the running kernel's and its
    modules'. Maps that ask for it (LIBBPF_PIN_BY_NAME) are pinned in, or taken over from, the folder `pin_path`.

    Use the result in a `with` statement, or call its `close`. Raises ObjectError, VerifierError, NotPermitted,
    NotSupported, KernelError; then nothing stays behind but pins.
    """
    spec = source if isinstance(source, ObjectSpec) else read(source)
    if btf is not None and not isinstance(btf, Btf):
        from .kernel import vmlinux

        btf = vmlinux.read(btf)
    return Object(spec, btf, pin_path)


class Object:
    """A loaded object. `maps` and `programs` are by name, `spec` is what it was loaded from.

    `globals` has the global variables as attributes. `failures` says for each program with `required` False that
    could not be loaded or attached why.
    """

    def __init__(self, spec: ObjectSpec, btf: Btf | None, pin_path: str | os.PathLike[str]) -> None:
        require_supported()
        if spec.byte_order != sys.byteorder:
            raise ObjectError(
                f"the object is {spec.byte_order}-endian, this machine {sys.byteorder}-endian",
                hint=f"compile with `clang -target {'bpfel' if sys.byteorder == 'little' else 'bpfeb'}`",
            )
        self.spec = spec
        self.maps: dict[str, Map] = {}
        self.programs: dict[str, Program] = {}
        self.failures: dict[str, Error] = {}
        self.globals = Globals(spec.variables, self.maps)
        self._owned = ExitStack()
        self._closed = False
        try:
            with ExitStack() as loading:
                _Loader(self, btf, pin_path, loading).load()
        except BaseException:
            self.close()
            raise

    def own(self, resource: _Owned) -> _Owned:
        """Have it closed with the object."""
        self._owned.callback(resource.close)
        return resource

    def attach(self) -> list[Link]:
        """Attach every program where its SEC() says; those whose section does not say where are left out.

        The links are closed with the object, or singly before. Raises what Program.attach raises, unless the program
        is not `required`: then the error is in `failures`.
        """
        self._check()
        links = []
        for name, program in self.programs.items():
            if program.attachable:
                try:
                    links.append(self.own(program.attach()))
                except Error as error:
                    if program.spec.required:
                        raise
                    self.failures[name] = error
        return links

    def ring(self, name: str, *, lost: str = "") -> RingBuffer[memoryview]:
        """Read the RINGBUF map of this name, as bytes. Closed with the object. Raises ObjectError if there is none.

        `lost` is what the programs count in when they find the ring full: a global variable, or an array, per CPU or not.
        """
        return self.own(RingBuffer(self._map(name), lost=self._counter(lost)))

    def events(self, name: str, type: str | None = None, *, lost: str = "") -> RingBuffer[Any]:
        """Read the RINGBUF map of this name as values: of the struct `type`, or of the type that the map declares.

        Members are attributes. As `ring` otherwise; raises ObjectError, too, if the object has no such type.
        """
        spec = self._map(name).spec
        if type is None and not (spec.value_type and spec.btf):
            raise ObjectError(
                f"ring {name!r} does not declare what its records are",
                hint=f'name their struct: events({name!r}, "event"); or use ring({name!r}), and decode bytes',
            )
        found = codec(spec.btf, spec.value_type) if type is None and spec.btf else self.spec.struct(type or "")
        return self.own(RingBuffer(self._map(name), found, lost=self._counter(lost)))

    def _counter(self, name: str) -> Callable[[], Any] | None:
        """Reads a count, or a list of counts."""
        if not name:
            return None
        if name in self.spec.variables:
            return partial(getattr, self.globals, name)
        counts = self._map(name)
        if not isinstance(counts, ArrayMap):
            raise ObjectError(f"map {name!r} counts nothing: it takes an array, or a global variable")
        return partial(counts.__getitem__, 0)

    def user_ring(self, name: str) -> UserRingBuffer:
        """Write to the USER_RINGBUF map of this name. Closed with the object. Raises ObjectError if there is none."""
        from .kernel.user_ringbuf import UserRingBuffer

        return self.own(UserRingBuffer(self._map(name)))

    def perf(self, name: str, pages: int = 64) -> PerfBuffer:
        """Read the PERF_EVENT_ARRAY map of this name, with `pages` of memory for each CPU. Closed with the object."""
        from .kernel.perfbuf import PerfBuffer

        return self.own(PerfBuffer(self._map(name), pages))

    def _map(self, name: str) -> Map:
        self._check()
        if name not in self.maps:
            known = ", ".join(self.maps) or "none at all"
            raise ObjectError(f"the object has no map {name!r}; it has {known}")
        return self.maps[name]

    def close(self) -> None:
        """Detach, unmap and close everything. Twice is harmless."""
        self._closed = True
        self._owned.close()

    def _check(self) -> None:
        if self._closed:
            raise ClosedError("the object is closed")

    def __enter__(self) -> Object:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Loader:
    """The way from a spec to an Object. What only loading needs, the kernel's BTF first of all, is dropped after it."""

    def __init__(self, obj: Object, btf: Btf | None, pin_path: str | os.PathLike[str], loading: ExitStack) -> None:
        self._obj, self._spec, self._pin_path, self._loading = obj, obj.spec, pin_path, loading
        self._running: Btf | None = None
        self._externs: Externs | None = None
        self._btf = btf
        self._resolver: Resolver | None = None
        uploaded = kernel_btf.upload(obj.spec.btf) if obj.spec.btf else None
        self._btf_fd = uploaded.owner.fileno() if uploaded else 0
        self._functions = bool(uploaded and uploaded.functions)
        if uploaded:
            loading.callback(uploaded.owner.close)

    def load(self) -> None:
        """Maps first, for programs refer to them; last what refers to programs."""
        if self._spec.externs:
            from .kernel.externs import Externs

            self._externs = Externs(self._spec, self._kernel, self._loading)
            self._externs.fill_kconfig()
        for name, spec in self._spec.maps.items():
            self._obj.maps[name] = self._obj.own(self._create(name))
            if spec.contents is not None:
                self._fill(self._obj.maps[name], bytes(spec.contents), spec.read_only)
        self._fill_values(MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS)
        for name, program in self._spec.programs.items():
            if program.autoload:
                self._load_program(name, program)
        self._fill_values(MapType.PROG_ARRAY)

    def _kernel(self) -> Btf:
        if self._running is None:
            from .kernel import vmlinux

            self._running = vmlinux.vmlinux()
        return self._running

    def _resolve(self, relocation: CoreRelocation) -> Outcome:
        """The kernel's BTF is read when the first relocation needs it: a kernel may have none."""
        if self._resolver is None:
            from .formats.core_relo import Resolver, Target
            from .kernel import vmlinux

            assert self._spec.btf is not None  # or there were no relocations
            modules = (list) if self._btf else lambda: [*vmlinux.modules(self._kernel()).values()]
            target = self._btf or self._kernel()
            target.expect(self._wanted_types(self._spec.btf))
            self._resolver = Resolver(self._spec.btf, Target(target, modules))
        return self._resolver.resolve(relocation)

    def _wanted_types(self, local: Btf) -> set[str]:
        """What relocations look for by name."""
        functions = [*self._spec.programs.values(), *self._spec.functions.values()]
        ids = {relocation.type_id for function in functions for relocation in function.relocations}
        return {essential(local.type(id).name) for id in ids}

    def _create(self, name: str) -> Map:
        spec = self._spec.maps[name]
        if spec.flags & MapFlags.MMAPABLE and spec.contents is not None and not probe.FEATURES["array_mmap"]():
            spec = replace(spec, flags=spec.flags & ~MapFlags.MMAPABLE)
        if spec.pinning:
            return maps.create_or_reuse(spec, bpffs.path_of(name, self._pin_path), btf_fd=self._btf_fd)
        return maps.create(spec, btf_fd=self._btf_fd)

    def _fill(self, section: Map, contents: bytes, read_only: bool) -> None:
        section.put(bytes(4), contents)
        if read_only:
            section.freeze()  # before programs are loaded: the verifier then takes the values for constants

    def _fill_values(self, *types: MapType) -> None:
        """Put the maps or programs that a declaration names into its slots."""
        for name, spec in self._spec.maps.items():
            if spec.type not in types:
                continue
            for slot, target in spec.values.items():
                made = self._obj.maps.get(target) or self._obj.programs.get(target)
                if made:
                    self._obj.maps[name].put(slot.to_bytes(spec.key_size, sys.byteorder), made)
                elif target not in self._spec.programs:
                    raise ObjectError(f"map {name!r}, slot {slot}: the object has no {target!r} to put there")

    def _load_program(self, name: str, spec: ProgramSpec) -> None:
        try:
            self._obj.programs[name] = self._obj.own(self._loaded(spec))
        except Error as error:
            if spec.required:
                raise
            self._obj.failures[name] = error

    def _loaded(self, spec: ProgramSpec) -> Program:
        code = self._code(spec)
        modules: list[int] = [0]  # fd_array; its first place stands for the kernel itself
        try:
            link.bind(
                code,
                {name: made.fileno() for name, made in self._obj.maps.items()},
                self._extern,
                partial(_place, modules),
            )
            if self._externs:
                self._externs.check_kconfig(code)
        except Error as error:
            raise _of_program(spec, error) from error
        if link.calls(code, link.OLD_PROBE_READS) and not probe.FEATURES["probe_read_kernel"]():
            link.replace_helpers(code, link.OLD_PROBE_READS)
        target = attach_target.find(spec, self._kernel, self._loading)
        context = verifier.Context(
            self._spec.license,
            self._spec.btf,
            self._btf_fd,
            self._functions,
            target,
            modules if len(modules) > 1 else (),
        )
        return verifier.load(spec, code, context)

    def _extern(self, name: str) -> link.Extern:
        if self._externs is None or name not in self._spec.externs:
            raise RelocationError(f"refers to extern {name!r}, which the object does not have")
        return self._externs.resolve(name)

    def _code(self, spec: ProgramSpec) -> link.Code:
        try:
            return link.assemble(self._spec, spec, self._resolve)
        except Error as error:
            raise _of_program(spec, error) from error


def _of_program(spec: ProgramSpec, error: Error) -> Error:
    """The same error, saying which program it is about."""
    text = str(error)
    message = text if repr(spec.name) in text else f"program {spec.name!r}: {text}"
    return type(error)(message, hint=error.hint)


def _place(modules: list[int], fd: int) -> int:
    if fd not in modules:
        modules.append(fd)
    return modules.index(fd)
