"""Counts that are the same on every machine: steps of tasks, and waits for I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@attrs.define(eq=False)
class Counts(trio.abc.Instrument):
    """Counts what Trio does while it is installed."""

    steps: int = 0
    io_waits: int = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a step."""
        self.steps += 1

    def before_io_wait(self, timeout: float) -> None:
        """Count a wait."""
        self.io_waits += 1


async def counted(work: Callable[[], Awaitable[object]]) -> tuple[int, int]:
    """Do a piece of work; return how many steps tasks took meanwhile, and how often Trio waited for I/O."""
    counts = Counts()
    trio.lowlevel.add_instrument(counts)
    try:
        await work()
    finally:
        trio.lowlevel.remove_instrument(counts)
    return counts.steps, counts.io_waits
