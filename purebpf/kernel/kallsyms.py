"""The kernel's symbols (/proc/kallsyms): addresses for externs, names for probes.

The file has some 200,000 lines `address type name [module]`. It is searched as bytes, in C, and not kept. Without
CAP_SYSLOG, or with kernel.kptr_restrict, all addresses read as zero.
"""

from __future__ import annotations

import fnmatch
import re
from difflib import get_close_matches

from ..errors import NotPermitted

_PATH = "/proc/kallsyms"
# What the wrappers of system calls are called, by architecture (arch/*/include/asm/syscall_wrapper.h).
_SYSCALL_PREFIXES = (
    "__x64_sys_",
    "__arm64_sys_",
    "__s390x_sys_",
    "__riscv_sys_",
    "__powerpc_sys_",
    "__se_sys_",
    "sys_",
)
_SUFFIX = re.compile(r"\.(isra|constprop|part|cold|llvm)\.?.*")


def _read() -> bytes:
    try:
        with open(_PATH, "rb") as file:
            return file.read()
    except OSError:
        return b""


def address(name: str) -> int | None:
    """The address of a symbol, None if there is no such symbol. Raises NotPermitted where addresses are hidden."""
    found = re.search(
        rb"^([0-9a-f]+) \w " + re.escape(name.encode()) + rb"(?:\.llvm\.\w+)?(?:\t|$)", _read(), re.MULTILINE
    )
    if found is None:
        return None
    value = int(found[1], 16)
    if not value:
        raise NotPermitted(
            f"the address of {name} is hidden: /proc/kallsyms shows zeros",
            hint="that takes CAP_SYSLOG, and kernel.kptr_restrict below 2",
        )
    return value


def functions(pattern: str) -> list[str]:
    """The kernel's functions of that name, in which * and ? may stand for others."""
    names = re.findall(rb"^[0-9a-f]+ [tTwW] (?!__pfx_|__cfi_)(\S+)", _read(), re.MULTILINE)  # padding before functions
    matches = re.compile(fnmatch.translate(pattern)).match
    return sorted({name for name in (n.decode("utf-8", "replace") for n in names) if matches(name)})


def syscall_symbol(name: str) -> str:
    """The function behind a system call, e.g. __x64_sys_openat for openat; "" if none is found."""
    symbols = _read()
    for prefix in _SYSCALL_PREFIXES:
        if re.search(rb" [tTwW] " + re.escape((prefix + name).encode()) + rb"(?:\t|$)", symbols, re.MULTILINE):
            return prefix + name
    return ""


def similar(name: str) -> str:
    """Why a function cannot be found, as far as the symbols tell: renamed by the compiler, or misspelt. "" if unknown."""
    found = functions(f"{glob_escaped(name)}.*")
    renamed = [n for n in found if _SUFFIX.search(n)]
    if renamed:
        return f"the compiler made {', '.join(renamed[:3])} of it"
    close = get_close_matches(name, functions("*"), 3)
    return f"close to it: {', '.join(close)}" if close else ""


def glob_escaped(name: str) -> str:
    """The name as a pattern that matches itself."""
    return re.sub(r"([*?[])", r"[\1]", name)
