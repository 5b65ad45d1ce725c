"""How Sphinx makes the book: `make docs`. Pages are Markdown that GitHub shows as well; only api.md is not, which is made from
docstrings."""

from __future__ import annotations

import re

from sphinx.application import Sphinx

import purebpf

project = "purebpf"
release = version = purebpf.__version__
html_title = f"purebpf {release}"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3  # as GitHub makes them: deploying.md#kubernetes
html_theme = "furo"
html_extra_path = ["ring.html"]
html_show_copyright = html_show_sphinx = html_show_sourcelink = html_copy_source = False
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints_format = "short"


def setup(app: Sphinx) -> None:
    """What neither Markdown nor docstrings say to Sphinx by themselves."""
    app.connect("source-read", _grow_tree)
    app.connect("autodoc-process-docstring", _as_rst)


def _grow_tree(_app: Sphinx, name: str, source: list[str]) -> None:
    """The parts of the book are the lists of index.md: the pages that a section links to are below it, in this order. The
    exercises are below the course."""
    if name == "index":
        source[0] = re.sub(r"^## (.+)\n((?:(?!## ).*\n)+)", _part, source[0], flags=re.MULTILINE)
    if name == "course/README":
        source[0] += _tree(re.findall(r"\]\((exercise\w+/README)\.md\)", source[0]))


def _part(section: re.Match[str]) -> str:
    return section[0] + _tree(re.findall(r"\]\(([\w/-]+)\.md\)", section[2]), f":caption: {section[1]}")


def _tree(pages: list[str], *options: str) -> str:
    return "\n".join(["", "```{toctree}", ":hidden:", *options, "", *pages, "```", "", ""])


def _as_rst(_app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Docstrings are plain text: paragraphs with `code`, and blocks of code that are indented."""
    lines[:] = "\n\n".join(map(_block, "\n".join(lines).split("\n\n"))).splitlines()


def _block(text: str) -> str:
    if text.startswith("    "):
        return f"::\n\n{text}"
    return re.sub(r"`([^`]+)`|([*|])", lambda found: f"``{found[1]}``" if found[1] else f"\\{found[2]}", text)
