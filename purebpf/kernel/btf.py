"""An object's BTF in the kernel, where maps and programs refer to it.

It is an extra: a kernel that refuses it (too old, before 4.18; or one that finds fault with it) still runs the
programs, only without types and source lines. So nothing here fails an object.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

from ..formats import attr
from ..formats.abi import Cmd
from ..formats.btf import Btf
from ..formats.btf_write import REPLACEMENTS, sanitized
from . import memlock, probe, sys
from .fd import FileDescriptor

_NO_USE = (errno.EPERM, errno.ENOSYS)


class Uploaded(NamedTuple):
    """BTF in the kernel. `functions` is False where it had to do without them, and with them without source lines."""

    owner: FileDescriptor
    functions: bool


def upload(btf: Btf) -> Uploaded | None:
    """Load it; if the kernel refuses, once more without the kinds of types that it lacks. None if it still refuses."""
    try:
        return Uploaded(_load(btf), True)
    except OSError as error:
        if error.errno in _NO_USE:
            return None  # what cannot do without will say what is missing
    lacks = [feature for feature in REPLACEMENTS if not probe.has_btf(feature)]
    try:
        return Uploaded(_load(sanitized(btf, lacks)), "func" not in lacks)
    except OSError:
        return None


def _load(btf: Btf) -> FileDescriptor:
    memory = sys.Buffer(btf.data)
    load = attr.btf_load(memory.address, len(btf.data))
    return FileDescriptor(memlock.retry(lambda: sys.bpf(Cmd.BTF_LOAD, load), len(btf.data)), "BTF of an object")
