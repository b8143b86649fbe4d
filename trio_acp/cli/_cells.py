"""Text measured in the cells of a terminal: how wide it is, and how it is cut into rows."""

from __future__ import annotations

import functools
import unicodedata
from typing import Final

TAB: Final = 4
_INVISIBLE: Final = frozenset({"Mn", "Mc", "Me", "Cf"})


@functools.lru_cache(4096)
def char_width(char: str) -> int:
    """Return how many cells a character takes: 0, 1 or 2.  Terminals agree on most of them."""
    if char < "\u0300":
        return 1
    if unicodedata.category(char) in _INVISIBLE or "\u1160" <= char <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def width(text: str) -> int:
    """Return how many cells a text takes that has no control characters."""
    return len(text) if text.isascii() else sum(map(char_width, text))


def clip(text: str, columns: int, mark: str = "...") -> str:
    """Cut a text to `columns` cells; what was cut off is replaced by `mark`."""
    if width(text) <= columns:
        return text
    room = columns - width(mark)
    return text[: fitting(text, columns)] if room < 1 else text[: fitting(text, room)] + mark


def fitting(text: str, columns: int, begin: int = 0) -> int:
    """Return the index up to which the characters from `begin` fit into `columns` cells."""
    if text.isascii():
        return min(len(text), begin + max(columns, 0))
    taken = 0
    for index in range(begin, len(text)):
        taken += char_width(text[index])
        if taken > columns:
            return index
    return len(text)


def next_row(text: str, begin: int, columns: int) -> tuple[str, int]:
    """Return the row that begins at an index of a line, and where the next one begins.

    It ends at a space if there is one; the spaces at the break are dropped.
    """
    end = fitting(text, columns, begin)
    if end == len(text):
        return text[begin:], end
    end = max(end, begin + 1)  # a wide character in a single column: better one too wide than no end
    cut = end if text[end] == " " else text.rfind(" ", begin + 1, end)
    if cut < 0 or not text[begin:cut].strip(" "):
        return text[begin:end], end
    row = text[begin:cut].rstrip(" ")
    while cut < len(text) and text[cut] == " ":
        cut += 1
    return row, cut


def wrap(text: str, columns: int) -> list[str]:
    """Cut a text into rows of at most `columns` cells, at spaces where possible; a newline begins a row."""
    rows = []
    for line in text.split("\n"):
        expanded = line.expandtabs(TAB)
        row, begin = next_row(expanded, 0, columns)
        rows.append(row)
        while begin < len(expanded):
            row, begin = next_row(expanded, begin, columns)
            rows.append(row)
    return rows
