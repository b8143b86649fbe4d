"""The line that is being typed: what keys make of it.  Synchronous, and without a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ._cells import TAB, char_width, width
from ._text import safe_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._keys import Key

LONGEST: Final = 2**16
"""Characters that a line may have; what is typed beyond them is dropped."""

_HISTORY = 500


class LineEditor:
    """A line with a cursor, and the lines before it.

    The line may have several rows: Alt-Enter, or a backslash before Enter,
    begins a new one.  Up and down move between them, and beyond them through
    what was entered before; what is being typed comes back behind the last.

    Attributes:
        text: The line.
        cursor: The index in `text` before which the next character goes.
    """

    def __init__(self) -> None:
        self.text = ""
        self.cursor = 0
        self._history: list[str] = []
        self._shown: int | None = None  # which of the history is shown; None for what is being typed
        self._draft = ""
        self._moves: dict[str, Callable[[], int]] = {
            "left": lambda: self._step(-1),
            "ctrl-b": lambda: self._step(-1),
            "right": lambda: self._step(1),
            "ctrl-f": lambda: self._step(1),
            "home": self._row_begin,
            "ctrl-a": self._row_begin,
            "end": self._row_end,
            "ctrl-e": self._row_end,
            "word-left": self._word_begin,
            "word-right": self._word_end,
        }
        self._cuts: dict[str, Callable[[], int]] = {
            "backspace": lambda: self._step(-1),
            "delete": lambda: self._step(1),
            "ctrl-d": lambda: self._step(1),
            "ctrl-u": self._row_begin,
            "ctrl-k": self._row_end,
            "ctrl-w": self._word_begin,
        }

    def key(self, key: Key) -> str | None:
        """Do what a key says; return the line if that entered it."""
        if key.name in {"text", "paste"}:
            self._insert(key.text)
        elif key.name in self._moves:
            self.cursor = self._moves[key.name]()
        elif key.name in self._cuts:
            other = self._cuts[key.name]()
            begin, end = min(other, self.cursor), max(other, self.cursor)
            self.text, self.cursor = self.text[:begin] + self.text[end:], begin
        elif key.name == "newline":
            self._insert("\n")
        elif key.name in {"up", "ctrl-p"}:
            self._vertically(up=True)
        elif key.name in {"down", "ctrl-n"}:
            self._vertically(up=False)
        elif key.name == "enter":
            return self._enter()
        return None

    def clear(self) -> None:
        """Forget what is being typed."""
        self.text, self.cursor, self._shown, self._draft = "", 0, None, ""

    def _enter(self) -> str | None:
        if self.text[: self.cursor].endswith("\\") and self.cursor == len(self.text):
            self.text = self.text[:-1] + "\n"
            return None
        entered = self.text
        if entered.strip() and self._history[-1:] != [entered]:
            self._history = [*self._history[1 - _HISTORY :], entered]
        self.clear()
        return entered

    def _insert(self, text: str) -> None:
        text = text[: LONGEST - len(self.text)]
        self.text = self.text[: self.cursor] + text + self.text[self.cursor :]
        self.cursor += len(text)

    def _step(self, by: int) -> int:
        """Return the place of the next character to the left or right; what has no width belongs to the one before."""
        at = self.cursor
        if not 0 <= at + by <= len(self.text):
            return at
        at += by
        while 0 < at < len(self.text) and char_width(self.text[at]) == 0:
            at += by
        return at

    def _row_begin(self) -> int:
        return self.text.rfind("\n", 0, self.cursor) + 1

    def _row_end(self) -> int:
        end = self.text.find("\n", self.cursor)
        return len(self.text) if end < 0 else end

    def _word_begin(self) -> int:
        before = self.text[: self.cursor].rstrip()
        return max((index + 1 for index, char in enumerate(before) if char.isspace()), default=0)

    def _word_end(self) -> int:
        behind = self.text[self.cursor :]
        skipped = len(behind) - len(behind.lstrip())
        word = next((index for index, char in enumerate(behind[skipped:]) if char.isspace()), len(behind) - skipped)
        return self.cursor + skipped + word

    def _vertically(self, *, up: bool) -> None:
        column = self.cursor - self._row_begin()
        if up and self._row_begin() > 0:
            end = self._row_begin() - 1
            self.cursor = min(self.text.rfind("\n", 0, end) + 1 + column, end)
        elif not up and self._row_end() < len(self.text):
            begin = self._row_end() + 1
            end = self.text.find("\n", begin)
            self.cursor = min(begin + column, len(self.text) if end < 0 else end)
        else:
            self._recall(-1 if up else 1)

    def _recall(self, by: int) -> None:
        last = len(self._history)
        shown = last if self._shown is None else self._shown
        if not 0 <= shown + by <= last:
            return
        if self._shown is None:
            self._draft = self.text
        shown += by
        self._shown = None if shown == last else shown
        self.text = self._draft if self._shown is None else self._history[shown]
        self.cursor = len(self.text)


def lay_out(
    text: str, cursor: int, columns: int, lead: str, shown: Callable[[str], str] = lambda char: char
) -> tuple[Sequence[str], int, int]:
    """Return the rows of a line behind its prompt, and the row and column of the cursor.

    Args:
        text: The line.
        cursor: The index before which the cursor is.
        columns: Cells in a row, with the prompt's.
        lead: The prompt; further rows are indented by as much.
        shown: How a character is shown, which may be several.
    """
    indent = " " * width(lead)
    rows, row, used = [], lead, width(lead)
    at = (0, used)
    for index, char in enumerate(text):
        cell = shown(safe_text(char, multiline=False)) if char not in "\n\t" else " " * TAB if char == "\t" else ""
        if char != "\n" and used + width(cell) > columns and used > len(indent):
            rows.append(row)
            row, used = indent, len(indent)
        if index == cursor:
            at = (len(rows), used)
        row, used = row + cell, used + width(cell)
        if char == "\n":
            rows.append(row)
            row, used = indent, len(indent)
    if cursor == len(text):
        if used >= columns and used > len(indent):
            rows.append(row)
            row, used = indent, len(indent)
        at = (len(rows), used)
    rows.append(row)
    return rows, at[0], at[1]
