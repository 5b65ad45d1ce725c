"""What a guest boots from: a kernel, an initial RAM disk that mounts the root, the root and the project, as disks.

Kernel and user land come out of Debian's archive by mmdebstrap, which runs apt with a state of its own and touches
nothing of this machine. Packages are unpacked, not configured: no code of the guest runs here, whatever its
architecture. Images are kept in the cache folder until their recipe changes; delete the folder for newer packages.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from guests import USERLAND, Guest

ROOT = Path(__file__).parents[2]
INSIDE = Path(__file__).parent / "inside"
MIRROR = os.environ.get("PUREBPF_DEBIAN_MIRROR", "http://deb.debian.org/debian")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "purebpf-vm"
MODULES = ("virtio_blk", "virtio_console", "ext4")  # what is needed to find the root and this host, beside the bus
PROJECT = ("purebpf", "prebuilt", "tests", "docs", "bpf", "README.md", "pyproject.toml", "Makefile", ".ci")
BOUND = ("setpriv", "--pdeathsig", "TERM")  # before a command that must not outlive this process
TOOLS = ("pytest>=8", "hypothesis>=6.100", "pyelftools>=0.29", "prometheus_client>=0.16")


@dataclass(frozen=True)
class Image:
    """The files of a guest."""

    kernel: Path
    initramfs: Path
    root: Path


def image(guest: Guest) -> Image:
    """From the cache, or made anew."""
    recipe = [
        repr((guest, guest.machine.bus)),
        *USERLAND,
        *MODULES,
        *map(str, (Path(__file__).read_bytes(), (INSIDE / "init").read_bytes())),
    ]
    folder = CACHE / f"{guest.name}-{_digest(recipe)}"
    made = Image(folder / "vmlinuz", folder / "initramfs", folder / "root.ext4")
    with _locked():
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as building:
                _make(guest, Path(building))
                os.chmod(building, 0o755)
                shutil.rmtree(Path(building) / "root")
                for old in (*CACHE.glob(f"{guest.name}-{'?' * len(_digest(()))}"), *CACHE.glob("tmp*")):
                    if str(old) != building:  # of another recipe, or left half-made: a gigabyte
                        shutil.rmtree(old)
                os.rename(building, folder)
                os.mkdir(building)  # what TemporaryDirectory expects to remove
    return made


@contextmanager
def _locked() -> Iterator[None]:
    """The cache, against other threads and runs."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest(recipe: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:12]


def _make(guest: Guest, folder: Path) -> None:
    root = folder / "root"
    _bootstrap(guest, root)
    (kernel,) = {path.resolve() for path in (*root.glob("boot/vmlinu?-*"), *root.glob("usr/lib/modules/*/vmlinu?"))}
    shutil.copy(kernel, folder / "vmlinuz")
    (modules,) = {path.resolve() for path in (*root.glob("lib/modules/*"), *root.glob("usr/lib/modules/*"))}
    subprocess.run(["depmod", "-b", root, modules.name], check=True)
    _initramfs(root, modules.name, guest.machine.bus, folder)
    shutil.rmtree(modules / "kernel/drivers")  # of hardware that no guest has, and half of the disk
    _compile(guest.python, root / f"usr/lib/python{guest.python}")
    _disk(root, folder / "root.ext4", spare=256)


def _bootstrap(guest: Guest, root: Path) -> None:
    kernel = f"{guest.kernel}/{guest.extra}" if guest.extra else guest.kernel
    sources = [f"deb {MIRROR} {suite} main" for suite in (guest.suite, guest.extra) if suite]
    options = ["--mode=root", "--variant=extract", f"--architectures={guest.machine.debian}"]
    options += ['--aptopt=Acquire::Check-Valid-Until "false"']  # a mirror may stand still; signatures are checked
    command = [
        *BOUND,
        "mmdebstrap",
        *options,
        f"--include={','.join((*USERLAND, kernel))}",
        guest.suite,
        root,
        *sources,
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)
    for file in ("passwd", "group"):  # made by the configuration of base-passwd
        shutil.copy(root / f"usr/share/base-passwd/{file}.master", root / f"etc/{file}")
    if not (root / "bin/sh").exists():  # made by that of dash
        (root / "bin/sh").symlink_to("dash")


