"""The samples of a page of docs/: what they are, and how they are run. `python tests/docs/samples.py PAGE` runs those of one.

A page is one program: its ```python blocks run in their order in one process, and so do its ```pycon blocks, with the values
that they show. ```sh blocks and indented ones are commands for a shell, in a folder of their own, and the ```text block behind
one is what they print (`...` stands for anything). An HTML comment before a block says what is special about it:

    file: NAME                      the block is a file
    file: NAME, part                one of the blocks that make up a file; it runs all the same
    not run: WHY                    or `run by: TEST`, which names the page
    status: N                       with which the commands end
    ended by Ctrl-C, after: COMMAND it runs until it has printed what is shown, with any numbers, COMMAND being run meanwhile

and at the top of a page

    run by: TEST                    all of it
    needs: FEATURES                 of tests/kernel/features.py
    after: PAGE                     the files of that page are there, and compiled
"""

from __future__ import annotations

import doctest
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
COMMANDS, OUTPUT, CODE = {"sh", "indented"}, {"", "text"}, {"python", "pycon"}
_LIST = re.compile(r" *(?:[-*]|\d+\.) ")
_NOTES = ("file", "not run", "run by", "status", "ended by Ctrl-C, after", "needs", "after")


class Sample(NamedTuple):
    """A block of code. `notes` is what the comments before it say; `line` is that of its first line."""

    line: int
    language: str
    text: str
    notes: dict[str, str]

    @property
    def is_file(self) -> bool:
        """Is it a whole file, and not to be run by itself?"""
        return "file" in self.notes and not self.notes["file"].endswith(", part")


def samples(page: str) -> list[Sample]:
    """Those of a page's text. What it says at its top of who runs it is said of each."""
    general = {name: value for name, value in notes(page).items() if name == "run by"}
    found = (sample for sample in _blocks(page.splitlines()) if not sample.language.startswith("{"))
    return [sample._replace(notes={**general, **sample.notes}) for sample in found]


def notes(page: str) -> dict[str, str]:
    """What a page's first lines say of the whole page."""
    return _noted(page.split("\n\n")[1]) if page.startswith("# ") else {}


def _noted(text: str) -> dict[str, str]:
    found = (comment.partition(": ") for comment in re.findall(r"<!-- (.*?) -->", text, re.DOTALL))
    return {name: value for name, _, value in found}


def _blocks(lines: list[str]) -> Iterator[Sample]:
    said: dict[str, str] = {}
    in_list, at = False, 0
    while at < len(lines):
        line, begin = lines[at], at + 1
        if line.startswith("```"):
            end = lines.index("```", begin)
            yield Sample(begin + 1, line[3:].strip(), "\n".join(lines[begin:end]) + "\n", said)
            said, at = {}, end
        elif line.startswith("    ") and not in_list:
            end = next((n for n in range(begin, len(lines)) if lines[n] and lines[n][:4].strip()), len(lines))
            text = "\n".join(row[4:] for row in lines[at:end]).rstrip() + "\n"
            yield Sample(begin, "indented", text, said)
            said, at = {}, end - 1
        elif line.startswith("<!--"):
            end = next(n for n in range(at, len(lines)) if lines[n].endswith("-->"))
            said, at = {**said, **_noted(" ".join(lines[at : end + 1]))}, end
        elif line:
            in_list = bool(_LIST.match(line)) or (in_list and line.startswith(" "))
            said = {}
        at += 1


def unclear(page: Path) -> Iterator[str]:
    """Samples of which nobody knows whether they are true."""
    before = None
    for sample in samples(page.read_text()):
        where = f"{page.name}:{sample.line}"
        unknown = [name for name in sample.notes if name not in _NOTES]
        if unknown:
            yield f"{where}: what does {unknown[0]!r} mean?"
        if "run by" in sample.notes and page.name not in (ROOT / sample.notes["run by"]).read_text():
            yield f"{where}: {sample.notes['run by']} does not know this page"
        if "not run" in sample.notes and not sample.notes["not run"]:
            yield f"{where}: why is it not run?"
        checked = sample.language in COMMANDS | CODE or {"file", "not run", "run by"} & {*sample.notes}
        output = sample.language in OUTPUT and before and before.language in COMMANDS and "not run" not in before.notes
        if not checked and not output:
            yield f"{where}: a sample that is neither run nor marked"
        before = sample


