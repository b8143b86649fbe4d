"""A ledger that is forgotten with its object: the model for every other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

from ..abc import Ledger
from ._retention import WEEK, Retention

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._tasks import TaskRecord


class MemoryLedger(Ledger):
    """Keeps tasks in a dict.

    They stay when the ledger is left, and are there when it is entered again.

    Every method is one checkpoint, before anything happens: a cancelled call
    changed nothing, and the rest of the call is atomic.

    Args:
        retention: Seconds that a task is kept after its end.
        wall_clock: Seconds since the epoch.

    Raises:
        InvalidOption: the retention is not a positive number.
    """

    def __init__(self, *, retention: float = WEEK, wall_clock: Callable[[], float] = time.time) -> None:
        self._retention = Retention(retention, wall_clock)
        self._tasks: dict[str, TaskRecord] = {}

    async def put(self, task: TaskRecord) -> None:
        """Keep a task, unless it is kept already as one that has ended.

        If cancelled, nothing changed.
        """
        await trio.lowlevel.checkpoint()
        if self._retention.due():
            self._tasks = {task.run_id: task for task in self._kept()}
            self._retention.swept()
        old = self._tasks.get(task.run_id)
        if old is None or old.is_open:
            self._tasks[task.run_id] = task

    async def list(self, *, open_only: bool = False) -> tuple[TaskRecord, ...]:
        """Return every task, or the open ones, oldest first.

        If cancelled, nothing was read.
        """
        await trio.lowlevel.checkpoint()
        found = [task for task in self._kept() if task.is_open or not open_only]
        return tuple(sorted(found, key=lambda task: (task.started, task.run_id)))

    def _kept(self) -> tuple[TaskRecord, ...]:
        oldest = self._retention.oldest()
        return tuple(task for task in self._tasks.values() if task.ended is None or task.ended >= oldest)
