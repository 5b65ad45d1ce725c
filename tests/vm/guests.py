"""The machines of the matrix: a Debian release, with its own Python, under a kernel of its archive."""

from __future__ import annotations

from dataclasses import dataclass

# No package is configured, so all that a guest needs beyond the essential ones is named.
USERLAND = (
    *("python3", "bpftool", "busybox-static", "kmod", "iproute2", "procps", "libcap2-bin", "libc-bin", "base-passwd"),
    *("base-files", "coreutils", "dash", "findutils", "grep", "hostname", "login", "mount", "sed", "tar", "util-linux"),
)


@dataclass(frozen=True)
class Machine:
    """How QEMU is told to be a machine of an architecture, and how its programs are compiled here."""

    debian: str  # what Debian calls it
    qemu: tuple[str, ...]
    console: str
    include: str  # the folder of its <asm/…>
    package: str  # Debian's, with this QEMU
    compiler: str = "gcc"
    parameters: str = ""  # of its kernel
    serial: str = "virtio-serial-pci"
    accel: str = "tcg"
    bus: tuple[str, ...] = ("virtio_pci",)  # the modules that find its devices
    target: str = "bpf"  # of clang

    @property
    def compiler_package(self) -> str:
        """Debian's, with the C library's headers for that architecture."""
        triple = self.compiler.rpartition("gcc")[0].rstrip("-")
        return f"gcc-{triple} libc6-dev-{self.debian}-cross" if triple else "gcc"


MACHINES = {
    "x86_64": Machine(
        *("amd64", ("qemu-system-x86_64", "-vga", "none"), "ttyS0", "/usr/include/x86_64-linux-gnu", "qemu-system-x86"),
        parameters="no_timer_check",  # which panics when an emulated timer comes late, on a busy machine
        accel="tcg,thread=single",  # with a thread for each CPU, Linux's patching of its own code crashes now and then
    ),
    "aarch64": Machine(
        *("arm64", ("qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a76"), "ttyAMA0"),
        *("/usr/aarch64-linux-gnu/include", "qemu-system-arm", "aarch64-linux-gnu-gcc"),
    ),
    "ppc64le": Machine(
        *("ppc64el", ("qemu-system-ppc64", "-machine", "pseries", "-cpu", "power9"), "hvc0"),
        *("/usr/powerpc64le-linux-gnu/include", "qemu-system-ppc", "powerpc64le-linux-gnu-gcc"),
    ),
    "s390x": Machine(
        *("s390x", ("qemu-system-s390x", "-machine", "s390-ccw-virtio"), "ttysclp0"),
        *("/usr/s390x-linux-gnu/include", "qemu-system-misc", "s390x-linux-gnu-gcc"),
        serial="virtio-serial-ccw",
        bus=(),
        target="bpfeb",
    ),
}


@dataclass(frozen=True)
class Guest:
    """One of them. `kernel` is the package; `extra` a suite from which it may come instead."""

    name: str
    suite: str
    python: str  # the version of that suite
    kernel: str = "linux-image-amd64"
    arch: str = "x86_64"  # what uname -m prints
    extra: str = ""

    @property
    def machine(self) -> Machine:
        """That of its architecture."""
        return MACHINES[self.arch]


X86 = (
    Guest("debian11", "bullseye", "3.9"),
    Guest("debian12", "bookworm", "3.11"),
    Guest("debian13", "trixie", "3.13"),
    Guest("debian13-backports", "trixie", "3.13", extra="trixie-backports"),
)
OTHERS = (
    Guest("debian12-arm64", "bookworm", "3.11", "linux-image-arm64", "aarch64"),
    Guest("debian13-arm64", "trixie", "3.13", "linux-image-arm64", "aarch64"),
    Guest("debian13-arm64-16k", "trixie", "3.13", "linux-image-arm64-16k", "aarch64"),
    Guest("debian12-ppc64el", "bookworm", "3.11", "linux-image-powerpc64le", "ppc64le"),
    Guest("debian12-s390x", "bookworm", "3.11", "linux-image-s390x", "s390x"),
    Guest("sid", "sid", "3.14"),
)
GUESTS = {guest.name: guest for guest in (*X86, *OTHERS)}
