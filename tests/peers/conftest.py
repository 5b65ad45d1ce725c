"""What libbpf makes of an object, to compare with: bpftool, and a small program of our own on libbpf."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CORPUS = Path(__file__).parents[1] / "corpus"


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
    """Each program of tests/corpus, compiled, by name."""
    folder = tmp_path_factory.mktemp("corpus")
    made = {}
    for source in sorted(CORPUS.glob("*.bpf.c")):
        name = source.name.split(".")[0]
        processor = re.search(r"-mcpu=v\d", source.read_text().splitlines()[0])
        made[name] = compile_bpf(source, folder / f"{name}.o", "-g", *([processor[0]] if processor else []))
    return made


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
        return {program["name"]: program["id"] for program in shown}

    def unload(self, path: Path) -> None:
        shutil.rmtree(self.pins / path.stem, ignore_errors=True)

    def code(self, number: int, file: Path) -> bytes:
        subprocess.run(
            [self.path, "prog", "dump", "xlated", "id", str(number), "file", str(file)], check=True, capture_output=True
        )
        return file.read_bytes()


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
