"""Every hook on the running kernel: the program runs when it should, for whom it should, and no longer than its link."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import purebpf
from purebpf.errors import Error, KernelError, NotPermitted, NotSupported, ObjectError
from purebpf.formats import attr, insn
from purebpf.formats.abi import AttachType, Cmd, MapType, ProgType
from purebpf.formats.btf import Kind
from purebpf.formats.elf_symbols import function_offsets
from purebpf.formats.insn import Instruction as I  # noqa: E741, N814
from purebpf.formats.sections import HOOKS
from purebpf.formats.spec import MapSpec, ProgramSpec
from purebpf.kernel import maps, tracefs, vmlinux
from purebpf.kernel import sys as calls
from purebpf.kernel.attach import ATTACHERS, IterLink, Link, Request, attach, can_attach
from purebpf.kernel.fd import FileDescriptor

pytestmark = pytest.mark.kernel
