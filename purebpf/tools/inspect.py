"""inspect: what is in an object file, without root and without loading it.

Against a BTF (--btf) it also says what each CO-RE relocation would become; `--btf kernel` is the running one's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import Error, ObjectError
from ..formats import elf
from ..formats.abi import CoreKind, MapType
from ..formats.btf import Btf
from ..formats.btf_c import declaration, dump
from ..formats.core_relo import Outcome, Resolver, Target
from ..formats.core_spec import local_access
from ..formats.disasm import disassemble
from ..formats.insn import SIZE
from ..formats.layout import plain
from ..formats.spec import FunctionSpec, MapSpec, ObjectSpec, ProgramSpec, Reference, ReferenceKind
from ..kernel import vmlinux
from ..object import contents, read
from ..tracing.output import Output
from ..tracing.text import escape

DESCRIPTION = "Show an object's sections, maps, programs, variables, externs, CO-RE relocations and code."

Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of inspect."""
    parser.add_argument("object", metavar="OBJECT", help="the .o that clang -target bpf -g -O2 -c wrote")
    parser.add_argument(
        "--btf", metavar="FILE", help='resolve CO-RE relocations against it; "kernel": the running one\'s'
    )
    parser.add_argument("--code", action="store_true", help="disassemble programs and functions")
    parser.add_argument("--types", action="store_true", help="print the object's types as C, and nothing else")
    parser.add_argument("--json", action="store_true", help="everything as one JSON object")


def run(options: argparse.Namespace) -> None:
    """Print to standard output. Raises ObjectError for what is no object."""
    spec = read(options.object)
    if options.types:
        if spec.btf is None:
            raise ObjectError(f"{options.object}: it has no BTF", hint="compile with `clang -g`")
        Output().write(dump(spec.btf))
        return
    target = None
    if options.btf:
        target = Target(vmlinux.vmlinux() if options.btf == "kernel" else vmlinux.read(options.btf))
    report = describe(spec, contents(options.object), target, options.code)
    Output().write(json.dumps(report, indent=2) + "\n" if options.json else "".join(_lines(report)))


def describe(spec: ObjectSpec, data: bytes, target: Target | None, code: bool) -> Row:
    """All that is shown, as plain values."""
    functions: list[FunctionSpec] = [*spec.programs.values(), *spec.functions.values()]
    resolver = Resolver(spec.btf, target) if spec.btf and target else None
    return {
        "license": spec.license,
        "byte_order": spec.byte_order,
        "types": spec.btf.count if spec.btf else 0,
        "sections": [
            {"name": s.name, "type": s.type.removeprefix("SHT_"), "size": s.size}
            for s in elf.read(data).sections
            if s.name
        ],
        "maps": [_map(made) for made in spec.maps.values()],
        "programs": [_program(program) for program in spec.programs.values()],
        "functions": [_function(function) for function in spec.functions.values()],
        "variables": list(_variables(spec)),
        "externs": [{"name": e.name, "section": e.section, "weak": e.weak} for e in spec.externs.values()],
        "relocations": [row for function in functions for row in _relocations(spec.btf, function, resolver)],
        "code": {f.name: disassemble(f.code, spec.byte_order, _symbols(f)) for f in functions} if code else {},
    }


def _map(spec: MapSpec) -> Row:
    kind = spec.type.name if isinstance(spec.type, MapType) else f"type {spec.type}"
    row: Row = {"name": spec.name, "type": kind, "key_size": spec.key_size, "value_size": spec.value_size}
    row |= {"max_entries": spec.max_entries, "flags": int(spec.flags)}
    for field, type_id in (("key", spec.key_type), ("value", spec.value_type)):
        if spec.btf and type_id and spec.contents is None:
            row[field] = declaration(spec.btf, type_id)
    if spec.pinning:
        row["pinning"] = spec.pinning.name
    if spec.inner:
        row["inner"] = _map(spec.inner)
    if spec.values:
        row["values"] = {str(slot): name for slot, name in spec.values.items()}
    return row


