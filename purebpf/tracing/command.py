"""The command that is traced: forked at once, so that its pid is known, and executed once everything is attached."""

from __future__ import annotations

import errno
import os
import signal
from typing import NoReturn

from ..kernel import sys
from .output import say

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # what shells give


class Command:
    """`arguments[0]` is looked for in PATH. Its standard streams are ours."""

    def __init__(self, arguments: list[str]) -> None:
        self._name = arguments[0]
        self._held, self._go = os.pipe()
        self._failed, failing = os.pipe()
        # Where it is ignored, a child that has ended leaves no status (wait(2)).
        child_ended = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.pid = os.fork()
        if not self.pid:
            os.close(self._go)
            signal.signal(signal.SIGCHLD, child_ended)
            _become(arguments, self._held, failing)
        os.close(self._held)
        os.close(failing)
        try:
            self.pidfd = sys.pidfd_open(self.pid)
        except OSError as error:
            raise sys.refusal("waiting for a command (pidfd_open, Linux 5.3)", error) from error

    def start(self) -> bool:
        """Execute it. If that cannot be done, say why: its status will be what a shell gives then."""
        os.write(self._go, b"\0")
        os.close(self._go)
        with os.fdopen(self._failed, "rb") as failed:
            number = int(failed.read() or b"0")
        if number:
            say(f"cannot run {self._name!r}: {os.strerror(number)}")
        return not number

    def pass_on(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        os.kill(self.pid, number)  # until `wait` its number is not another's

    def wait(self) -> int:
        """Its exit status, or 128 + signal, once it has ended."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.pidfd)
        return 128 - status if status < 0 else status


def _become(arguments: list[str], held: int, failing: int) -> NoReturn:
    """In the child: wait for the word to go; none comes if the tracer could not start."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGPIPE:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    status = _NOT_FOUND
    try:
        if os.read(held, 1):
            os.execvp(arguments[0], arguments)
    except OSError as error:
        os.write(failing, str(error.errno).encode())
        status = _NOT_FOUND if error.errno == errno.ENOENT else _NOT_EXECUTABLE
    finally:
        os._exit(status)
