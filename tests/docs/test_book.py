"""docs/ is a book: it is built without a warning and without a network, and what it says of the code is the code's."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import purebpf

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def sphinx(source: Path, made: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs` calls it; without any network, where that can be had."""
    options = re.findall(r"-m sphinx (.*) docs build/docs$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0]
    options = options.replace("build/doctrees", str(made / "doctrees"))
    alone = ["unshare", "--net"] if shutil.which("unshare") and os.geteuid() == 0 else []
    command = [*alone, sys.executable, "-m", "sphinx", *options.split(), str(source), str(made / "html")]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.fixture(scope="session")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("book")
    done = sphinx(DOCS, made)
    assert (done.returncode, done.stderr) == (0, "")
    return made / "html"


def test_each_page_is_in_the_book(book: Path) -> None:
    pages = {page.stem for page in DOCS.glob("*.md")}
    assert pages <= {page.stem for page in book.glob("*.html")}


def test_the_index_has_the_four_parts(book: Path) -> None:
    captions = re.findall(
        r'<p class="caption"[^>]*><span class="caption-text">(.*?)</span>', (book / "rings.html").read_text()
    )
    assert captions == ["Tutorial", "How-to guides", "Explanation", "Reference"]


def test_nothing_is_fetched_by_a_reader_s_browser(book: Path) -> None:
    for page in book.glob("*.html"):
        tags = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", page.read_text())
        assert [tag for tag in tags if re.search(r'(?:src|href)="(?:https?:)?//', tag)] == []
    for sheet in book.rglob("*.css"):
        assert not re.search(r"@import|url\(['\"]?(?:https?:)?//", sheet.read_text()), sheet


def test_a_link_to_a_page_that_is_not_there_breaks_the_build(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(DOCS / "conf.py", source)
    (source / "index.md").write_text("# A book\n\n## Part\n\n- [Page](page.md)\n")
    (source / "page.md").write_text(
        "# Page\n\n[good](index.md#part), [no page](none.md), [no heading](index.md#none)\n"
    )
    done = sphinx(source, tmp_path)
    assert done.returncode == 1
    assert len(re.findall(r"page\.md:3: WARNING: .*none", done.stderr)) == 2


def test_each_public_name_is_in_the_reference_with_its_signature(book: Path) -> None:
    page = (book / "api.html").read_text()
    described = set(re.findall(r'<dt class="sig sig-object py" id="purebpf\.(\w+)"', page))
    assert described == set(purebpf.__all__)
    load = page[page.index('id="purebpf.load"') :].partition("</dt>")[0]
    assert 'class="pre">ObjectSpec<' in load
    assert 'class="sig-return-typehint"' in load


def test_the_page_of_commands_is_current() -> None:
    page = runpy.run_path(str(DOCS / "commands.py"))["page"]
    assert (DOCS / "commands.md").read_text() == page(), "run: python docs/commands.py"


def test_alerts_are_on_metrics_that_there_are() -> None:
    text = (DOCS / "metrics.md").read_text()
    alerts = text.partition("```yaml\n")[2].partition("```")[0]
    named = set(re.findall(r"purebpf_\w+", alerts))
    assert named <= set(re.findall(r"^\| `(purebpf_\w+)", text, re.MULTILINE))
    assert len(named) > 3
