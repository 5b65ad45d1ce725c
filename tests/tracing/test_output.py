"""Files that lines are appended to: opened, taken away by logrotate, and full."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from features import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from purebpf import Error
from purebpf.tracing.ending import hold_signals, outlive_hangup
from purebpf.tracing.output import Output


@pytest.fixture(autouse=True)
def _hangup() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def hang_up() -> None:
    os.kill(os.getpid(), signal.SIGHUP)


def test_a_file_is_appended_to_and_a_new_one_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    before = os.umask(0)
    try:
        for text in ("one\n", "two\n"):
            with Output(str(path)) as output:
                output.write(text)
    finally:
        os.umask(before)
    assert path.read_text() == "one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_mode_of_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    path.chmod(0o640)
    output = Output(str(path))
    output.close()
    output.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_is_not_inherited_by_commands(tmp_path: Path) -> None:
    with Output(str(tmp_path / "log")) as output:
        assert not os.get_inheritable(output.fileno())


@pytest.mark.parametrize("name", ["", "gone/log", "."])
def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name) if name else ""
    with pytest.raises(Error, match="cannot open '") as raised:
        Output(path)
    assert repr(path) in str(raised.value)
    assert raised.value.hint


def test_files_are_utf_8_and_what_that_lacks_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Output(str(path)) as output:
        output.write("é\udcff\n")
    assert path.read_bytes() == "é\\udcff\n".encode()


def test_nothing_is_written_for_no_text(tmp_path: Path) -> None:
    with Output(str(tmp_path / "log")) as output:
        output.write("")
    assert (tmp_path / "log").read_bytes() == b""


# SIGHUP


def test_after_a_hangup_lines_go_to_a_new_file_of_the_same_name(tmp_path: Path) -> None:
    path, old = tmp_path / "log", tmp_path / "log.1"
    with Output(str(path)) as output:
        output.write("one\n")
        assert not output.reopen_if_asked()
        path.rename(old)
        output.write("two\n")
        hang_up()
        assert output.reopen_if_asked()
        assert path.read_text() == ""
        output.write("three\n")
        assert not output.reopen_if_asked()
    assert (old.read_text(), path.read_text()) == ("one\ntwo\n", "three\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_hangup_as_soon_as_the_file_is_open_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, old, opens = tmp_path / "log", tmp_path / "log.1", os.open
    outlive_hangup()

    def rotated(*arguments: Any) -> int:
        fd = opens(*arguments)
        monkeypatch.undo()
        path.rename(old)
        hang_up()
        return fd

    monkeypatch.setattr(os, "open", rotated)
    with Output(str(path)) as output:
        assert output.reopen_if_asked()
    assert path.exists()


def test_a_hangup_without_a_rename_leaves_what_the_file_has(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Output(str(path)) as output:
        output.write("one\n")
        hang_up()
        assert not output.reopen_if_asked()
        output.write("two\n")
    assert path.read_text() == "one\ntwo\n"


def test_the_old_file_is_kept_when_a_new_one_cannot_be_opened(tmp_path: Path, capfd: Any) -> None:
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    with Output(str(folder / "log")) as output:
        folder.rename(moved)
        hang_up()
        assert not output.reopen_if_asked()
        assert not output.reopen_if_asked()
        output.write("kept\n")
        said = capfd.readouterr().err
        assert said.count("\n") == 1
        assert "again: No such file or directory; the old file is kept" in said
        folder.mkdir()
        hang_up()
        assert output.reopen_if_asked()
        output.write("new\n")
    assert (moved / "log").read_text() == "kept\n"
    assert (folder / "log").read_text() == "new\n"
    assert capfd.readouterr().err == ""


def test_a_fifo_that_has_lost_its_reader_does_not_hold_up_the_reopening(tmp_path: Path, capfd: Any) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with Output(str(fifo)) as output:
        os.close(reader)
        hang_up()
        assert not output.reopen_if_asked()
        with pytest.raises(BrokenPipeError):
            output.write("x\n")
    assert "the old file is kept" in capfd.readouterr().err


def test_a_hangup_is_not_held_with_the_signals_that_end(tmp_path: Path) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with Output(str(tmp_path / "log")) as output:
        hold_signals()
        hang_up()
        asked = output.reopen_if_asked()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert asked


# Full disks


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file of ours can grow above `size` bytes: the kernel then writes what fits, as on a full disk (setrlimit(2))."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


lines = st.lists(
    st.text(st.characters(exclude_characters="\n"), max_size=300).map(lambda text: text + "\n"), max_size=30
)


@given(lines, lines, st.integers(0, 3000))
@settings(max_examples=examples(150), deadline=None)
def test_a_full_disk_leaves_whole_lines_and_the_number_of_lost_ones(
    before: list[str], written: list[str], limit: int
) -> None:
    first, second = "".join(before), "".join(written)
    with tempfile.NamedTemporaryFile() as file, Output(file.name) as output:
        output.write(first)
        size = len(file.read())
        with file_limit(size + limit):
            lost = lost_lines(output, second)
        file.seek(0)
        found = file.read()
        assert found[:size].decode() == first.encode("utf-8", "backslashreplace").decode()
        whole = second.encode("utf-8", "backslashreplace")
        assert whole.startswith(found[size:])
        assert found[size:].count(b"\n") + lost == len(written)
        assert found == b"" or found.endswith(b"\n")
        output.write("more\n")
        file.seek(0)
        assert file.read() == found + b"more\n"


def lost_lines(output: Output, text: str) -> int:
    """As the error says; 0 if there is none."""
    try:
        output.write(text)
    except Error as error:
        return number_in(error)
    return 0


def number_in(error: Error) -> int:
    return int(str(error).split("; ")[1].split()[0])


def test_the_message_has_file_reason_and_number(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for text, said in (("a\nbcd\nef\n", "2 lines"), ("a\nbcd\n", "1 line")):
        with Output(str(path)) as output, file_limit(4), pytest.raises(Error) as raised:
            output.write(text)
        assert str(raised.value) == f"{path}: File too large; {said} not written"
        assert raised.value.hint == "make room, and start again"
        assert path.read_text() == "a\n"
        path.unlink()


def test_a_part_of_a_line_that_cannot_be_taken_back_is_spoken_of() -> None:
    """A file that must not shrink, as with chattr +a."""
    fd = os.memfd_create("log", os.MFD_ALLOW_SEALING)
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        with (
            Output(f"/proc/self/fd/{fd}") as output,
            file_limit(4),
            pytest.raises(Error, match="2 lines not written, one of them in part"),
        ):
            output.write("a\nbcd\nef\n")
        assert os.pread(fd, 100, 0) == b"a\nbc"
    finally:
        os.close(fd)


def test_a_device_that_is_full_says_how_many_lines_it_did_not_take() -> None:
    with (
        Output("/dev/full") as output,
        pytest.raises(Error, match="/dev/full: No space left on device; 2 lines not written"),
    ):
        output.write("a\nb\n")


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    where = tmp_path / "tiny"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tiny", str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


@pytest.mark.kernel
@pytest.mark.parametrize("length", [10, 999, 4095, 5000, 70000])
def test_a_full_file_system_takes_whole_lines_and_goes_on_when_there_is_room(tiny: Path, length: int) -> None:
    path, ballast = tiny / "log", tiny / "ballast"
    ballast.write_bytes(bytes(16384))
    line, count = "x" * length + "\n", 200000 // length
    with Output(str(path)) as output:
        with pytest.raises(Error, match=f"{path}: No space left on device; ") as raised:
            output.write(line * count)
        lost = number_in(raised.value)
        assert path.read_text() == line * (count - lost)
        ballast.unlink()
        output.write("more\n")
    assert path.read_text() == line * (count - lost) + "more\n"
