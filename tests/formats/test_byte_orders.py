"""What comes with purebpf comes for machines of either byte order, and is read on any."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import purebpf
from purebpf.formats import btf_c, disasm
from purebpf.formats.core_relo import Resolver, Target, patch
from purebpf.formats.spec import FunctionSpec, ObjectSpec

ROOT = Path(__file__).parents[2]
NAMES = [path.name.split(".")[0] for path in sorted(ROOT.glob("prebuilt/*.bpf.o"))]
SOURCES = {path.name.split(".")[0]: path for path in sorted(ROOT.glob("tests/corpus/*.bpf.c"))}
# Programs that C, or a macro of libbpf's, makes other ones of: they have bit-fields, unions, halves of numbers, or ports.
OTHER_CODE = {"constants", "core_bitfields", "core_width", "trace_connect", "trace_exec", "trace_open", "typedefs"}
OTHER_VALUES = {"constants"}  # a union


@pytest.fixture(params=[*NAMES, *SOURCES], scope="module")
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, ObjectSpec, ObjectSpec]:
    """A name, and what is under it for little-endian machines and for big-endian ones."""
    name = request.param
    if name in NAMES:
        paths = [ROOT / f"prebuilt/{name}.{suffix}" for suffix in ("bpf.o", "bpfeb.o")]
    else:
        folder = tmp_path_factory.mktemp(name)
        paths = [compiled(SOURCES[name], target, folder) for target in ("bpfel", "bpfeb")]
    little, big = (purebpf.parse(path.read_bytes(), name) for path in paths)
    assert (little.byte_order, big.byte_order) == ("little", "big")
    return name, little, big


def compiled(source: Path, target: str, folder: Path) -> Path:
    clang = shutil.which("clang")
    if clang is None:
        pytest.skip("clang is not installed")
    made = folder / f"{target}.o"
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    processor = re.search(r"-mcpu=v\d", source.read_text().splitlines()[0])
    options = ["-g", "-O2", "-target", target, *([processor[0]] if processor else []), include]
    subprocess.run([clang, *options, "-c", str(source), "-o", str(made)], check=True)
    return made


def functions(spec: ObjectSpec) -> Iterator[FunctionSpec]:
    yield from (*spec.programs.values(), *spec.functions.values())


def declared(spec: ObjectSpec) -> dict[str, Any]:
    """What the source says."""
    assert spec.btf is not None
    return {
        "maps": {m.name: replace(m, contents=None) for m in spec.maps.values()},
        "programs": {
            p.name: (p.section, p.type, p.attach_type, p.attach_to, p.flags, p.autoload) for p in spec.programs.values()
        },
        "functions": {
            f.name: (f.section, f.type_id, {(r.kind, r.name) for r in f.references}) for f in functions(spec)
        },
        "variables": {v.name: (v.map.name, v.offset, v.size, v.type_id, v.static) for v in spec.variables.values()},
        "externs": spec.externs,
        "licence": spec.license,
        "types": btf_c.dump(spec.btf),
    }


def text(spec: ObjectSpec) -> dict[str, list[str]]:
    """The code of each function, with names in place of what maps and variables come to."""
    return {
        f.name: disasm.disassemble(f.code, spec.byte_order, {r.slot: f"{r.name}+{r.addend}" for r in f.references})
        for f in functions(spec)
    }


def test_both_declare_the_same(pair: tuple[str, ObjectSpec, ObjectSpec]) -> None:
    _name, little, big = pair
    assert declared(little) == declared(big)


def test_both_have_the_same_code(pair: tuple[str, ObjectSpec, ObjectSpec]) -> None:
    name, little, big = pair
    assert text(little).keys() == text(big).keys()
    assert (text(little) == text(big)) == (name not in OTHER_CODE)
    assert not any("unknown" in line for lines in text(big).values() for line in lines)


def test_both_have_the_same_values(pair: tuple[str, ObjectSpec, ObjectSpec]) -> None:
    name, little, big = pair
    values = [{v.name: repr(v.value) for v in spec.variables.values()} for spec in (little, big)]
    assert (values[0] == values[1]) == (name not in OTHER_VALUES)


def test_against_their_own_types_both_stay_as_they_are(pair: tuple[str, ObjectSpec, ObjectSpec]) -> None:
    """But for bit-fields, which clang may read in wider words, and types of which there are several."""
    name, little, big = pair
    found = []
    for spec in (little, big):
        assert spec.btf is not None
        resolver, resolved = Resolver(spec.btf, Target(spec.btf)), []
        for function in functions(spec):
            for relocation in function.relocations:
                code = bytearray(function.code)
                try:
                    outcome = resolver.resolve(relocation)
                except purebpf.RelocationError:
                    resolved.append(False)
                    continue
                resolved.append(True)
                assert not patch(code, outcome, spec.byte_order, name)
                assert code == function.code or not outcome.before.checked
        found.append(resolved)
    assert found[0] == found[1] or name in OTHER_CODE
    assert (all(found[0]) and all(found[1])) or name not in NAMES


def test_the_prebuilt_one_is_that_of_this_machine() -> None:
    spec = purebpf.parse(purebpf.prebuilt("execve").read_bytes())
    assert spec.byte_order == sys.byteorder


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is loaded")
def test_an_object_for_the_other_order_is_refused() -> None:
    suffix, other = ("bpfeb.o", "big") if sys.byteorder == "little" else ("bpf.o", "little")
    with pytest.raises(
        purebpf.ObjectError, match=f"the object is {other}-endian, this machine {sys.byteorder}"
    ) as caught:
        purebpf.load(ROOT / f"prebuilt/execve.{suffix}")
    assert "-target bpfe" in caught.value.hint
