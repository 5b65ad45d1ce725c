"""Where lines go: standard output, or a file that logrotate may take away. No line is torn, none is lost in silence."""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
import sys
import time
from collections.abc import Callable
from types import FrameType

from ..errors import Error
from .ending import pending

_PATIENCE = 2.0  # seconds that an ended command waits for a reader that has stopped reading
_STALLED = 1.0  # seconds between words about a reader that does not read
_CHUNK = 4096  # PIPE_BUF: what a pipe that polls writable takes without blocking (pipe(7))
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PRIVATE = 0o600  # arguments hold passwords


class Output:
    """Standard output, or `path`, appended to.

    `stalled(seconds, lines)` is called each second while nobody reads a pipe: so long, so many lines wait. Raises Error
    if a file cannot be opened. Closed by `close`, or as a context manager.
    """

    def __init__(
        self, path: str | None = None, stalled: Callable[[float, int], None] = lambda _seconds, _lines: None
    ) -> None:
        self._path, self._stalled, self._asked = path, stalled, False
        self._encoding = "utf-8" if path else getattr(sys.stdout, "encoding", "utf-8")
        self._fd = 1
        if path:
            try:
                self._fd = self._open(path)
            except OSError as error:
                raise Error(
                    f"cannot open {path}: {error.strerror}", hint="name a file that can be written to"
                ) from error
            signal.signal(signal.SIGHUP, self._ask)

    def _open(self, path: str) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True

    def fileno(self) -> int:
        """What is written to."""
        return self._fd

    def reopen_if_asked(self) -> None:
        """After a SIGHUP: go on in a new file of the same name. If that cannot be opened, the old one is kept."""
        if not (self._asked and self._path):
            return
        self._asked = False
        try:
            new = self._open(self._path)
        except OSError as error:
            print(f"purebpf: cannot open {self._path} again: {error.strerror}; the old file is kept", file=sys.stderr)
            return
        os.close(self._fd)
        self._fd = new

    def write(self, text: str, ending: bool = False) -> None:
        """Write whole lines at once. A character that the encoding lacks is escaped.

        Once the command is `ending`, or a signal is pending, a reader that has stopped reading is waited for a moment
        only, and what it did not get is reported. Raises BrokenPipeError; Error when a disk is full, with what is lost.
        """
        content = memoryview(text.encode(self._encoding, "backslashreplace"))
        if stat.S_ISREG(os.fstat(self._fd).st_mode):
            self._to_file(content)
        else:
            self._to_reader(content, ending)

    def _to_file(self, content: memoryview) -> None:
        done = 0
        try:
            while done < len(content):
                done += os.write(self._fd, content[done:])
        except OSError as error:
            if error.errno in _FULL:
                raise self._full(error, bytes(content), done) from error
            raise

    def _full(self, error: OSError, content: bytes, done: int) -> Error:
        """Take back what was written of a line that did not fit."""
        torn = done - (content.rfind(b"\n", 0, done) + 1)
        if torn:
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - torn)
        missing = content.count(b"\n", done - torn)
        name = self._path or "standard output"
        return Error(f"{name}: {error.strerror}; {missing} lines not written", hint="make room, and start again")

    def _to_reader(self, content: memoryview, ending: bool) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        moved = told = time.monotonic()
        while content:
            if poll.poll(100):
                content = content[_write(self._fd, content[:_CHUNK]) :]
                moved = told = time.monotonic()
                continue
            now = time.monotonic()
            lines = bytes(content).count(b"\n")
            if (ending or pending()) and now - moved > _PATIENCE:
                print(f"purebpf: {lines} lines not printed: nobody reads the output", file=sys.stderr)
                return
            if now - told > _STALLED:
                told = now
                self._stalled(now - moved, lines)

    def check_reader(self) -> None:
        """Raise BrokenPipeError when the output is a pipe without a reader, even if there is nothing to write."""
        poll = select.poll()
        poll.register(self._fd, 0)
        if any(happened & select.POLLERR for _fd, happened in poll.poll(0)):
            raise BrokenPipeError

    def close(self) -> None:
        """Close the file, if it is one. Twice is harmless."""
        if self._path and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _write(fd: int, content: memoryview) -> int:
    """0 if another process made the pipe non-blocking, and filled it in between."""
    try:
        return os.write(fd, content)
    except BlockingIOError:
        return 0
