"""The command line. Errors become one message, a hint and an exit status; signals end it as the shell expects.

Exit statuses: STATUSES, 2 for a wrong command line, 1 for any other error of ours. Ctrl-C, SIGTERM and a closed
pipe end the process by that very signal after it has cleaned up, so a shell sees 130, 143 and 141.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from . import __version__
from .errors import (
    Error,
    NotLinux,
    NotPermitted,
    NotSupported,
    ObjectError,
    TracefsUnavailable,
    VerifierError,
)
from .tools import COMMANDS
from .tools.text import escape

# First match counts, so a subclass stands before its base.
STATUSES: dict[type[Error], int] = {
    NotLinux: 3,
    NotSupported: 4,
    NotPermitted: 5,
    TracefsUnavailable: 6,
    ObjectError: 7,
    VerifierError: 8,
}


class _Signalled(BaseException):
    """A signal asked us to end. Not an Exception: nothing on the way may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _raise_signalled(number: int, _frame: FrameType | None) -> NoReturn:
    raise _Signalled(number)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and end the process. `arguments` defaults to sys.argv[1:]."""
    options = _parser().parse_args(arguments)
    for name in ("SIGINT", "SIGTERM"):
        number = getattr(signal, name)
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup and `&` in a script mean it
            signal.signal(number, _raise_signalled)
    try:
        status = _run(options)
    except _Signalled as signalled:
        _die_of(signalled.number)
    except BrokenPipeError:
        _die_of(getattr(signal, "SIGPIPE", signal.SIGTERM))
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="purebpf",
        description="BPF for Python, in pure Python.",
        epilog="exit status: 0 done; 1 error; 2 wrong command line; 3 not Linux; 4 the kernel lacks a feature;"
        " 5 a privilege is missing; 6 tracefs not mounted or not readable; 7 object file missing or not BPF;"
        " 8 the verifier rejected a program; 130, 141, 143 ended by Ctrl-C, closed pipe, SIGTERM",
    )
    parser.add_argument("--version", action="version", version=f"purebpf {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.HELP, description=command.DESCRIPTION, epilog=parser.epilog)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def _run(options: argparse.Namespace) -> int:
    try:
        options.run(options)
    except Error as error:
        _print_error(f"purebpf: {error}")
        if error.hint:
            _print_error(f"purebpf: hint: {error.hint}")
        if isinstance(error, VerifierError) and getattr(options, "verifier_log", False):
            _print_error(error.log)
        return next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 1)
    except BrokenPipeError:
        raise
    except OSError as error:  # standard output is full or closed
        _print_error(f"purebpf: {error}")
        return 1
    return 0


def _print_error(message: str) -> None:
    """What an object file says of itself may be in a message, so it is escaped for the terminal."""
    for line in message.splitlines():
        print(escape(line), file=sys.stderr)


def _die_of(number: int) -> NoReturn:
    """End as if the signal had not been caught, so that the caller sees what happened (and a script's loop ends)."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)  # nothing that is still buffered may block or fail now
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    sys.exit(128 + number)  # the signal was blocked
