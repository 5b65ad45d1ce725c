"""The peers that we are measured against: what they need, and how it is come by.

C on libbpf: a C compiler and libbpf-dev. BCC: python3-bpfcc, kernel headers (of whatever kernel), tracefs. Where they are
missing on Debian, and we are root, they are installed; else the report says what is lacking.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

DEBIAN_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
ROOT = Path(__file__).parents[2]
TRACERS = {"libbpf-tools": "execsnoop", "bpftrace": "bpftrace", "bpfcc-tools": "execsnoop-bpfcc", "bpftool": "bpftool"}
PYTHON = "/usr/bin/python3"  # Debian's, which has Debian's BCC


def has_compiler() -> bool:
    return bool(shutil.which("cc")) and os.path.exists("/usr/include/bpf/libbpf.h")


def has_bcc() -> bool:
    return subprocess.run([PYTHON, "-c", "import bcc"], capture_output=True).returncode == 0


def header_trees() -> list[str]:
    return sorted(p for p in glob.glob("/usr/src/linux-headers-*") if not p.endswith("-common"))


def missing() -> list[str]:
    """Debian's packages that the peers need and that are not here."""
    machine = os.uname().machine
    packages = [] if has_compiler() else ["gcc", "libbpf-dev"]
    if not (os.path.exists(PYTHON) and has_bcc()):
        packages.append("python3-bpfcc")
    if not header_trees() and not (Path("/lib/modules") / os.uname().release / "build").exists():
        packages.append(f"linux-headers-{DEBIAN_NAMES.get(machine, machine)}")
    packages += [package for package, tool in TRACERS.items() if not shutil.which(tool)]
    return packages


def install() -> None:
    """Try to get what is missing, and say so."""
    packages = missing()
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {' '.join(packages)} to measure against", flush=True)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "install", "-qq", "-y", *packages], env=quiet, stdout=subprocess.DEVNULL)
    if find_spec("numpy") is None and sys.prefix != sys.base_prefix:
        print("installing NumPy into this virtual environment", flush=True)
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "numpy"])


def enter_namespace() -> None:
    """BCC wants tracefs and the kernel's headers; give it those of another kernel where its own are not packaged.

    Done in a mount namespace of our own, so that nothing of it stays on the machine.
    """
    if "PUREBPF_BENCH" not in os.environ:
        os.environ["PUREBPF_BENCH"] = "1"
        os.execvp("unshare", ["unshare", "--mount", _interpreter(), *sys.argv])
    modules, trees = Path("/lib/modules") / os.uname().release, header_trees()
    subprocess.run(["mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing"], stderr=subprocess.DEVNULL)
    if modules.exists() or not trees:
        return
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/lib/modules"], check=True)
    modules.mkdir()
    (modules / "build").symlink_to(trees[-1])
    (modules / "source").symlink_to(re.sub(r"-[^-]*$", "-common", trees[-1]))


def _interpreter() -> str:
    """The one that BCC runs on, if it is of this version: Debian builds its Python with optimizations that others lack,
    and both sides are to have them. What is installed here is found there by PYTHONPATH."""
    version = "import sys; print(sys.version_info[:2])"
    try:
        found = subprocess.run([PYTHON, "-c", version], capture_output=True, text=True).stdout.strip()
    except OSError:
        return sys.executable
    if found != str(sys.version_info[:2]):
        return sys.executable
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    )
    return PYTHON
