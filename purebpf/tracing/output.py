"""Where lines go: standard output, or a file that logrotate may take away. No line is torn, none is lost in silence.

Signals are held while lines are written (ending.py), so no write may block for good: a reader that has stopped reading
must not keep a command from ending. Standard error may be that very reader's, after 2>&1.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from ..errors import Error
from .ending import pending

_PATIENCE = 2.0  # seconds that an ended command's last lines wait for a reader that does not read
_HEARD = 0.5  # seconds that a message does
_STALLED = 1.0  # seconds between words about a reader that does not read
_PAUSE = 0.01  # seconds
_PIPE_BUF = 4096  # bytes that a pipe which polls writable takes at once, unmixed with another writer's (pipe(7))
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PRIVATE = 0o600  # arguments hold passwords


class Output:
    """Standard output, or `path`, appended to, which only its owner may read if it is new.

    `stalled(seconds, lines)` is called each second while nobody reads a pipe: so long, so many lines wait. Raises Error
    if a file cannot be opened. A file is closed by `close`, or by the context manager.
    """

    def __init__(
        self, path: str | None = None, stalled: Callable[[float, int], None] = lambda _seconds, _lines: None
    ) -> None:
        self._path, self._stalled, self._asked = path, stalled, False
        self._given_up, self._dropped = False, 0
        self._encoding = getattr(sys.stdout, "encoding", "utf-8") if path is None else "utf-8"
        self._fd = 1
        if path is not None:
            signal.signal(signal.SIGHUP, self._ask)  # first: the file may be taken away as soon as it is open
            try:
                self._fd = _open(path)
            except OSError as error:
                raise Error(
                    f"cannot open {path!r}: {error.strerror}", hint="name a file that can be written to"
                ) from error

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True

    def fileno(self) -> int:
        """What is written to."""
        return self._fd

    def reopen_if_asked(self) -> bool:
        """After a SIGHUP: go on in a new file of the same name. If that cannot be opened, the old one is kept.

        True if there is nothing in it yet.
        """
        if not self._asked or self._path is None:
            return False
        self._asked = False
        try:
            new = _open(self._path, os.O_NONBLOCK)  # a FIFO without a reader must not hold us up now
        except OSError as error:
            say(f"cannot open {self._path!r} again: {error.strerror}; the old file is kept")
            return False
        old, self._fd = self._fd, new
        os.close(old)
        return self.empty

    @property
    def empty(self) -> bool:
        """Is there nothing in the file yet? Always so where lines cannot be looked at again: a pipe, a terminal."""
        return os.fstat(self._fd).st_size == 0

    def write(self, text: str, ending: bool = False) -> None:
        """Write whole lines at once. A character that the encoding lacks is escaped.

        Once the command is `ending`, or a signal is pending, a reader that has stopped reading is waited for a moment
        only, and what it did not get is reported. Raises BrokenPipeError; Error if they cannot be written, as when a disk
        is full, with the number of lines that were not.
        """
        rest = _Rest(text.encode(self._encoding, "backslashreplace"))
        regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
        try:
            if regular:
                _to_file(self._fd, rest)
            else:
                self._to_reader(rest, ending)
        except BrokenPipeError:
            raise
        except OSError as error:
            whole = not regular or _take_back(self._fd, rest)
            raise self._failed(error, rest, whole) from error

    def _failed(self, error: OSError, rest: _Rest, whole: bool) -> Error:
        name = "standard output" if self._path is None else self._path
        torn = "" if whole else ", one of them in part"
        hint = "make room, and start again" if error.errno in _FULL else ""
        return Error(f"{name}: {error.strerror}; {_lines(rest.lines)} not written{torn}", hint=hint)

    def _to_reader(self, rest: _Rest, ending: bool) -> None:
        if self._given_up:
            self._dropped += rest.lines
            return
        with _unblocked(self._fd) as fd:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            moved = told = time.monotonic()
            while rest:
                if poll.poll(100) and rest.move(_write(fd, rest.piece())):
                    moved = told = time.monotonic()
                    continue
                now = time.monotonic()
                if now - moved > _PATIENCE and (ending or pending()):
                    self._give_up(rest)
                    return
                if now - told > _STALLED:
                    told = now
                    self._stalled(now - moved, rest.lines)

    def _give_up(self, rest: _Rest) -> None:
        """From now on write nothing: the last line may have been written in part."""
        self._given_up = True
        say(f"{_lines(rest.lines)} not printed: nobody reads the output")

    def check_reader(self) -> None:
        """Raise BrokenPipeError when the output is a pipe or socket without a reader, even with nothing to write."""
        poll = select.poll()
        poll.register(self._fd, 0)
        if any(happened & (select.POLLERR | select.POLLHUP) for _fd, happened in poll.poll(0)):
            raise BrokenPipeError

    def close(self) -> None:
        """Close the file, if it is one, and report what has been left out since the reader was given up. Twice is harmless."""
        if self._path is not None and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._dropped:
            say(f"{_lines(self._dropped)} more not printed")
            self._dropped = 0

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class _Rest:
    """What is still to be written. False when there is nothing left."""

    def __init__(self, content: bytes) -> None:
        self._content, self._view, self._done = content, memoryview(content), 0

    def __len__(self) -> int:
        return len(self._content) - self._done

    @property
    def lines(self) -> int:
        return self._content.count(b"\n", self._done)

    def move(self, size: int) -> int:
        """So much has been written. `size`."""
        self._done += size
        return size

    def all(self) -> memoryview:
        return self._view[self._done :]

    def piece(self) -> memoryview:
        """As many whole lines as a pipe takes at once, or a part of a line that is longer than that."""
        limit = self._done + _PIPE_BUF
        end = limit if limit >= len(self._content) else self._content.rfind(b"\n", self._done, limit) + 1
        return self._view[self._done : end or limit]

    def torn(self) -> int:
        """How much has been written of a line whose end has not."""
        return self._done - (self._content.rfind(b"\n", 0, self._done) + 1)


def _lines(count: int) -> str:
    return f"{count} line{'s' * (count != 1)}"


def _open(path: str, flags: int = 0) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | flags, _PRIVATE)


def _to_file(fd: int, rest: _Rest) -> None:
    while rest:
        rest.move(os.write(fd, rest.all()))


def _take_back(fd: int, rest: _Rest) -> bool:
    """Cut off what was written of a line that did not fit. False if that cannot be.

    It cannot where another process has written behind it, or the file may only grow (chattr +a).
    """
    torn = rest.torn()
    if not torn:
        return True
    end = os.lseek(fd, 0, os.SEEK_CUR)  # behind what we wrote, in append mode, too
    if os.fstat(fd).st_size != end:
        return False
    try:
        os.ftruncate(fd, end - torn)
    except OSError:
        return False
    os.lseek(fd, end - torn, os.SEEK_SET)  # or the next who writes to this standard output would leave a hole
    return True


@contextmanager
def _unblocked(fd: int) -> Iterator[int]:
    """The same pipe or terminal, opened once more, so that it never blocks.

    Set on what we were given, O_NONBLOCK would hold for everybody who shares it. Polling first is not enough: a terminal
    polls writable when it takes one byte more, and a pipe may have other writers. Where it cannot be opened (a socket; a
    pipe of another user), the one that we were given has to do.
    """
    opened = fd
    if stat.S_ISFIFO(os.fstat(fd).st_mode) or os.isatty(fd):
        with suppress(OSError):
            opened = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        yield opened
    finally:
        if opened != fd:
            os.close(opened)


def _write(fd: int, content: memoryview) -> int:
    """0 if it took nothing after all: another writer was faster, or a terminal has no room for what a newline becomes."""
    try:
        return os.write(fd, content)
    except BlockingIOError:
        time.sleep(_PAUSE)
        return 0


def say(message: str) -> None:
    """A line on standard error, dropped if nobody takes it for half a second: it may be the pipe that nobody reads."""
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    if poll.poll(_HEARD * 1000):
        print(f"purebpf: {message}", file=sys.stderr, flush=True)
