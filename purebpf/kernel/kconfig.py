"""The kernel's configuration, for externs in .kconfig (libbpf's bpf_helpers.h, __kconfig).

Besides CONFIG_… there are LINUX_KERNEL_VERSION, LINUX_HAS_BPF_COOKIE and LINUX_HAS_SYSCALL_WRAPPER, which are made up.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable

from ..errors import ObjectError
from ..formats.btf import Btf
from ..formats.kinds import ENUMS, Integer, Kind, Type
from ..formats.layout import codec
from ..formats.spec import ExternSpec
from . import probe

_TRISTATE = {"n": 0, "y": 1, "m": 2}  # enum libbpf_tristate


def version_code() -> int:
    """LINUX_KERNEL_VERSION: major << 16, minor << 8, patch (at most 255).

    Ubuntu and Debian put another number than the kernel's own into uname's release
    (libbpf's get_kernel_version says where they put it).
    """
    uname = os.uname()
    text = uname.release
    try:
        with open("/proc/version_signature") as signature:
            text = signature.read().split()[2]
    except (OSError, IndexError):
        debian = re.search(r"Debian (\d+\.\d+\.\d+)", uname.version)
        text = debian[1] if debian else text
    numbers = [int(n) for n in re.findall(r"\d+", text.split("-")[0])[:3]]
    major, minor, patch = [*numbers, 0, 0, 0][:3]
    return major << 16 | minor << 8 | min(patch, 255)


_VIRTUAL: dict[str, Callable[[], int]] = {
    "LINUX_KERNEL_VERSION": version_code,
    "LINUX_HAS_BPF_COOKIE": lambda: int(probe.FEATURES["bpf_cookie"]()),
    "LINUX_HAS_SYSCALL_WRAPPER": lambda: int(probe.FEATURES["syscall_wrapper"]()),
}


def read() -> dict[str, str]:
    """CONFIG_… -> its value as written: y, m, a number, or a string in quotes. Empty where no file has it."""
    release = os.uname().release
    places = (
        (f"/boot/config-{release}", open),
        (f"/lib/modules/{release}/config", open),
        ("/proc/config.gz", gzip.open),
    )
    for path, opener in places:
        try:
            with opener(path, "rt") as file:
                rows = (line.rstrip("\n").split("=", 1) for line in file if line.startswith("CONFIG_"))
                return dict(row for row in rows if len(row) == 2)
        except OSError:
            continue
    return {}


def value(extern: ExternSpec, btf: Btf, config: dict[str, str]) -> bytes | None:
    """The bytes that an extern has, None where the configuration does not name it.

    Raises ObjectError where the value does not fit the extern's type.
    """
    type_ = btf.resolve(btf.type(extern.type_id).size_or_type)
    if extern.name in _VIRTUAL:
        return codec(btf, type_.id).encode(_VIRTUAL[extern.name]())
    text = config.get(extern.name)
    if text is None:
        return None
    try:
        return codec(btf, type_.id).encode(_parsed(btf, type_, text))
    except (ObjectError, ValueError) as error:
        raise ObjectError(f"{extern.name}={text} does not fit the extern's type: {error}") from error


def _parsed(btf: Btf, type_: Type, text: str) -> object:
    if type_.kind == Kind.ARRAY:
        if text[:1] != '"' or text[-1:] != '"':
            raise ValueError("it is no string")
        return text[1:-1].encode()[: btf.size(type_.id) - 1]  # libbpf: cut, and terminated
    if text in _TRISTATE:
        return _of_letter(type_, btf.integer(type_) if type_.kind == Kind.INT else None, text)
    return int(text, 0)


def _of_letter(type_: Type, integer: Integer | None, letter: str) -> int:
    if type_.kind in ENUMS and type_.name == "libbpf_tristate":
        return _TRISTATE[letter]
    if integer is None:
        raise ValueError("y, m and n are for bool, char and enum libbpf_tristate")
    if integer.encoding & 4 and letter != "m":
        return int(letter == "y")
    if type_.size_or_type == 1 and not integer.encoding & 4:
        return ord(letter)
    raise ValueError("y, m and n are for bool, char and enum libbpf_tristate, and m is no bool")
