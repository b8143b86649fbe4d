"""What a chat shows: rows that stay, and below them a few that are drawn anew whenever something changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._output import Output

_BEGIN, _END = "\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h"  # no cursor, and rows that are too long are cut off
_BACKLOG: Final = 2**18
"""Characters that may wait for the terminal before `Screen.room` makes whoever shows more wait."""


@attrs.frozen
class Live:
    """The rows at the bottom, and where the cursor is in them."""

    rows: tuple[str, ...] = ()
    row: int = 0
    column: int = 0


class Painter:
    """Computes what to write so that the rows to stay stand above the live ones.

    It knows where the cursor was left in the live rows, which it wipes first.
    """

    def __init__(self) -> None:
        self._row = 0
        self._begin = _BEGIN

    def frame(self, staying: Iterable[str], live: Live) -> str:
        """Return what shows further rows to stay, and the live ones now; no row may be wider than the terminal."""
        parts = [self._begin, _up(self._row), "\r\x1b[J"]
        parts += [f"{row}\r\n" for row in staying]
        parts += ["\r\n".join(live.rows), _up(max(len(live.rows) - 1 - live.row, 0)), "\r"]
        parts += [f"\x1b[{live.column}C" if live.column else "", _END]
        self._row, self._begin = live.row, _BEGIN
        return "".join(parts)

    def forget(self) -> None:
        """The cursor is at the beginning of an empty row, wherever that is."""
        self._row = 0

    def clear(self) -> None:
        """Begin the next picture on an empty screen."""
        self._row, self._begin = 0, f"{_BEGIN}\x1b[H\x1b[2J"


def _up(rows: int) -> str:
    return f"\x1b[{rows}A" if rows else ""


class Screen:
    """Shows rows on a terminal, in a task of its own, so that nobody waits for a terminal that is stopped.

    Live rows are asked for when they can be written, so however slow the
    terminal is, no old picture waits for it.

    Args:
        output: The terminal.
        size: Asked for columns and lines before each picture.
        live: Asked for the live rows, at most so many columns less one, and lines.

    Attributes:
        history: Grows with the rows that stay, and when they are cleared away.
    """

    def __init__(self, output: Output, size: Callable[[], tuple[int, int]], live: Callable[[int, int], Live]) -> None:
        self._output = output
        self._size = size
        self._live = live
        self._painter = Painter()
        self.history = 0
        self._staying: list[str] = []
        self._waiting = 0
        self._changed = trio.Event()
        self._shown = trio.Event()
        self._wanted = self._done = 0  # changes so far, and how many of them are on the terminal
        self._paused = False

    @property
    def columns(self) -> int:
        """Cells that a row may have: one less than the terminal, whose last column behaves oddly."""
        return max(self._size()[0] - 1, 1)

    def add(self, rows: Iterable[str]) -> None:
        """Show rows that stay, above the live ones."""
        for row in rows:
            self._staying.append(row)
            self.history += 1
            self._waiting += len(row) + 1
        self.changed()

    def changed(self) -> None:
        """Draw the live rows anew."""
        self._wanted += 1
        self._changed.set()

    async def room(self) -> None:
        """Wait until not too much waits for the terminal; cancelled, nothing happened."""
        await trio.lowlevel.checkpoint()
        while self._waiting > _BACKLOG:
            await self._shown.wait()

    async def run(self) -> None:
        """Show what there is until cancelled; what was being written then may go on.

        Raises:
            OSError: the terminal is gone.
        """
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            wanted = self._wanted
            await self._output.write(self._frame())
            self._done = wanted
            self._shown.set()
            self._shown = trio.Event()

    async def wipe(self) -> None:
        """Take the live rows away, and show none until `resume`; cancelled, they may still be there."""
        self._paused = True
        self.changed()
        wanted = self._wanted
        while self._done < wanted:
            await self._shown.wait()

    def resume(self) -> None:
        """Show live rows again, where the cursor is now; others have written meanwhile."""
        self._paused = False
        self._painter.forget()
        self.changed()

    def clear(self) -> None:
        """Begin on an empty screen."""
        self._painter.clear()
        self.history += 1
        self.changed()

    def _frame(self) -> str:
        staying, self._staying, self._waiting = self._staying, [], 0
        columns, lines = self._size()
        live = Live() if self._paused else self._live(max(columns - 1, 1), max(lines, 1))
        return self._painter.frame(staying, live)
