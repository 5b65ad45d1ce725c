"""Objects that we did not write: those inside Debian's libbpf-tools. What libbpf loads of them here, purebpf loads."""

from __future__ import annotations

import errno
import hashlib
import shutil
import struct
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import purebpf
from purebpf.formats.abi import MapType

pytestmark = pytest.mark.kernel
EM_BPF = 247

# What purebpf raises, and for which errno of libbpf: the words that tell the cause.
CAUSES = {
    purebpf.NotPermitted: {errno.EPERM: "refuses programs of type"},
    purebpf.NotSupported: {errno.ESRCH: "this kernel has no function"},
    purebpf.VerifierError: {errno.EINVAL: "made unusable by CO-RE: the kernel has no "},
}


def embedded(data: bytes) -> list[bytes]:
    """The BPF objects in the read-only data of a program: an ELF header of that machine, up to its section table's end."""
    found = []
    at = data.find(b"\x7fELF", 4)
    while at >= 0:
        if struct.unpack_from("<H", data, at + 18)[0] == EM_BPF:
            (table,) = struct.unpack_from("<Q", data, at + 40)
            size, count = struct.unpack_from("<HH", data, at + 58)
            found.append(data[at : at + table + size * count])
        at = data.find(b"\x7fELF", at + 4)
    return found


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    if shutil.which("dpkg") is None:
        pytest.skip("not a Debian system")
    listing = subprocess.run(["dpkg", "-L", "libbpf-tools"], capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("libbpf-tools is not installed")
    folder, seen, made = tmp_path_factory.mktemp("tools"), set(), []
    for name in listing.stdout.splitlines():
        path = Path(name)
        if path.is_file() and path.read_bytes()[:4] == b"\x7fELF":
            for content in embedded(path.read_bytes()):
                digest = hashlib.sha256(content).hexdigest()
                if digest not in seen:
                    seen.add(digest)
                    made.append(folder / f"{path.name}.o")
                    made[-1].write_bytes(content)
    return made


def ours(path: Path, name: str) -> purebpf.Error | None:
    """The error of loading one program alone, with the sizes that verdicts.c sets."""
    spec = purebpf.parse(path.read_bytes(), path.stem)
    for program in spec.programs.values():
        program.autoload = program.name == name
    for made in spec.maps.values():
        if not made.max_entries and made.type != MapType.PERF_EVENT_ARRAY:
            made.max_entries = 1024
        if made.type == MapType.STACK_TRACE and not made.value_size:
            made.value_size = 127 * 8
    try:
        purebpf.load(spec).close()
    except purebpf.Error as error:
        return error
    return None


def test_what_libbpf_loads_purebpf_loads(
    objects: list[Path], libbpf_verdicts: Callable[[Path], dict[str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = total = 0
    worse, unexplained, extra = [], [], 0
    causes: Counter[str] = Counter()
    for path in objects:
        for name, number in libbpf_verdicts(path).items():
            total += 1
            error = ours(path, name)
            loaded += error is None
            extra += error is None and number != 0
            if error is None:
                continue
            causes[type(error).__name__] += 1
            if number == 0:
                worse.append(f"{path.stem}: {error}")
            told = CAUSES.get(type(error), {}).get(number)
            if name not in str(error) or told is None or told not in str(error):
                unexplained.append(f"{path.stem}: libbpf says {errno.errorcode.get(number, number)}, purebpf {error}")
    with capsys.disabled():
        print(
            f"\nlibbpf-tools: {len(objects)} objects, {total} programs; purebpf loads {loaded},"
            f" libbpf {loaded - extra + len(worse)}, {len(worse)} that purebpf does not;"
            f" refused: {', '.join(f'{count} {cause}' for cause, count in causes.most_common())}"
        )
    assert len(objects) >= 40
    assert not worse
    assert not unexplained
