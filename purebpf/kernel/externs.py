"""What an object wants from the kernel by name: configuration values, symbols' addresses, typed variables, functions.

Resolved when a program that uses them is loaded, so that one missing name fails one program and not the object
(as cilium/ebpf does; libbpf fails all). A weak one that is missing is zero, or a call that must not be reached.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from ..errors import NotSupported, ObjectError
from ..formats.btf import Btf
from ..formats.core_spec import same_type
from ..formats.data_sections import KCONFIG
from ..formats.kinds import Kind, Type
from ..formats.link import Code, Extern
from ..formats.spec import ExternSpec, ObjectSpec, ReferenceKind
from . import kallsyms, kconfig, vmlinux
from .fd import FileDescriptor


class Externs:
    """Those of one object. `kernel` gives the kernel's BTF when it is needed; descriptors are closed by `owned`."""

    def __init__(self, spec: ObjectSpec, kernel: Callable[[], Btf], owned: ExitStack) -> None:
        self._spec, self._kernel, self._owned = spec, kernel, owned
        self._modules: dict[str, Btf] | None = None
        self._module_fds: dict[str, int] = {}
        self._found: dict[str, Extern] = {}
        self._missing: dict[int, str] = {}  # offset in .kconfig -> strong extern without a value

    def fill_kconfig(self) -> None:
        """Put the values into the contents of the map .kconfig."""
        wanted = [e for e in self._spec.externs.values() if e.section == KCONFIG]
        contents = self._spec.maps[KCONFIG].contents if wanted else None
        if contents is None or self._spec.btf is None:
            return
        config = kconfig.read()
        for extern in wanted:
            value = kconfig.value(extern, self._spec.btf, config)
            if value is not None:
                contents[extern.offset : extern.offset + extern.size] = value
            elif not extern.weak:
                self._missing[extern.offset] = extern.name

    def check_kconfig(self, code: Code) -> None:
        """Raise NotSupported if the code reads a strong value that the configuration does not have."""
        for reference in code.references:
            if reference.kind == ReferenceKind.DATA and reference.name == KCONFIG and reference.addend in self._missing:
                raise NotSupported(
                    f"the kernel's configuration does not give {self._missing[reference.addend]}",
                    hint="it is read from /boot/config-RELEASE or /proc/config.gz; declare it __weak to do without",
                )

    def resolve(self, name: str) -> Extern:
        """What a name in .ksyms comes to. Raises NotSupported for a strong one that the kernel lacks."""
        if name not in self._found:
            extern, btf = self._spec.externs[name], self._spec.btf
            if btf is None:
                raise ObjectError(f"extern {name!r} without BTF")
            self._found[name] = self._resolve(extern, btf, btf.type(extern.type_id))
        return self._found[name]

    def _resolve(self, extern: ExternSpec, btf: Btf, declared: Type) -> Extern:
        type_ = btf.resolve(declared.size_or_type)
        if type_.kind == Kind.VOID:
            address = kallsyms.address(extern.name)
            if address is None and not extern.weak:
                raise NotSupported(f"the kernel has no symbol {extern.name} in /proc/kallsyms")
            return Extern(address=address or 0)
        kind = Kind.FUNC if type_.kind == Kind.FUNC_PROTO else Kind.VAR
        found = self._typed(extern.name, kind)
        if found is None:
            if extern.weak:
                return Extern()
            raise self._no_such(extern.name, kind)
        module, kernel, target = found
        if not same_type(btf, type_.id, kernel, target.size_or_type):
            raise NotSupported(f"the kernel's {extern.name} has another type than the object declares for it")
        return Extern(btf_id=target.id, btf_fd=self._fd(module) if module else 0)

    def _typed(self, name: str, kind: Kind) -> tuple[str, Btf, Type] | None:
        """(module or "", BTF, its FUNC or VAR)."""
        kernel = self._kernel()
        for type_ in kernel.find(name, kind):
            return "", kernel, type_
        if self._modules is None:
            self._modules = vmlinux.modules(kernel)
        for module, btf in self._modules.items():
            for type_ in btf.find(name, kind):
                return module, btf, type_
        return None

    def _no_such(self, name: str, kind: Kind) -> NotSupported:
        what = "function" if kind == Kind.FUNC else "variable"
        close = self._kernel().close_to(name, kind)
        hint = f"close to it: {', '.join(close)}" if close else "declare it __weak to load without it"
        return NotSupported(f"the kernel's BTF has no {what} {name}", hint=hint)

    def _fd(self, module: str) -> int:
        if module not in self._module_fds:
            owner = FileDescriptor(vmlinux.module_fd(module), f"BTF of module {module!r}")
            self._owned.callback(owner.close)
            self._module_fds[module] = owner.fileno()
        return self._module_fds[module]
