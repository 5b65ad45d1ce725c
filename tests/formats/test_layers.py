"""Imports point one way, and the pure layer runs where there is no Linux."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import purebpf

PACKAGE = Path(purebpf.__file__).parent
# What a module in the folder (or file) may import of the package: only what stands to its right.
ORDER = [
    "__main__",
    "cli",
    "tools",
    "tracing",
    "metrics",
    "kernel_stage",
    "object",
    "kernel",
    "testing",
    "lessons",
    "formats",
    "errors",
]
FORMATS = [
    "ring_program",
    "perf_producer",
    "user_ring_consumer",
    "perf",
    "user_ring",
    "ring_producer",
    "ring",
    "batch",
    "walk",
    "pieces",
    "link",
    "core_relo",
    "core_spec",
    "parse",
    "data_sections",
    "map_decl",
    "btf_ext",
    "spec",
    "layout",
    "composites",
    "values",
    "decode",
    "btf_write",
    "btf_c",
    "btf",
    "kinds",
    "elf_symbols",
    "elf",
    "sections",
    "verifier_log",
    "disasm",
    "helpers",
    "insn",
    "attr",
    "abi",
]


def imported(path: Path) -> list[tuple[str, ...]]:
    """The modules of purebpf that a file imports, as parts below the package."""
    here = path.relative_to(PACKAGE).parts[:-1]
    found: list[tuple[str, ...]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1] + tuple((node.module or "").split(".") if node.module else ())
            found += [base] if base[1:] or base == ("errors",) else [(*base, alias.name) for alias in node.names]
    return found


def test_layers_import_only_what_stands_below_them() -> None:
    checked = 0
    for path in PACKAGE.rglob("*.py"):
        layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for parts in imported(path) if layer != "__init__" else []:
            if parts[0] in ORDER:
                assert ORDER.index(parts[0]) >= ORDER.index(layer), f"{path} imports {'.'.join(parts)}"
                checked += 1
    assert checked > 30


def test_formats_import_in_one_direction() -> None:
    for name in FORMATS:
        for parts in imported(PACKAGE / "formats" / f"{name}.py"):
            if parts[0] == "formats":
                assert FORMATS.index(parts[1]) > FORMATS.index(name), f"{name} imports {parts[1]}"
    assert {p.stem for p in (PACKAGE / "formats").glob("*.py")} == {*FORMATS, "__init__"}


def test_parsing_needs_no_system_interface() -> None:
    code = (
        "import sys, types, elftools.elf.elffile\n"  # whose own imports (socket, on 3.9) are not ours
        "for name in ('ctypes', 'mmap', 'select', 'fcntl', 'socket'): sys.modules[name] = None\n"
        "package = types.ModuleType('purebpf'); package.__path__ = [sys.argv[1]]; sys.modules['purebpf'] = package\n"
        "from purebpf.formats import btf_c, core_relo, disasm, link, parse, ring\n"
        "from purebpf.lessons import progress, recorded, render, scenarios, simulated; scenarios.scenario('submit')\n"
        "print(parse.parse(open(sys.argv[2], 'rb').read()).maps['events'].max_entries)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(PACKAGE), str(purebpf.prebuilt("execve"))], capture_output=True, text=True
    )
    assert (result.stdout, result.stderr) == ("1048576\n", "")


def test_the_package_imports_where_there_is_no_unix() -> None:
    code = (
        "import select, sys; sys.modules['fcntl'] = None; sys.platform = 'win32'\n"
        "for name in [name for name in dir(select) if 'epoll' in name.lower()]: delattr(select, name)\n"
        "import purebpf, purebpf.cli, purebpf.kernel_stage\n"
        "try: purebpf.load(purebpf.prebuilt('execve'))\n"
        "except purebpf.NotLinux as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "this is win32" in result.stdout, result.stderr


def test_every_public_name_exists_and_errors_are_one_tree() -> None:
    public = {name: getattr(purebpf, name) for name in purebpf.__all__}
    errors = [o for o in public.values() if isinstance(o, type) and issubclass(o, Exception)]
    assert len(errors) == 14
    assert all(issubclass(e, purebpf.Error) for e in errors)


if sys.version_info >= (3, 10):  # before it, no Python can evaluate X | Y

    def test_the_types_of_the_first_functions_can_be_asked_for() -> None:
        for function in (purebpf.load, purebpf.parse, purebpf.prebuilt):
            assert "return" in get_type_hints(function)
