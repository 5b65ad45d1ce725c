"""The command line. Errors become one message, a hint and an exit status; signals end it as the shell expects.

Exit statuses: STATUSES, 2 for a wrong command line, 1 for any other error of ours. Ctrl-C, SIGTERM and a closed
pipe end the process by that very signal after it has cleaned up, so a shell sees 130, 143 and 141.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
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
from .tools import COMMANDS, command
from .tracing.ending import Signalled, catch_signals, die_of
from .tracing.text import escape

# First match counts, so a subclass stands before its base.
STATUSES: dict[type[Error], int] = {
    NotLinux: 3,
    NotSupported: 4,
    NotPermitted: 5,
    TracefsUnavailable: 6,
    ObjectError: 7,
    VerifierError: 8,
}


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and end the process. `arguments` defaults to sys.argv[1:]."""
    _occupy_standard_streams()
    catch_signals()
    try:
        _main(arguments)
    except Signalled as another:  # which came before the first had ended us
        die_of(another.number)


def _main(arguments: list[str] | None) -> NoReturn:
    try:
        arguments, command_line = _split(sys.argv[1:] if arguments is None else arguments)
        options = _parser(arguments).parse_args(arguments)
        options.command_line = command_line
        status = _run(options)
    except Signalled as signalled:
        die_of(signalled.number)
    except BrokenPipeError:
        die_of(signal.SIGPIPE)
    sys.exit(status)


def _occupy_standard_streams() -> None:
    """Put /dev/null where a standard descriptor is closed, so that no ring or map of ours becomes "standard output".

    Writing to a closed standard output stays an error (EBADF); messages to a closed standard error are dropped.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            _occupy(fd)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _occupy(fd: int) -> None:
    """`fd` is the lowest free number."""
    try:
        os.open(os.devnull, os.O_WRONLY if fd == 2 else os.O_RDONLY)
    except OSError as error:
        sys.exit(
            f"purebpf: a standard stream is closed, and {os.devnull} cannot be opened in its place: {error.strerror}\n"
            "purebpf: hint: open it, or mknod -m 666 /dev/null c 1 3"
        )


class _Help(argparse.HelpFormatter):
    """Knows the terminal's width without shutil, which would be imported, with three decompressors, for each option."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS", "")) or os.get_terminal_size(1).columns
        except (ValueError, OSError):
            columns = 80
        super().__init__(prog, width=columns - 2)


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Ours, and behind "--" those of a command that a tool is to run, if it is one that runs commands."""
    if "--" in arguments and arguments[0] in COMMANDS and hasattr(command(arguments[0]), "TAKES_COMMAND"):
        end = arguments.index("--")
        return arguments[:end], arguments[end + 1 :]
    return arguments, []


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    """For these arguments: only the command that they name is imported."""
    parser = argparse.ArgumentParser(
        prog="purebpf",
        formatter_class=_Help,
        description="BPF for Python, in pure Python.",
        epilog="exit status: 0 done; 1 error; 2 wrong command line; 3 not Linux; 4 the kernel lacks a feature;"
        " 5 a privilege is missing; 6 tracefs not mounted or not readable; 7 object file missing or not BPF;"
        " 8 the verifier rejected a program; 130, 141, 143 ended by Ctrl-C, closed pipe, SIGTERM",
    )
    parser.add_argument("--version", action="version", version=f"purebpf {__version__}")
    # With `prog` given, no help is formatted to find it out, for which argparse would import shutil.
    commands = parser.add_subparsers(
        title="commands", prog=parser.prog, dest="command", metavar="COMMAND", required=True
    )
    for name, help in COMMANDS.items():
        sub = commands.add_parser(name, help=help, epilog=parser.epilog, formatter_class=_Help)
        if name in arguments:
            module = command(name)
            sub.description = module.DESCRIPTION
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return parser


def _run(options: argparse.Namespace) -> int:
    status = 0
    try:
        status = options.run(options) or 0
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
    return int(status)


def _print_error(message: str) -> None:
    """What an object file says of itself may be in a message, so it is escaped for the terminal."""
    for line in message.splitlines():
        print(escape(line), file=sys.stderr)
