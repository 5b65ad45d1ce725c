"""The running kernel's own type information, and that of its modules.

Since 5.4 it is a file in sysfs (CONFIG_DEBUG_INFO_BTF), since 5.11 with one for each module; before, or where sysfs
is hidden, an uncompressed vmlinux may lie in one of the places where distributions put it (the list is libbpf's,
btf__load_vmlinux_btf). It is read when asked for and not kept: 6 MB that only loading needs.
"""

from __future__ import annotations

import os
import struct

from ..errors import BtfError, KernelError, NotSupported, ObjectError
from ..formats import attr, elf
from ..formats.abi import Cmd
from ..formats.btf import Btf
from . import mounts, sys

_SYSFS = "/sys/kernel/btf"
_ELSEWHERE = (
    "/boot/vmlinux-{}",
    "/lib/modules/{}/vmlinux-{}",
    "/lib/modules/{}/build/vmlinux",
    "/usr/lib/modules/{}/kernel/vmlinux",
    "/usr/lib/debug/boot/vmlinux-{}",
    "/usr/lib/debug/boot/vmlinux-{}.debug",
    "/usr/lib/debug/lib/modules/{}/vmlinux",
)


def find() -> str | None:
    """The file that has the kernel's BTF, None if there is none."""
    if has_vmlinux():
        return f"{_SYSFS}/vmlinux"
    places = (place.replace("{}", os.uname().release) for place in _ELSEWHERE)
    return next(filter(_has_types, places), None)


def _has_types(path: str) -> bool:
    """Is it there, with BTF in it? Kernels built without are also installed as ELF files."""
    try:
        return os.path.isfile(path) and bool(read(path).count)
    except ObjectError:
        return False


def vmlinux() -> Btf:
    """The kernel's BTF. Raises NotSupported where it has none, KernelError where /sys is not mounted."""
    path = find()
    if path is None:
        mounts.require("/sys")
        raise NotSupported(
            f"this kernel ({os.uname().release}) carries no type information: there is no {_SYSFS}/vmlinux",
            hint="it was built without CONFIG_DEBUG_INFO_BTF; give a BTF file made for it (btf=…, --btf), e.g. from BTFHub",
        )
    return read(path)


def read(path: str | os.PathLike[str]) -> Btf:
    """BTF from a file: bare, or the section .BTF of an ELF file. Raises BtfError, ElfError, ObjectError."""
    try:
        data = _bytes(path)
    except OSError as error:
        raise ObjectError(f"{os.fspath(path)}: {error.strerror}") from error
    try:
        return Btf(elf.section_data(data, ".BTF") if data[:4] == b"\x7fELF" else data)
    except ObjectError as error:
        raise type(error)(f"{os.fspath(path)}: {error}", hint=error.hint) from error


def modules(base: Btf) -> dict[str, Btf]:
    """The BTF of each loaded module, on top of the kernel's `base`; those that cannot be read are left out."""
    found = {}
    for name in sorted(os.listdir(_SYSFS)) if os.path.isdir(_SYSFS) else ():
        if name != "vmlinux":
            try:
                found[name] = Btf(_bytes(f"{_SYSFS}/{name}"), base)
            except (OSError, BtfError):
                continue  # unloaded meanwhile, or built for another kernel
    return found


def _bytes(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def module_fd(name: str) -> int:
    """A descriptor of a module's BTF, which the caller closes. Raises KernelError, or NotPermitted (CAP_SYS_ADMIN)."""
    number = 0
    try:
        while True:
            number = struct.unpack_from("=I", sys.bpf_out(Cmd.BTF_GET_NEXT_ID, attr.next_id_out(number)), attr.NEXT_ID)[
                0
            ]
            fd = sys.bpf(Cmd.BTF_GET_FD_BY_ID, attr.by_id(number))
            if _name(fd) == name:
                return fd
            os.close(fd)
    except FileNotFoundError as error:
        raise KernelError(f"the kernel has no BTF of module {name!r} any more", errno=error.errno) from error
    except OSError as error:
        raise sys.refusal(f"looking for the BTF of module {name!r}", error) from error


def _name(fd: int) -> str:
    """`struct bpf_btf_info`: btf u64, btf_size u32, id u32, name u64, name_len u32, kernel_btf u32."""
    text = sys.Buffer(64)
    memory = sys.Buffer(struct.pack("=QIIQII", 0, 0, 0, text.address, 64, 0))
    sys.bpf_out(Cmd.OBJ_GET_INFO_BY_FD, attr.info_out(fd, memory.address, 32))
    return text.bytes().split(b"\0")[0].decode("utf-8", "backslashreplace")


def has_vmlinux() -> bool:
    """Does this kernel carry type information?"""
    return os.path.isfile(f"{_SYSFS}/vmlinux")
