"""purebpf: BPF for Python, in pure Python.

The layout, in the order in which it may import (each only what stands below it):

    cli       argument parsing; errors become one line and an exit status
    tools/    one file, one command
    object    load(): an ObjectSpec brought to life
    kernel/   the only system calls: maps, programs, hooks, the mapped ring
    formats/  what bytes mean: ELF, BTF, instructions, specs, ring records; runs on any OS
    errors    the tree of errors
"""

from .errors import (
    BtfError,
    ClosedError,
    ElfError,
    Error,
    KernelError,
    NotLinux,
    NotPermitted,
    NotSupported,
    ObjectError,
    RelocationError,
    RingCorrupt,
    TracefsUnavailable,
    VerifierError,
    ViewInUse,
)
from .formats.batch import Batch, Run
from .formats.parse import parse
from .formats.spec import FunctionSpec, MapSpec, ObjectSpec, ProgramSpec, VariableSpec
from .kernel.ringbuf import RingBuffer, RingGroup
from .object import Object, load, prebuilt

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "BtfError",
    "ClosedError",
    "ElfError",
    "Error",
    "FunctionSpec",
    "KernelError",
    "MapSpec",
    "NotLinux",
    "NotPermitted",
    "NotSupported",
    "Object",
    "ObjectError",
    "ObjectSpec",
    "ProgramSpec",
    "RelocationError",
    "RingBuffer",
    "RingCorrupt",
    "RingGroup",
    "Run",
    "TracefsUnavailable",
    "VariableSpec",
    "VerifierError",
    "ViewInUse",
    "load",
    "parse",
    "prebuilt",
]