class Page:
    """A page that is run in a folder, where it leaves its files."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder = path, folder
        self._text = path.read_text()
        self._names: dict[str, Any] = {"__name__": "page"}

    def prepare(self) -> None:
        """Programs that readers have, and what the page goes on from."""
        python = f'#!/bin/sh\nexec "{sys.executable}" '
        programs = {
            "python": f'{python}"$@"\n',
            "purebpf": f'{python}-m purebpf "$@"\n',
            "sudo": '#!/bin/sh\nexec "$@"\n',
        }
        for name in programs:
            program = self.folder / ".venv/bin" / name
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text(programs[name])
            program.chmod(0o755)
        path = f"{self.folder}/.venv/bin:{os.environ['PATH']}:/usr/sbin:/sbin"
        os.environ.update(PATH=path, PYTHONPATH=str(ROOT))
        if "after" in notes(self._text):
            for sample in samples((DOCS / notes(self._text)["after"]).read_text()):
                self._write(sample)
                if sample.language in COMMANDS and sample.text.startswith("clang"):
                    self._shell(sample)

    def run(self) -> None:
        """All samples in their order."""
        printed = ""
        for sample in samples(self._text):
            if {"not run", "run by"} & {*sample.notes}:
                printed = ""
                continue
            self._write(sample)
            if sample.language in OUTPUT:
                self._compare(sample, printed)
            elif sample.language == "pycon":
                self._doctest(sample)
            elif sample.language == "python" and not sample.is_file:
                self._execute(sample)
            elif "ended by Ctrl-C, after" in sample.notes:
                printed = self._interrupt(sample)
            elif sample.language in COMMANDS:
                printed = self._shell(sample)

    def _where(self, sample: Sample) -> str:
        return f"{self.path}:{sample.line}"

    def _write(self, sample: Sample) -> None:
        if "file" in sample.notes:
            name, _, part = sample.notes["file"].partition(", ")
            with (self.folder / name).open("a" if part else "w") as file:
                file.write(sample.text)

    def _execute(self, sample: Sample) -> None:
        code = "\n" * (sample.line - 1) + sample.text  # so that a traceback has the lines of the page
        exec(compile(code, str(self.path), "exec"), self._names)

    def _doctest(self, sample: Sample) -> None:
        shown = doctest.DocTestParser().get_doctest(sample.text, {}, self.path.name, str(self.path), sample.line - 1)
        shown.globs = self._names
        failed, _tried = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(shown, clear_globs=False)
        if failed:
            sys.exit(f"{self._where(sample)}: shown otherwise")

    def _shell(self, sample: Sample) -> str:
        command = ["sh", "-e", "-c", sample.text]
        done = subprocess.run(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != int(sample.notes.get("status", 0)):
            sys.exit(f"{self._where(sample)}: status {done.returncode}\n{done.stdout}")
        return done.stdout

    def _interrupt(self, sample: Sample) -> str:
        """Run it until it has printed the sample behind it."""
        shown = next(other for other in samples(self._text) if other.line > sample.line)
        printed, log = "", self.folder / "log"
        with (
            log.open("w") as file,
            subprocess.Popen(
                ["sh", "-c", f"exec {sample.text}"], cwd=self.folder, stdout=file, stderr=subprocess.STDOUT
            ) as process,
        ):
            deadline = time.monotonic() + 60
            while not _printed(shown.text, printed) and process.poll() is None and time.monotonic() < deadline:
                subprocess.run(["sh", "-c", sample.notes["ended by Ctrl-C, after"]], stdout=subprocess.DEVNULL)
                printed = log.read_text()
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
        printed = log.read_text()
        if process.returncode not in (0, -signal.SIGINT) or not _printed(shown.text, printed):
            sys.exit(f"{self._where(sample)}: status {process.returncode}\n{printed}")
        return shown.text

    def _compare(self, sample: Sample, printed: str) -> None:
        if not doctest.OutputChecker().check_output(sample.text, printed, doctest.ELLIPSIS):
            sys.exit(f"{self._where(sample)}: it prints\n{printed}")


def compiled(source: str, folder: Path) -> Path:
    """The object of a BPF program in C, made as the pages make theirs."""
    (folder / "built.bpf.c").write_text(source)
    command = [
        "clang",
        "-O2",
        "-g",
        "-target",
        "bpf",
        f"-I/usr/include/{os.uname().machine}-linux-gnu",
        "-c",
        "built.bpf.c",
    ]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "built.bpf.o"


def _printed(shown: str, printed: str) -> bool:
    """Are the lines shown among those printed, whatever their numbers?"""
    lines = {re.sub(r" *[0-9]+", "0", line) for line in printed.splitlines()}
    return all(re.sub(r" *[0-9]+", "0", line) in lines for line in shown.splitlines())


if __name__ == "__main__":
    made = Page(Path(sys.argv[1]).resolve(), Path.cwd())
    made.prepare()
    made.run()
