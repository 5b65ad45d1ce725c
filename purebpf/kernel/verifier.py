"""BPF_PROG_LOAD, and what it means when the kernel refuses.

The first try is without a log, which slows the verifier down; only a refusal is repeated with one, in a buffer that
grows until the log fits. The log names instructions; here they are traced back to source lines, and to the CO-RE
relocations that were poisoned.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import KernelError, NotPermitted, NotSupported, ObjectError, VerifierError
from ..formats import attr
from ..formats.abi import Cmd, ProgType
from ..formats.btf import Btf
from ..formats.insn import SIZE
from ..formats.link import Code
from ..formats.spec import ProgramSpec
from . import capabilities, memlock, sys
from .program import Program

# The helpers that lockdown takes away, by the beginnings of their names, and its modes that do (kernel/trace/bpf_trace.c).
_LOCKED_AWAY = {"bpf_probe_write_user": ("integrity", "confidentiality"), "bpf_probe_read": ("confidentiality",)}
_FIRST_LOG, _LARGEST_LOG = 1 << 16, 1 << 24  # bytes; every kernel takes 16 MiB (UINT_MAX >> 8)


class Context(NamedTuple):
    """What a program is loaded with besides its code. `attach` is a type id and a descriptor of its BTF, or 0.

    `btf_fd` is 0 without BTF in the kernel; `functions` is False if that BTF has no functions.
    """

    license: str
    btf: Btf | None = None
    btf_fd: int = 0
    functions: bool = True
    attach: tuple[int, int] = (0, 0)
    fd_array: Sequence[int] = ()


def load(spec: ProgramSpec, code: Code, context: Context) -> Program:
    """Have the linked and bound code verified.

    Raises VerifierError with the log, NotPermitted, NotSupported, or ObjectError for a section that no row knows.
    """
    if spec.type is None:
        raise ObjectError(
            f"program {spec.name!r}: section {spec.section!r} is of no kind that is known",
            hint="set the program's type in the spec, or leave it out (autoload = False)",
        )
    try:
        return Program(spec, memlock.retry(lambda: _load(spec, code, context), len(code.code)))
    except OSError as error:
        raise _rejection(spec, code, context, error) from error


def _load(spec: ProgramSpec, code: Code, context: Context, log: sys.Buffer | None = None, log_size: int = 0) -> int:
    instructions, terminated = sys.Buffer(bytes(code.code)), sys.Buffer(context.license.encode() + b"\0")
    functions, lines = _infos(code) if context.btf_fd and context.functions else (b"", b"")
    function_memory, line_memory = sys.Buffer(functions), sys.Buffer(lines)
    array = sys.Buffer(struct.pack(f"={len(context.fd_array)}i", *context.fd_array))
    return sys.bpf(
        Cmd.PROG_LOAD,
        attr.prog_load(
            spec.type or 0,
            len(code.code) // SIZE,
            instructions.address,
            terminated.address,
            log_level=1 if log else 0,
            log_size=log_size,
            log=log.address if log else 0,
            kernel_version=_kernel_version(spec),
            flags=spec.flags,
            name=spec.name,
            expected_attach_type=int(spec.attach_type),
            btf_fd=context.btf_fd,
            func_info=(8, function_memory.address, len(functions) // 8) if functions else (0, 0, 0),
            line_info=(16, line_memory.address, len(lines) // 16) if lines else (0, 0, 0),
            attach_btf_id=context.attach[0],
            attach_fd=context.attach[1],
            fd_array=array.address if context.fd_array else 0,
        ),
    )


def _kernel_version(spec: ProgramSpec) -> int:
    """Kernels before 5.0 want theirs in a kprobe's load."""
    if spec.type != ProgType.KPROBE:
        return 0
    from . import kconfig

    return kconfig.version_code()


def _infos(code: Code) -> tuple[bytes, bytes]:
    """`struct bpf_func_info` and `bpf_line_info`; none if a function has no type, for the kernel wants all or none."""
    if not all(function.type_id for _start, function in code.functions):
        return b"", b""
    functions = b"".join(struct.pack("=II", start, function.type_id) for start, function in code.functions)
    described = {line.slot for line in code.lines}
    if not all(start in described for start, _function in code.functions):
        return functions, b""
    return functions, b"".join(struct.pack("=4I", *line) for line in code.lines)


def _rejection(spec: ProgramSpec, code: Code, context: Context, error: OSError) -> KernelError:
    number = error.errno or 0
    doing = f"loading program {spec.name!r}"
    log = _log(spec, code, context)
    from ..formats import verifier_log  # late: only a refusal needs them
    from . import probe

    found = verifier_log.telling(log)
    if not found.lines:
        return _without_log(spec, doing, error)
    message = [f"{doing}: {sys.errno_name(number)}, the verifier says:", *(f"  {line}" for line in found.lines)]
    hint = f"the whole log has {len(log.splitlines())} lines: --verifier-log prints it, in Python it is error.log"
    if found.slot is not None:
        message += source_of(code, context.btf, found.slot)
        if found.slot in code.poisoned:
            message.append(f"  that instruction was made unusable by CO-RE: {code.poisoned[found.slot]}")
            hint = "guard it with bpf_core_field_exists() or bpf_core_type_exists(), or give the right BTF (btf=…)"
    mode = capabilities.locked_down() if probe.has_no_helper(log) else ""
    if any(name in log and mode in modes for name, modes in _LOCKED_AWAY.items()):
        hint = capabilities.lockdown()
    return VerifierError("\n".join(message), errno=number, log=log, hint=hint)


def source_of(code: Code, btf: Btf | None, slot: int) -> list[str]:
    """The source line of an instruction, in the form `  file.c:12: text`; empty where none is recorded."""
    line = code.line(slot)
    if line is None or btf is None:
        return []
    return [f"  at {btf.string(line.file)}:{line.number}: {btf.string(line.text).strip()}"]


def _log(spec: ProgramSpec, code: Code, context: Context) -> str:
    """Load again for the log; larger until it fits. "" where the refusal came before the verifier, which may also write
    statistics alone.
    """
    size = _FIRST_LOG
    while True:
        log = sys.Buffer(size)
        try:
            Program(spec, _load(spec, code, context, log, size)).close()
        except OSError as error:
            if error.errno == errno.ENOSPC and size < _LARGEST_LOG:
                size *= 4
                continue
        return log.bytes().split(b"\0")[0].decode("utf-8", "backslashreplace").strip()


def _without_log(spec: ProgramSpec, doing: str, error: OSError) -> KernelError:
    """The kernel refused before it verified: a privilege, or a kind of program that it does not have."""
    from . import probe  # it loads programs itself

    kind = spec.type.name if isinstance(spec.type, ProgType) else f"type {spec.type}"
    if isinstance(spec.type, ProgType) and error.errno == errno.EINVAL and not probe.has_prog_type(spec.type):
        return NotSupported(f"{doing}: this kernel has no programs of type {kind}", errno=error.errno)
    answer = sys.refusal(doing, error)
    if isinstance(answer, NotPermitted) and not isinstance(error, NotPermitted) and capabilities.complete():
        place = f" in section {spec.section!r}" if spec.section else ""
        return NotPermitted(
            f"{doing}: {sys.errno_name(error.errno or 0)} without a word from the verifier; this process has the"
            f" capabilities, so the kernel refuses programs of type {kind}{place} as such",
            errno=error.errno,
            hint=capabilities.suspects()
            or "a security module may forbid this kind of program; tp_btf, raw_tp and tp need less",
        )
    return answer
