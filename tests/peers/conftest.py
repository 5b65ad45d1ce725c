"""What libbpf makes of an object, to compare with: bpftool, and a small program of our own on libbpf."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

CORPUS = Path(__file__).parents[1] / "corpus"
SOURCES = {path.name.split(".")[0]: path for path in sorted(CORPUS.glob("*.bpf.c"))}  # the C programs by name


def compile_bpf(source: Path, output: Path, *options: str) -> Path:
    clang = shutil.which("clang")
    if clang is None:
        pytest.skip("clang is not installed")
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    command = [clang, "-O2", "-Wall", "-Werror", "-target", "bpf", include, *(options or ("-g",)), "-c", str(source)]
    subprocess.run([*command, "-o", str(output)], check=True)
    return output


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each of SOURCES, compiled, by name."""
    folder = tmp_path_factory.mktemp("corpus")

    def build(name: str) -> Path:
        processor = re.search(r"-mcpu=v\d", SOURCES[name].read_text().splitlines()[0])
        return compile_bpf(SOURCES[name], folder / f"{name}.o", "-g", *([processor[0]] if processor else []))

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(SOURCES, pool.map(build, SOURCES)))


class Bpftool:
    """bpftool, and a bpffs of its own to pin to."""

    def __init__(self, path: str, pins: Path) -> None:
        self.path, self.pins = path, pins

    def json(self, *arguments: str) -> Any:
        result = subprocess.run([self.path, "-j", *arguments], check=True, capture_output=True)
        return json.loads(result.stdout or b"null")

    def load(self, path: Path) -> dict[str, int] | None:
        """Name -> id of the programs that `bpftool prog loadall` has loaded; None if it refuses the object."""
        folder = self.pins / path.stem
        result = subprocess.run([self.path, "prog", "loadall", str(path), str(folder)], capture_output=True)
        if result.returncode:
            return None
        shown = (self.json("prog", "show", "pinned", str(pin)) for pin in folder.iterdir())
        return {program["name"][:15]: program["id"] for program in shown}

    def unload(self, path: Path) -> None:
        shutil.rmtree(self.pins / path.stem, ignore_errors=True)

    def code(self, number: int, file: Path) -> bytes:
        subprocess.run(
            [self.path, "prog", "dump", "xlated", "id", str(number), "file", str(file)], check=True, capture_output=True
        )
        return file.read_bytes()

    def lines(self, number: int) -> list[tuple[Any, ...]]:
        """For each instruction the function that starts there, and the source line that it comes from."""
        fields = ("proto", "src", "file", "line_num", "line_col")
        rows = self.json("prog", "dump", "xlated", "id", str(number), "linum")
        return [tuple(row.get(field) for field in fields) for row in rows]


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bpftool]:
    path = shutil.which("bpftool") or shutil.which("bpftool", path="/usr/sbin:/sbin")
    if path is None:
        pytest.skip("bpftool is not installed")
    pins = tmp_path_factory.mktemp("bpffs")
    subprocess.run(["mount", "-t", "bpf", "bpf", str(pins)], check=True)
    yield Bpftool(path, pins)
    subprocess.run(["umount", str(pins)], check=True)


@pytest.fixture(scope="session")
def libbpf_verdicts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], dict[str, int]]:
    """For each program of an object, loaded by libbpf alone: 0 or the errno."""
    compiler = shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler is installed")
    made = tmp_path_factory.mktemp("libbpf") / "verdicts"
    subprocess.run([compiler, "-O1", "-o", str(made), str(Path(__file__).parent / "verdicts.c"), "-lbpf"], check=True)

    def ask(path: Path) -> dict[str, int]:
        result = subprocess.run([str(made), str(path)], capture_output=True, text=True, timeout=120)
        rows = (line.split() for line in result.stdout.splitlines())
        return {name: int(number) for name, number in rows}

    return ask
