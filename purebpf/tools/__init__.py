"""One file, one command: DESCRIPTION, add_arguments(parser), run(options)."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

# Command -> its line of help. Its file is named after it, and imported when it is asked for.
COMMANDS = {
    "trace-exec": "print each execve on this machine, live",
    "trace-open": "print each file that is opened on this machine, live",
    "trace-connect": "print each TCP connection that this machine asks for, live",
    "run": "load any BPF object, attach it, print its records",
    "inspect": "show what is in a BPF object, without root",
    "ring": "show how a BPF ring buffer works, step by step; watch that of a running program",
    "probe": "list what this kernel's BPF can do",
}


def command(name: str) -> ModuleType:
    """The module of a command."""
    return import_module(f".{name.replace('-', '_')}", __name__)
