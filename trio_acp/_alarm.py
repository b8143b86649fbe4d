"""One sleeping task for many deadlines: it is woken by the earliest, and by nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable


class Alarm:
    """Calls `ring` whenever the clock shows what `due` says.

    Most of what is waited for never comes: a turn ends before its deadline, a
    session is used again before it expires.  So nothing is taken out of a
    timetable, and moving the alarm wakes nobody: it may ring too early, and
    then asks `due` when to ring again.
    """

    def __init__(self, due: Callable[[], float], ring: Callable[[], None]) -> None:
        self._due = due
        self._ring = ring
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Sleep, ring, and sleep again, until cancelled.

        Raises:
            Exception: what `due` or `ring` raised.
        """
        while True:
            with trio.CancelScope(deadline=self._due()) as self._scope:
                await trio.sleep_forever()
            self._ring()

    def not_after(self, time: float) -> None:
        """Ring when the clock shows `time`, unless that is to be sooner already."""
        if time < self._scope.deadline:
            self._scope.deadline = time
