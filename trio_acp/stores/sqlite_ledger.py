"""A ledger in an SQLite file, which may be that of a `SQLiteStore`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..abc import Ledger
from ._file import DatabaseFile, KeptInFile
from ._retention import WEEK, Retention
from ._task_rows import EXPIRE, PUT, SELECT, from_row, to_row

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from .._tasks import TaskRecord
    from ._database import Database, Execute


class SQLiteLedger(KeptInFile, Ledger):
    """Keeps tasks in an SQLite file, its own or that of a `SQLiteStore`.

    Give it to `open_session_manager` without entering it: the manager enters
    and leaves it.  To use it alone, enter it yourself, with ``async with``.

    What `SQLiteStore` says of its file and its thread holds here too: it is
    created at the first use, for its owner only; a put that returned survives
    the death of the machine; **a cancelled call is abandoned, not awaited**.

    A task is kept for some time after its end.  Older ones are never shown;
    the first put deletes them, and later ones do so at most once an hour.
    Surrogates without their other half are replaced, for the file cannot hold
    them.

    Args:
        path: The file.  ``~`` is the home directory.
        retention: Seconds that a task is kept after its end; ``math.inf`` keeps it for good.
        busy_timeout: How long one call waits for other users of the file, seconds.
        wall_clock: Seconds since the epoch.

    Raises:
        InvalidOption: the path or one of the times cannot be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        retention: float = WEEK,
        busy_timeout: float = 2.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = DatabaseFile(path, busy_timeout, "SQLiteLedger", without="MemoryLedger")
        self._retention = Retention(retention, wall_clock)

    async def put(self, task: TaskRecord) -> None:
        """Keep a task, unless it is kept already as one that has ended; in one transaction.

        If cancelled, it may still happen, whole, before any later put.

        Raises:
            StoreError: it cannot be written; nothing changed.
        """
        due, oldest = self._retention.due(), self._retention.oldest()

        def write(execute: Execute) -> None:
            if due:
                execute(EXPIRE, (oldest,))
            execute(PUT, to_row(task))

        await self._file.run(lambda database: database.transact("put", write))
        if due:
            self._retention.swept()

    async def list(self, *, open_only: bool = False) -> tuple[TaskRecord, ...]:
        """Return every task, or the open ones, oldest first.

        If cancelled, nothing was read.

        Raises:
            StoreError: they cannot be read.
        """
        wanted = (self._retention.oldest(), not open_only)

        def read(database: Database) -> tuple[TaskRecord, ...]:
            return database.find(from_row, SELECT, wanted)

        return await self._file.run(read)
