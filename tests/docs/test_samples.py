"""Every sample of docs/ is run, or says why not; what it is said to print, it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from features import require
from samples import DOCS, ROOT, notes, samples, unclear

PAGES = sorted(DOCS.glob("*.md"))
RUN = [page for page in PAGES if any({"run by", "not run"}.isdisjoint(s.notes) for s in samples(page.read_text()))]
# BCC wants tracefs and this kernel's headers; those of another kernel will do where its own are not packaged.
HEADERS = """
grep -q tracefs /proc/mounts || mount -t tracefs tracefs /sys/kernel/tracing
modules=/lib/modules/$(uname -r)
if [ ! -e $modules/build/Makefile ]; then
    tree=$(ls -d /usr/src/linux-headers-* | grep -v -e -common | tail -1)
    mount -t tmpfs tmpfs /lib/modules
    mkdir $modules
    ln -s $tree $modules/build
    ln -s ${tree%-*}-common $modules/source
fi
exec "$@"
"""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_sample_is_run_or_marked(page: Path) -> None:
    assert list(unclear(page)) == []


@pytest.mark.kernel
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_samples_of_a_page_run_as_one_program(page: Path, tmp_path: Path) -> None:
    needs = notes(page.read_text()).get("needs", "").split()
    require(*needs)
    command = [
        *(["unshare", "--mount", "sh", "-e", "-c", HEADERS, "sh"] if "bcc" in needs else []),
        sys.executable,
        "-W",
        "error",
        str(ROOT / "tests/docs/samples.py"),
        str(page),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


# Would it be noticed? Pages that are wrong, each in one way, and what is said of them.
UNCLEAR = {
    "```c\nint x;\n```": "neither run nor marked",
    "```\nprinted by nothing\n```": "neither run nor marked",
    "<!-- not run:  -->\n\n```sh\ntrue\n```": "why is it not run?",
    "<!-- run by: tests/conftest.py -->\n\n```sh\ntrue\n```": "does not know this page",
    "<!-- not ran: a reason -->\n\n```sh\ntrue\n```": "what does 'not ran' mean?",
}
WRONG = {
    "```python\nassert 1 == 2\n```": "line 4",
    "```python\nx = 1\n```\n\n```pycon\n>>> x\n2\n```": "page.md:8: shown otherwise",
    "```sh\nfalse\ntrue\n```": "page.md:4: status 1",
    "    false\n": "page.md:3: status 1",
    "<!-- status: 3 -->\n\n```sh\nexit 4\n```": "page.md:6: status 4",
    "```sh\necho one two\n```\n\n```text\none three\n```": "page.md:8: it prints\none two",
    "<!-- ended by Ctrl-C, after: true -->\n\n```sh\nsh -c 'echo 1; exit 5'\n```\n\n```text\none\n```": "page.md:6: status 5\n1",
}


@pytest.mark.parametrize("text", UNCLEAR)
def test_a_sample_that_nobody_runs_is_noticed(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{text}\n")
    (said,) = unclear(page)
    assert UNCLEAR[text] in said


@pytest.mark.parametrize("text", WRONG)
def test_a_sample_that_does_something_else_is_noticed(text: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(f"# Page\n\n{text}\n")
    command = [sys.executable, str(ROOT / "tests/docs/samples.py"), "page.md"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert WRONG[text] in done.stderr


def test_what_a_page_says_is_so_is_not_reported(tmp_path: Path) -> None:
    text = """# Page

    echo 1 | tee file

```text
1
```

    echo two; cat file

```
...
1
```

- a list

    whose item goes on

```python
with open("file") as file:
    number = int(file.read())
```

```pycon
>>> number
1
>>> print("anything")
any...
```
"""
    (tmp_path / "page.md").write_text(text)
    assert list(unclear(tmp_path / "page.md")) == []
    command = [sys.executable, "-W", "error", str(ROOT / "tests/docs/samples.py"), "page.md"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
