"""Programs in the kernel: loaded, run, described, pinned."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import NamedTuple

from ..errors import ObjectError
from ..formats import attr
from ..formats.abi import Cmd, ProgType
from ..formats.sections import classify
from ..formats.spec import ProgramSpec
from . import attach_target, bpffs, sys
from .attach import Link, Request, attach, can_attach
from .fd import FileDescriptor
from .maps import Map

_GROWTH = 4096  # bytes that a program may add to a packet: what a page leaves (net/core/filter.c, bpf_xdp_adjust_tail)
_INFO = struct.Struct("=II8sIIQQQIIQ16sIIQQIIQQIIQIIQQIIIIQQQQII")  # struct bpf_prog_info, 5.16
_JITED_LENGTH, _XLATED_LENGTH, _JITED, _XLATED, _MAP_COUNT, _MAP_IDS = 16, 20, 24, 32, 52, 56


class ProgramInfo(NamedTuple):
    """What the kernel says of a program. `run_time_ns` and `run_count` move while `run_statistics` are on.

    `translated` is the code after the verifier's rewrites, `jited` the machine code; both are empty where the
    process may not see them.
    """

    id: int
    type: ProgType | int
    name: str
    tag: str
    map_ids: tuple[int, ...]
    btf_id: int
    translated: bytes
    jited: bytes
    run_time_ns: int
    run_count: int
    recursion_misses: int
    verified_instructions: int


class RunResult(NamedTuple):
    """What a program did with its input. `duration_ns` is the mean of one run."""

    return_value: int
    data: bytes
    context: bytes
    duration_ns: int


class Program:
    """A loaded program. `spec` is what it was made from. Closed with its object."""

    def __init__(self, spec: ProgramSpec, fd: int) -> None:
        self.spec = spec
        self._fd = FileDescriptor(fd, f"program {spec.name!r}")

    def fileno(self) -> int:
        """Its descriptor, owned by the program. Raises ClosedError after close."""
        return self._fd.fileno()

    def close(self) -> None:
        """Give up this reference; a link or a pin keeps the program. Twice is harmless."""
        self._fd.close()

    def attach(
        self, target: str | None = None, *, pid: int = -1, cookie: int = 0, map: Map | None = None
    ) -> Link:  # fmt: skip
        """Attach it where its section says, or to `target`, which is written as in a section's name.

        `pid` restricts uprobes, perf events and task iterators to a process (0: this one); `cookie` is what
        bpf_get_attach_cookie() returns; an iterator over a map's elements takes the `map`. It runs until the link is
        closed. Raises NotSupported where the kernel lacks the hook, TracefsUnavailable, NotPermitted, KernelError, and
        ObjectError for what makes no sense: no target, or another than the program was verified for.
        """
        spec = self.spec
        if target not in (None, spec.attach_to) and attach_target.is_fixed(spec):
            raise ObjectError(
                f"program {spec.name!r} was verified for {spec.attach_to}, and cannot be attached to {target}",
                hint=f"before loading: spec.programs[{spec.name!r}].attach_to = {target!r}",
            )
        request = self._request(spec.attach_to if target is None else target)
        return attach(request._replace(pid=pid, cookie=cookie, map_fd=map.fileno() if map is not None else 0))

    @property
    def attachable(self) -> bool:
        """Does its section say where it goes, and can that be done from here?"""
        return can_attach(self._request(self.spec.attach_to))

    def _request(self, target: str) -> Request:
        spec = self.spec
        return Request(
            program=spec.name,
            fd=self.fileno(),
            target=target,
            attach_type=spec.attach_type,
            hook=classify(spec.section).hook.removesuffix(".s").removesuffix(".w"),
            type=spec.type,
        )

    def test_run(
        self, data: bytes = b"", context: bytes = b"", *, repeat: int = 1, flags: int = 0, cpu: int = 0
    ) -> RunResult:  # fmt: skip
        """Run it with this input (BPF_PROG_TEST_RUN): a packet, a context, or both, as its type wants.

        Raises KernelError for types that cannot be run so, and for input or options that this one does not take.
        """
        room = len(data) + _GROWTH if data else 0
        data_in, data_out = sys.Buffer(data), sys.Buffer(room)
        ctx_in, ctx_out = sys.Buffer(context), sys.Buffer(len(context))
        # Tracing programs take a context and nothing else (kernel/trace/bpf_trace.c, bpf_prog_test_run_raw_tp).
        bare = self.spec.type in (ProgType.RAW_TRACEPOINT, ProgType.RAW_TRACEPOINT_WRITABLE, ProgType.SYSCALL)
        packed = attr.run_out(
            self.fileno(),
            _span(data_in, len(data)),
            _span(data_out, room),
            _span(ctx_in, len(context)),
            (0, 0) if bare else _span(ctx_out, len(context)),
            0 if repeat == 1 else repeat,
            flags,
            cpu,
        )
        try:
            answer = sys.bpf_out(Cmd.PROG_TEST_RUN, packed)
        except OSError as error:
            hint = "the kernel runs programs of this type at their hook only" if error.errno == sys.ENOTSUPP else ""
            raise sys.refusal(f"running program {self.spec.name!r}", error, hint) from error

        def number(at: int) -> int:
            found: int = struct.unpack_from("=I", answer, at)[0]
            return found

        return RunResult(
            number(attr.TEST_RUN_RETVAL),
            data_out.bytes()[: number(attr.TEST_RUN_DATA_SIZE)],
            ctx_out.bytes() if not bare else ctx_in.bytes(),
            number(attr.TEST_RUN_DURATION),
        )

    def info(self) -> ProgramInfo:
        """What the kernel says of it (BPF_OBJ_GET_INFO_BY_FD). Raises KernelError."""
        sizes = sys.Buffer(_INFO.size)
        self._ask(sizes)
        xlated, jited, maps = (
            sys.Buffer(struct.unpack_from("=I", sizes.bytes(), at)[0] * width)
            for at, width in ((_XLATED_LENGTH, 1), (_JITED_LENGTH, 1), (_MAP_COUNT, 4))
        )
        request = bytearray(_INFO.size)
        for at, buffer in ((_XLATED_LENGTH, xlated), (_JITED_LENGTH, jited)):
            struct.pack_into("=I", request, at, len(buffer.bytes()))
        struct.pack_into("=I", request, _MAP_COUNT, len(maps.bytes()) // 4)
        for at, buffer in ((_XLATED, xlated), (_JITED, jited), (_MAP_IDS, maps)):
            struct.pack_into("=Q", request, at, buffer.address if buffer.bytes() else 0)
        memory = sys.Buffer(bytes(request))
        self._ask(memory)
        row = _INFO.unpack(memory.bytes())
        return ProgramInfo(
            id=row[1],
            type=ProgType(row[0]) if row[0] in set(ProgType) else row[0],
            name=row[11].split(b"\0")[0].decode(),
            tag=row[2].hex(),
            map_ids=struct.unpack(f"={len(maps.bytes()) // 4}I", maps.bytes()),
            btf_id=row[20],
            translated=xlated.bytes() if row[6] else b"",
            jited=jited.bytes() if row[5] else b"",
            run_time_ns=row[32],
            run_count=row[33],
            recursion_misses=row[34],
            verified_instructions=row[35],
        )

    def _ask(self, memory: sys.Buffer) -> None:
        try:
            sys.bpf_out(Cmd.OBJ_GET_INFO_BY_FD, attr.info_out(self.fileno(), memory.address, _INFO.size))
        except OSError as error:
            raise sys.refusal(f"asking about program {self.spec.name!r}", error) from error

    def pin(self, path: str | PathLike[str]) -> None:
        """Keep it alive at a path on bpffs. Raises KernelError."""
        bpffs.pin(self.fileno(), path, f"program {self.spec.name!r}")

    def unpin(self, path: str | PathLike[str]) -> None:
        """Remove a pin. Raises KernelError."""
        bpffs.unpin(path, f"program {self.spec.name!r}")


def _span(buffer: sys.Buffer, size: int) -> tuple[int, int]:
    return (buffer.address, size) if size else (0, 0)


@contextmanager
def run_statistics() -> Iterator[None]:
    """Have the kernel count runs and time of all programs meanwhile (BPF_ENABLE_STATS, 5.8). Raises KernelError."""
    try:
        fd = sys.bpf(Cmd.ENABLE_STATS, struct.pack("=I", 0))
    except OSError as error:
        raise sys.refusal("switching run statistics on", error) from error
    owner = FileDescriptor(fd, "run statistics")
    try:
        yield
    finally:
        owner.close()