def _compile(version: str, folder: Path) -> None:
    """Byte code, as packages that are configured have it: with a Python of this version, where this machine has one."""
    python = python_of(version)
    if python:
        subprocess.run([python, "-m", "compileall", "-q", "-x", "lib2to3/tests", folder], stdout=subprocess.DEVNULL)


def _collect(version: str, stage: Path) -> None:
    """Byte code of the tests, which pytest makes in its own way: to a guest it would be a minute."""
    python = python_of(version)
    if python:
        options = ["--collect-only", "-qq", "-p", "no:cacheprovider"]
        command = [python, "-m", "pytest", *options, "tests/kernel", "tests/cli"]
        environment = {**os.environ, "PYTHONPATH": f"{stage}/site:{stage}/purebpf"}
        subprocess.run(command, cwd=stage / "purebpf", env=environment, stdout=subprocess.DEVNULL)


def python_of(version: str) -> str | None:
    """This machine's own Python of a version, e.g. "3.9"."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [*sorted(pyenv.glob(f"{version}.*/bin/python")), shutil.which(f"python{version}")]
    return next((str(path) for path in found if path), None)


def _initramfs(root: Path, release: str, bus: tuple[str, ...], folder: Path) -> None:
    """busybox, the modules in the order in which they are loaded, and inside/init."""
    stage = folder / "stage"
    (stage / "modules").mkdir(parents=True)
    for name in ("dev", "proc", "sys", "root"):
        (stage / name).mkdir()
    shutil.copy(root / "bin/busybox" if (root / "bin/busybox").exists() else root / "usr/bin/busybox", stage)
    shutil.copy(INSIDE / "init", stage)
    (stage / "init").chmod(0o755)
    needed: dict[str, None] = {}
    for module in (*bus, *MODULES):
        command = ["modprobe", "--show-depends", "--dirname", root, "--set-version", release, module]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        needed |= dict.fromkeys(line.split()[1] for line in shown.splitlines() if line.startswith("insmod"))
    for number, path in enumerate(needed):
        data = Path(path).read_bytes()
        data = lzma.decompress(data) if path.endswith(".xz") else data
        (stage / f"modules/{number:02}").write_bytes(data)
    names = "\n".join(sorted(str(path.relative_to(stage)) for path in stage.rglob("*")))
    archive = subprocess.run(
        ["cpio", "--create", "--format=newc", "--quiet"],
        cwd=stage,
        input=names.encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    (folder / "initramfs").write_bytes(gzip.compress(archive.stdout, 1))
    shutil.rmtree(stage)


def _disk(folder: Path, image: Path, spare: int) -> None:
    """A file system with what is in a folder, and `spare` MiB more."""
    used = subprocess.run(["du", "-sm", folder], check=True, capture_output=True, text=True).stdout
    size = int(int(used.split()[0]) * 1.15) + spare
    options = ["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d"]
    subprocess.run(["mke2fs", *options, folder, image, f"{size}M"], check=True, stdout=subprocess.DEVNULL)


def project(guest: Guest, pyz: Path, build: Path) -> Path:
    """A disk with the project, pytest for the guest's Python, the archive under test and the guest's programs."""
    stage = build / f"project-{guest.name}"
    shutil.rmtree(stage, ignore_errors=True)
    for name in PROJECT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, stage / "purebpf" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, stage / "purebpf")
    shutil.copytree(INSIDE, stage / "inside")
    shutil.copytree(_tools(guest.python), stage / "site")
    _compile(guest.python, stage)
    _collect(guest.python, stage)
    shutil.copy(pyz, stage)
    disk = build / f"project-{guest.name}.ext4"
    _disk(stage, disk, spare=64)
    shutil.rmtree(stage)
    return disk


def _tools(version: str) -> Path:
    """The packages with which tests run, for that version of Python on any machine."""
    folder = CACHE / f"site-{version}-{_digest(TOOLS)}"
    with _locked():
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as building:
                options = ["-qq", "--target", f"{building}/site", "--only-binary=:all:", f"--python-version={version}"]
                options += ["--implementation=py", "--abi=none", "--platform=any"]
                # An index need not say which Python a package requires, and what depends on that is asked of pip's own.
                python = python_of(version) or sys.executable
                subprocess.run([python, "-m", "pip", "install", *options, *TOOLS], check=True)
                os.rename(f"{building}/site", folder)
    return folder
