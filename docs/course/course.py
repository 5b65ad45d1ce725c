"""What the tests of the exercises share: finding the answer, stopping endless loops, showing a ring."""

from __future__ import annotations

import importlib.util
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from purebpf.formats.ring import BUSY, DISCARD, LENGTH

solutions = False  # pytest --solutions
_LINES = 50_000  # of Python that a call may run: ten times what any test here needs
_SHOWN = 20  # records
_WIDE = 400  # characters


def answer(name: str, test: str) -> ModuleType:
    """The module of this name beside the file of the test; with --solutions the one in solutions/."""
    folder = Path(__file__).parent / "solutions" if solutions else Path(test).parent
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ended(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns, which takes bytes and numbers. Fails the test if it seems to run for ever."""
    shown = (str(argument) if isinstance(argument, int) else f"{len(argument)} bytes" for argument in arguments)
    call, left = f"{function.__name__}({', '.join(shown)})", _LINES

    def count(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        left -= event == "line"
        if left < 0:
            raise AssertionError(f"{call} has run {_LINES} lines and goes on: an endless loop?")
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        return function(*arguments)
    finally:
        sys.settrace(before)


def word(value: int) -> str:
    """A length word in words."""
    state = "BUSY" if value & BUSY else "DISCARD" if value & DISCARD else "committed"
    return f"length word 0x{value:08x} = {state}, {value & LENGTH} bytes"


def shown(area: bytes | bytearray | memoryview, consumer: int, producer: int) -> str:
    """A ring in words. `area` is the data area, once. Shows records as far as they make sense."""
    size, left, position = len(area), (producer - consumer) % 2**64, consumer
    lines = [f"The ring: {size} bytes of data, consumer position {consumer}, producer position {producer}."]
    if not size or size & (size - 1) or left > size or consumer % 8 or producer % 8:
        return lines[0]
    twice = bytes(area) * 2
    while left > 0 and len(lines) < _SHOWN:
        offset = position % size
        (value,) = struct.unpack_from("=I", twice, offset)
        end = min(offset + 8 + (value & LENGTH), offset + left)
        lines.append(f"  position {position}, offset {offset}: {word(value)}; payload {twice[offset + 8 : end]!r}")
        step = ((value & LENGTH) + 15) & ~7
        position, left = (position + step) % 2**64, left - step
    return "\n".join(lines)


def expect(asked: str, got: object, expected: object) -> None:
    """Fail the test if they differ, and say what was asked."""
    __tracebackhide__ = True
    if got != expected:
        raise AssertionError(f"\n{asked}\nYour answer: {_short(got)}\nExpected:    {_short(expected)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _WIDE else f"{text[: _WIDE // 2]} …… {text[-_WIDE // 2 :]} ({len(text)} characters)"
