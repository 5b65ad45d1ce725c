"""What this machine does for a guest: it compiles (guests have no compiler) and takes their results.

A line of JSON asks, a line answers, through a serial port of the guest, which is a socket here: nobody else reaches it, and
the guest needs no network.
"""

from __future__ import annotations

import base64
import json
import socketserver
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

from guests import Guest
from images import ROOT

Request = dict[str, Any]
COMPILERS = ("clang", "gcc", "cc")


class Services(socketserver.ThreadingUnixStreamServer):
    """Of one guest, at the socket `path`. `results` has what it reported, by name."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, guest: Guest, path: str) -> None:
        self.guest = guest
        self.results: dict[str, Any] = {}
        super().__init__(path, _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def answer(self, request: Request) -> Request:
        """To what inside/compiler and inside/checks.py ask."""
        if "result" in request:
            self.results[request["result"]] = request["value"]
            return {}
        with tempfile.TemporaryDirectory() as folder:
            try:
                return _compile(self.guest, request, Path(folder))
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                return {"status": 1, "stderr": f"{error}\n", "files": {}}


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, Services)
        for line in self.rfile:
            self.wfile.write(json.dumps(server.answer(json.loads(line))).encode() + b"\n")


def _compile(guest: Guest, request: Request, folder: Path) -> Request:
    """Run a compiler on the files that came with the request; new files go back."""
    for path, content in request["files"].items():
        copy = folder / path.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(base64.b64decode(content))
    cwd = folder / request["cwd"].lstrip("/")
    cwd.mkdir(parents=True, exist_ok=True)
    sent = _files(folder)
    done = subprocess.run(
        _command(guest, request["argv"], folder),
        cwd=cwd,
        input=base64.b64decode(request["stdin"]),
        capture_output=True,
        timeout=120,
    )
    made = {path: content for path, content in _files(folder).items() if sent.get(path) != content}
    return {
        "status": done.returncode,
        "stderr": done.stderr.decode(errors="replace"),
        "files": {
            f"/{path.relative_to(folder)}": [path.stat().st_mode & 0o777, base64.b64encode(content).decode()]
            for path, content in made.items()
        },
    }


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _command(guest: Guest, argv: list[str], folder: Path) -> list[str]:
    """The guest's command for this machine: a compiler for its architecture, static for its C library, our paths."""
    name, *arguments = argv
    if name not in COMPILERS:
        raise ValueError(name)
    if name == "clang":
        arguments = [guest.machine.target if word == "bpf" else word for word in arguments]
    else:
        name = guest.machine.compiler
        if not {"-c", "-shared", "-static", "-m32"} & set(arguments):
            arguments.append("-static")
    arguments = [word.replace(f"/usr/include/{guest.arch}-linux-gnu", guest.machine.include) for word in arguments]
    arguments = [_ours(word, folder) for word in arguments]  # before our own paths come in, which may be in /tmp, too
    return [name, *(word.replace("/opt/purebpf/", f"{ROOT}/") for word in arguments)]


def _ours(word: str, folder: Path) -> str:
    option, slash, path = word.partition("/tmp/")
    if not slash or option not in ("", "-I"):
        return word
    ours = folder / "tmp" / path
    ours.parent.mkdir(parents=True, exist_ok=True)
    return option + str(ours)
