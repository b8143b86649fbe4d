"""Aligned text: tables, and names with their values, made to be read at 80 columns."""

from __future__ import annotations

import shutil
import unicodedata
from typing import TYPE_CHECKING, Final

from ._text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_GAP: Final = 2
_LEAST: Final = 8
"""Columns that the last one of a table has, though the line gets too long."""


def screen_width() -> int:
    """Return how many columns there are; 80 where nobody can tell."""
    return shutil.get_terminal_size((80, 24)).columns


def width(text: str) -> int:
    """Return how many columns a text takes on a terminal."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], columns: int, *, keep_end: bool = False) -> list[str]:
    """Return the lines of a table, its titles first; only the last column is cut to fit.

    Args:
        keep_end: Cut its beginning: the end of a path tells more.
    """
    cells = [list(titles), *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    room = max(_LEAST, columns - sum(widths[:-1]) - _GAP * (len(widths) - 1))
    lines = []
    for *first, last in cells:
        padded = [_padded(cell, wanted + _GAP) for cell, wanted in zip(first, widths, strict=False)]
        lines.append(("".join(padded) + cut(last, room, keep_end=keep_end)).rstrip())
    return lines


def values(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each name and its value; pairs without a value are left out."""
    shown = [(name, value) for name, value in pairs if value]
    widest = max((width(name) for name, _ in shown), default=0)
    return [_padded(name, widest + _GAP) + one_line(value) for name, value in shown]


def cut(text: str, room: int, *, keep_end: bool = False) -> str:
    """Return a text in so many columns, an ellipsis in place of what does not fit."""
    if width(text) <= room:
        return text
    while width(text) > room - 1:
        text = text[1:] if keep_end else text[:-1]
    return f"…{text}" if keep_end else f"{text}…"


def _padded(text: str, wanted: int) -> str:
    return text + " " * (wanted - width(text))


def ago(seconds: float) -> str:
    """Return how long ago something was, in the largest unit that fits."""
    if seconds < 1:
        return "just now"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(seconds)} s ago"
