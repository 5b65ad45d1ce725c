"""What is shown as a shell's word is that word: to real shells, byte for byte."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
from features import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from purebpf.tracing.shell import command, escaped, quote

SHELLS = [shell for shell in ("bash", "zsh", "ksh93", "mksh", "busybox") if shutil.which(shell)]
AWKWARD = list(
    " '\"\\$`!#*?[]{}()<>|&;~=%^-\n\r\t\x01\x1b\x7f\x85\x9baf0é日\u200f\u202e\u2028\U0001f400\udc80\udcff\udce2"
)
texts = st.one_of(
    st.text(st.sampled_from(AWKWARD), max_size=12),
    st.binary(max_size=12).map(lambda data: data.replace(b"\0", b"").decode("utf-8", "surrogateescape")),
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12),
)


def exact(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def said_by(shell: str, script: str, locale: str = "C.UTF-8") -> bytes:
    arguments = {"busybox": ["busybox", "sh"], "zsh": ["zsh", "-f"]}.get(shell, [shell])
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": locale}
    done = subprocess.run(arguments, input=exact(script), capture_output=True, env=environment, check=True)
    assert done.stderr == b""
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=examples(40), deadline=None)
@given(st.lists(texts, min_size=20, max_size=60), st.sampled_from(["C", "C.UTF-8"]))
def test_a_quoted_word_is_the_same_bytes_in_a_shell(shell: str, words: list[str], locale: str) -> None:
    script = f"printf '%s\\0' {' '.join(map(quote, words))}\n"
    assert said_by(shell, script, locale).split(b"\0")[:-1] == [exact(word) for word in words]


@settings(max_examples=examples(20), deadline=None)
@given(st.lists(st.text(st.sampled_from("!'ab\n "), max_size=6), min_size=20, max_size=60))
def test_history_expansion_does_not_change_a_pasted_word(words: list[str]) -> None:
    script = f"set -o history -o histexpand\nprintf '%s\\0' {' '.join(map(quote, words))}\n"
    assert said_by("bash", script).split(b"\0")[:-1] == [exact(word) for word in words]


@given(texts)
def test_what_is_shown_is_printable(text: str) -> None:
    assert quote(text).isprintable()
    assert escaped(text).isprintable()


@given(st.text(st.sampled_from("abzAZ09_@%+:,./-="), min_size=1))
def test_ordinary_words_are_shown_as_they_are(text: str) -> None:
    assert quote(text) == (f"'{text}'" if text.startswith("=") else text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "''"),
        ("a b", "'a b'"),
        ("it's", '"it\'s"'),
        ("it's $5", "'it'\\''s $5'"),
        ("日本", "'日本'"),
        ("a\nb", r"$'a\nb'"),
        ("\x1b[31mred", r"$'\x1b[31mred'"),
        ("\x01b", r"$'\001b'"),  # ksh would take \x01b for one character
        ("it's\t\\", r"$'it\'s\t\\'"),
        ("exe.\u202efdp", r"$'exe.\342\200\256fdp'"),
        ("\x9b2J", r"$'\302\2332J'"),
        ("\udcff", r"$'\xff'"),
    ],
)
def test_words_are_shown_in_the_plainest_way(text: str, shown: str) -> None:
    assert quote(text) == shown


def row(filename: str | None, *argv: str, **more: Any) -> dict[str, Any]:
    return {"event": "exec", "comm": "comm", "filename": filename, "argv": list(argv), **more}


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (row("/bin/ls", "ls", "-l", "a b"), "/bin/ls -l 'a b'"),
        (row("/bin/ls", "/usr/bin/ls"), "/bin/ls"),
        (row("/bin/ls", "./ls"), "/bin/ls"),
        (row("bin/tool", "bin/tool", ""), "bin/tool ''"),
        (row("/bin/[", "[", "1", "]"), "'/bin/[' 1 ']'"),
        (row("/bin/bash", "-bash"), "(exec -a -bash /bin/bash)"),
        (row("/bin/busybox", "ls", "/"), "(exec -a ls /bin/busybox /)"),
        (row("/dev/fd/3", "[memfd]", "x y"), "(exec -a '[memfd]' /dev/fd/3 'x y')"),
        (row("/bin/ls", ""), "(exec -a '' /bin/ls)"),
        (row("/bin/", "/lib/"), "(exec -a /lib/ /bin/)"),
        (row("", "ls"), "(exec -a ls '')"),
        (row("./x.sh", "/bin/sh", "-e", "./x.sh", script=True), "/bin/sh -e ./x.sh"),
        (row("/bin/ls"), "/bin/ls"),
    ],
)
def test_a_command_line_has_the_file_that_was_executed(event: dict[str, Any], shown: str) -> None:
    assert command(event) == shown


@pytest.mark.parametrize("name", ["tool", "if", "-x", "=ls", "a=b", "a=b/c", "%1", "two words"])
def test_a_pasted_file_name_is_not_taken_for_something_else(name: str, tmp_path: Any) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.symlink_to("/bin/echo")
    for shell in SHELLS:
        arguments = {"busybox": ["busybox", "sh"], "zsh": ["zsh", "-f"]}.get(shell, [shell])
        for event in (row(name, name, "ran"), row(name, "other", "ran")):
            done = subprocess.run([*arguments, "-c", command(event)], cwd=tmp_path, capture_output=True, check=False)
            assert (done.stdout, done.stderr) == (b"ran\n", b""), shell


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=examples(10), deadline=None)
@given(st.lists(texts, min_size=3, max_size=6))
def test_a_pasted_command_line_gives_the_same_first_argument(shell: str, names: list[str]) -> None:
    events = [row("/bin/cat", name, "/proc/self/cmdline") for name in names]
    script = "".join(command(event) + "; echo\n" for event in events if not command(event).startswith("/"))
    expected = [
        exact(name) + b"\0/proc/self/cmdline\0\n" for name in names if exact(name).rpartition(b"/")[2] != b"cat"
    ]
    assert said_by(shell, script) == b"".join(expected)


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (
            row("/bin/ls", "ls", "ab", argv_truncated=True, argv_bytes=50, argv_captured=6),
            "/bin/ls ab #and 44 bytes more",
        ),
        (row("/bin/ls", "ls", argv_truncated=True, argv_bytes=None, argv_captured=3), "/bin/ls #and more"),
        (row("/bin/ls", "ls", argv_fault=True), "/bin/ls #and arguments that were not in memory"),
        (row("/bin/ls", argv_fault=True), "/bin/ls #and arguments that were not in memory"),
        (
            row("/bin/ls", "ls", argv_fault=True, argv_truncated=True, argv_bytes=None, argv_captured=3),
            "/bin/ls #and arguments that were not in memory #and more",
        ),
        (row("", "ls", "-l", filename_fault=True), "ls -l #the name of the file was not in memory"),
    ],
)
def test_what_was_not_captured_is_said_in_a_comment(event: dict[str, Any], shown: str) -> None:
    assert command(event) == shown


def test_an_exit_whose_exec_was_not_seen_has_the_name_of_the_task() -> None:
    assert command({"event": "exit", "comm": "my worker", "filename": None, "argv": None}) == "'my worker'"


@given(st.lists(texts, max_size=5), texts)
def test_command_lines_are_printable(argv: list[str], filename: str) -> None:
    assert command(row(filename, *argv)).isprintable()
