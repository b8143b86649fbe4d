"""A store in an SQLite file, which survives the process and may be shared by several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..abc import SessionStore
from ._database import Database
from ._file import DatabaseFile, KeptInFile

if TYPE_CHECKING:
    import os

    from .._records import SessionRecord
    from ..abc import Mutate


class SQLiteStore(KeptInFile, SessionStore):
    """Keeps records in an SQLite file.

    Give it to `open_session_manager` without entering it: the manager enters
    and leaves it.  To use it alone, enter it yourself, with ``async with``.

    The file is created, at the first use, for its owner only (mode 0600, as
    are the two files SQLite keeps beside it while it is in use), and so are
    missing directories above it (0700).  Existing ones are left as they are.
    A committed update survives the death of the process and of the machine.
    Other processes may use the same file at the same time.

    Each call runs in a worker thread.  **A cancelled call is abandoned, not
    awaited**: it returns at once, and its job goes on in the thread.  So a
    cancelled `update` either did not happen, or did, or still will; it is
    whole in any case, and it comes before every update that is called later.
    The thread is never left behind: leaving the store waits for it.

    The thread works in real time: under a `trio.testing.MockClock` that jumps,
    every deadline passes before it has answered.  Use `MemoryStore` there.

    Args:
        path: The file.  ``~`` is the home directory.
        busy_timeout: How long one call waits for other users of the file, seconds.

    Raises:
        InvalidOption: the path or the timeout cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = 2.0) -> None:
        self._file = DatabaseFile(path, busy_timeout, "SQLiteStore", without="MemoryStore")

    async def read(self, key: str) -> SessionRecord | None:
        """Return the record under a canonical key, or None.

        If cancelled, nothing was read.

        Raises:
            StoreError: it cannot be read.
        """
        return await self._file.run(lambda database: database.read(key))

    async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
        """Replace a record by ``mutate(record)`` in one transaction; return what is stored then.

        If cancelled, the update may still happen, whole, before any later one.
        `mutate` runs in the thread.  If it raises, nothing changes and its
        exception comes out as it is.

        Raises:
            StoreError: it cannot be read or written; nothing changed.
            UsageError: `mutate` returned a record with another key.
        """
        return await self._file.run(lambda database: database.update(key, mutate))

    async def list(self) -> tuple[SessionRecord, ...]:
        """Return every record, ordered by key.

        If cancelled, nothing was read.

        Raises:
            StoreError: they cannot be read.
        """
        return await self._file.run(Database.read_all)
