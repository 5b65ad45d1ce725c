"""Rows for programs: nothing is ambiguous, nothing is lost, and each row is one line."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from base64 import b64decode
from typing import Any

import pytest
from features import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from purebpf.errors import Error
from purebpf.tracing.lines import Csv, Template, json_line

texts = st.one_of(
    st.text(st.sampled_from(list(",\"'\\$ \n\r\t\x00\x1b\u202eé\U0001f400\udcffudcff")), max_size=8),
    st.binary(max_size=12).map(lambda data: data.decode("utf-8", "surrogateescape")),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 2**64),
    texts,
    st.lists(texts, max_size=4),
    st.dictionaries(st.sampled_from(["PATH", "HOME"]), texts),
)
rows = st.dictionaries(st.sampled_from(["pid", "comm", "argv", "env", "filename"]), values)


def exact(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def is_utf8(text: str) -> bool:
    return exact(text).decode("utf-8", "replace") == text


def every_text(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, (list, dict)):
        return [text for item in (value.values() if isinstance(value, dict) else value) for text in every_text(item)]
    return []


def from_base64(value: Any) -> Any:
    if isinstance(value, str):
        return b64decode(value).decode("utf-8", "surrogateescape")
    if isinstance(value, list):
        return [from_base64(item) for item in value]
    return {name: from_base64(item) for name, item in value.items()}


@given(rows)
def test_json_is_one_line_of_ascii_from_which_the_row_comes_back(row: dict[str, Any]) -> None:
    line = json_line(row)
    assert line.isascii()
    assert line.endswith("}\n")
    assert line.count("\n") == 1
    decoded = json.loads(line)
    assert all(is_utf8(text) for text in every_text(decoded))  # strict readers refuse lone surrogates
    assert {
        name: from_base64(decoded[f"{name}_b64"]) if f"{name}_b64" in decoded else decoded[name] for name in row
    } == row


@given(rows)
def test_base64_is_there_for_the_fields_that_are_not_utf8_alone(row: dict[str, Any]) -> None:
    odd = {f"{name}_b64" for name, value in row.items() if not all(map(is_utf8, every_text(value)))}
    assert set(json.loads(json_line(row))) - set(row) == odd


def test_json_shows_odd_bytes_where_they_are_and_all_in_base64() -> None:
    row = {"pid": 1, "comm": "a\udcffb", "argv": ["é", "\udcfe\n"], "env": {"X": "\udc80"}, "filename": "/é"}
    assert json.loads(json_line(row)) == {
        "pid": 1,
        "comm": "a\\xffb",
        "comm_b64": "Yf9i",
        "argv": ["é", "\\xfe\n"],
        "argv_b64": ["w6k=", "/go="],
        "env": {"X": "\\x80"},
        "env_b64": {"X": "gA=="},
        "filename": "/é",
    }


def test_json_of_a_variable_whose_name_is_not_utf8() -> None:
    assert json_line({"env": {"\udcff": "1"}}) == '{"env": {"\\\\xff": "1"}, "env_b64": {"\\\\xff": "MQ=="}}\n'


def test_json_keeps_the_order_of_the_fields() -> None:
    assert json_line({"b": 1, "a": [None, True]}) == '{"b": 1, "a": [null, true]}\n'


FIELDS = ["pid", "comm", "argv", "env", "filename"]


@given(rows)
def test_csv_is_one_printable_line_that_the_csv_module_reads(row: dict[str, Any]) -> None:
    line = Csv(FIELDS).line(row)
    assert line[-1] == "\n"
    assert line[:-1].isprintable()
    (cells,) = csv.reader(io.StringIO(line, newline=""), strict=True)
    assert len(cells) == len(FIELDS)


@given(values, values)
def test_different_values_are_different_cells(one: Any, other: Any) -> None:
    cells = [Csv(["x"]).line({"x": value}) for value in (one, other)]
    alike = {type(one), type(other)} - {list, dict, type(None), bool}
    if len(alike) < 2:  # a column has one type: the number 5 and the text 5 need not differ
        assert (cells[0] == cells[1]) == (one == other and type(one) is type(other))


@settings(max_examples=examples(20), deadline=None)
@given(st.lists(texts.map(lambda text: text.replace("\0", "")), min_size=20, max_size=40))
def test_text_in_csv_is_itself_or_a_word_of_a_shell(words: list[str]) -> None:
    csv_lines = "".join(Csv(["one", "all"]).line({"one": word, "all": [word]}) for word in words)
    read = [(one, *json.loads(listed)) for one, listed in csv.reader(io.StringIO(csv_lines, newline=""))]
    shell_words = [cell for pair in read for cell in pair if cell.startswith("$'")]
    script = "printf '%s\\0' " + " ".join(shell_words)
    said = subprocess.run(["bash"], input=script.encode(), capture_output=True, check=True).stdout.split(b"\0")
    meant = dict(zip(shell_words, said))
    assert [(meant.get(one, exact(one)), meant.get(item, exact(item))) for one, item in read] == [
        (exact(word), exact(word)) for word in words
    ]


def test_csv_of_an_ordinary_row() -> None:
    table = Csv(["pid", "comm", "argv", "loginuid", "cwd", "core_dumped"])
    row = {"pid": 5, "comm": "a, \\b", "argv": ["x", 'say "é"\n'], "loginuid": None, "cwd": "", "core_dumped": False}
    assert table.header() == "pid,comm,argv,loginuid,cwd,core_dumped\n"
    assert table.line(row) == '5,"a, \\b","[""x"", ""say \\""\\u00e9\\""\\n""]",,"",false\n'


def test_csv_marks_what_could_be_misread() -> None:
    cells = [{"x": value} for value in ("a\nb", "$'a\\nb'", ["\udcff", "$'x'"])]
    assert "".join(map(Csv(["x"]).line, cells)) == (
        "$'a\\nb'\n"
        "$'$\\'a\\\\nb\\''\n"
        """"[""$'\\\\xff'"", ""$'$\\\\'x\\\\''""]"\n"""
    )


ROW = {"pid": 77, "comm": "my task", "loginuid": None, "filename": "/bin/ls", "argv": ["ls", "a b"], "cgroup_id": 255}
ROW.update({"retval": -2, "core_dumped": False, "env": {"HOME": "/my home"}, "cgroup": "/a\x1b[2J"})


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("", ""),
        ("{pid} {comm}", "77 'my task'"),
        ("{pid:>5}|{pid:<5}|{pid:05}|{pid:x}", "   77|77   |00077|4d"),
        ("{comm:>12}|{comm:_<12}", "   'my task'|'my task'___"),
        ("{loginuid}|{loginuid:>4}|{loginuid:6d}|{loginuid:03}|{cwd}", "-|   -|     -|  -|-"),
        ("{cgroup_id:#06x} {retval:+d} {cgroup_id:.3}", "0x00ff -2 255"),
        ("{argv}|{command}", "ls 'a b'|/bin/ls 'a b'"),
        ("{env} {core_dumped}", "'HOME=/my home' false"),
        ("{cgroup}", r"$'/a\x1b[2J'"),
        (r"{pid}\t{pid}\n{pid}", "77\t77\n77"),
        (r"\\t{{pid}}\x", r"\t{pid}\x"),
    ],
)
def test_a_template_shows_fields(form: str, line: str) -> None:
    assert Template(form, [*ROW, "cwd"]).line(ROW) == line + "\n"


@given(rows, st.sampled_from(["", ">8", "08", "x", ",", ".3", "^20", "+d", "é<9", "e", "%"]))
def test_a_template_that_was_accepted_shows_every_row(row: dict[str, Any], spec: str) -> None:
    line = Template(" ".join(f"{{{name}:{spec}}}" for name in FIELDS), FIELDS).line(row)
    assert line[:-1].isprintable()


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("{pidd}", "no field 'pidd'; did you mean pid"),
        ("{comand}", "did you mean command or comm?"),
        ("{xyz}", "no field 'xyz'"),
        ("{}", "no field ''"),
        ("{pid.real}", "no field 'pid.real'"),
        ("{argv[0]}", r"no field 'argv\[0\]'"),
        ("{pid!r}", "'!r' cannot be applied to pid"),
        ("{pid:8 >}", "':8 >' cannot be applied to pid"),
        ("{pid:{ppid}}", "':{ppid}' cannot be applied to pid"),
        ("{pid:c}", "':c' cannot be applied to pid"),  # any control character
        ("{pid", "--format '{pid'"),
        ("}", "Single '}'"),
    ],
)
def test_a_template_that_cannot_be_is_refused_at_once(form: str, message: str) -> None:
    with pytest.raises(Error, match=message):
        Template(form, ["pid", "ppid", "comm", "argv"])


def test_an_unknown_field_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(Error) as raised:
        Template("{pidd}", ["pid", "comm"])
    assert raised.value.hint == "fields: pid, comm, command"
