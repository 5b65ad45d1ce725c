"""What a program is attached to, as a type id of the kernel's BTF: fentry, fexit, tp_btf, lsm and iter need it to load.

The verifier knows the types of their arguments from it (attach_btf_id, attach_btf_obj_fd of BPF_PROG_LOAD).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from ..errors import NotSupported, ObjectError
from ..formats.abi import AttachType, ProgType
from ..formats.btf import Btf
from ..formats.kinds import Kind
from ..formats.spec import ProgramSpec
from .fd import FileDescriptor

# How the kernel's BTF names the targets of an attach type: a prefix, and what kind of type they are.
_NAMES = {
    AttachType.TRACE_RAW_TP: ("btf_trace_", Kind.TYPEDEF, "tracepoint"),
    AttachType.TRACE_FENTRY: ("", Kind.FUNC, "function"),
    AttachType.TRACE_FEXIT: ("", Kind.FUNC, "function"),
    AttachType.MODIFY_RETURN: ("", Kind.FUNC, "function"),
    AttachType.LSM_MAC: ("bpf_lsm_", Kind.FUNC, "LSM hook"),
    AttachType.TRACE_ITER: ("bpf_iter_", Kind.FUNC, "iterator"),
}


def is_fixed(spec: ProgramSpec) -> bool:
    """Is the target settled when the program is loaded?"""
    return spec.type in (ProgType.TRACING, ProgType.LSM) and spec.attach_type in _NAMES


def find(spec: ProgramSpec, kernel: Callable[[], Btf], loading: ExitStack) -> tuple[int, int]:
    """(type id, descriptor of the module's BTF or 0); (0, 0) for programs that need none.

    "module:function" names a module's. Raises NotSupported where the kernel has no such target, and ObjectError
    where the program does not name one.
    """
    if not is_fixed(spec):
        return 0, 0
    prefix, kind, what = _NAMES[AttachType(spec.attach_type)]
    if not spec.attach_to:
        raise ObjectError(
            f"program {spec.name!r}: section {spec.section!r} does not say which {what}, and it must before it is loaded",
            hint=f"spec.programs[{spec.name!r}].attach_to = …, or leave it out (autoload = False)",
        )
    from . import vmlinux

    module, _, bare = spec.attach_to.rpartition(":")
    name = prefix + bare
    base = kernel()
    if not module:
        for type_ in base.find(name, kind):
            return type_.id, 0
    for found, btf in vmlinux.modules(base).items():
        if module in ("", found):
            for type_ in btf.find(name, kind):
                owner = FileDescriptor(vmlinux.module_fd(found), f"BTF of module {found!r}")
                loading.callback(owner.close)
                return type_.id, owner.fileno()
    close = [found[len(prefix) :] for found in base.close_to(name, kind, prefix)]
    near = f"close to it: {', '.join(close)}" if close else ""
    raise NotSupported(f"program {spec.name!r}: this kernel has no {what} {spec.attach_to}", hint=near)