def _function(spec: FunctionSpec) -> Row:
    names = sorted({r.name for r in spec.references})
    return {"name": spec.name, "section": spec.section, "instructions": len(spec.code) // SIZE, "refers_to": names}


def _program(spec: ProgramSpec) -> Row:
    kind = spec.type.name if spec.type is not None else None
    return {**_function(spec), "type": kind, "attach_to": spec.attach_to, "autoload": spec.autoload}


def _variables(spec: ObjectSpec) -> Iterator[Row]:
    for variable in spec.variables.values():
        row: Row = {
            "name": variable.name,
            "section": variable.map.name,
            "offset": variable.offset,
            "size": variable.size,
        }
        if spec.btf:
            row["declaration"] = declaration(spec.btf, variable.type_id, variable.name)
        try:
            row["value"] = plain(variable.value)
        except Error as error:
            row["error"] = str(error)
        yield row


def _relocations(btf: Btf | None, function: FunctionSpec, resolver: Resolver | None) -> Iterator[Row]:
    for relocation in function.relocations if btf else ():
        kind = relocation.kind
        row: Row = {"function": function.name, "instruction": relocation.slot}
        row["kind"] = kind.name if isinstance(kind, CoreKind) else kind
        try:
            if btf and isinstance(kind, CoreKind):
                row["what"] = str(local_access(btf, relocation.type_id, relocation.access, kind))
            if resolver:
                row |= _outcome(resolver.resolve(relocation))
        except Error as error:
            row["error"] = str(error)
        yield row


def _outcome(outcome: Outcome) -> Row:
    row: Row = {"here": outcome.before.number, "there": outcome.after.number if outcome.after else None}
    if outcome.reason:
        row["reason"] = outcome.reason
    return row


_SYMBOLS = {
    ReferenceKind.MAP: "map {0.name}",
    ReferenceKind.DATA: "{0.name}+{0.addend}",
    ReferenceKind.CALL: "{0.name}",
    ReferenceKind.FUNCTION: "function {0.name}",
    ReferenceKind.EXTERN: "extern {0.name}",
}


def _symbols(function: FunctionSpec) -> dict[int, str]:
    def text(reference: Reference) -> str:
        return _SYMBOLS[reference.kind].format(reference)

    return {reference.slot: text(reference) for reference in function.references}


def _lines(report: Row) -> Iterator[str]:
    yield f"license {escape(report['license'])!r}, {report['byte_order']}-endian, {report['types']} types\n"
    tables = {
        "sections": "{name:<32} {type:<12} {size} bytes",
        "maps": "{name:<24} {type:<18} key {key_size}, value {value_size}, {max_entries} entries, flags {flags:#x}",
        "programs": "{name:<32} {section:<40} {instructions} instructions",
        "functions": "{name:<32} {section:<40} {instructions} instructions",
        "variables": "{section:<10} +{offset:<6} {declaration} = {value}",
        "externs": "{name:<32} {section:<10} weak: {weak}",
        "relocations": "{function:<24} {instruction:>5}  {kind:<18} {what}{change}",
    }
    for title, layout in tables.items():
        rows = report[title]
        if rows:
            yield f"\n{title}\n"
            yield from _table(layout, rows)
    for name, code in report["code"].items():
        yield f"\n{escape(name)}:\n"
        yield from (f"  {escape(line)}\n" for line in code)


def _table(layout: str, rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        shown = (
            {"declaration": row["name"], "value": row.get("error", ""), "what": "", **row}
            if "name" in row
            else dict(row)
        )
        shown.setdefault("what", row.get("error", ""))
        shown["change"] = _change(row)
        yield "  " + escape(layout.format(**shown)) + "\n"
        for field in ("key", "value"):
            if "max_entries" in row and field in row:
                yield f"    {field}: {escape(row[field])}\n"


def _change(row: Row) -> str:
    if "here" not in row:
        return ""
    if row["there"] is None:
        return f": {row['here']} -> unusable, {row['reason']}"
    because = f" ({row['reason']})" if "reason" in row else ""
    return f": {row['here']} -> {row['there']}{because}"
