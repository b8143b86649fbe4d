"""A store in an SQLite file, which survives the process and may be shared by several.

Jobs go to a worker thread through a limiter with a single token, so they run
one after the other in the order of the calls, although none of them is waited
for longer than its caller wants: a job whose caller was cancelled is left to
finish in its thread, and the next one starts after it.
"""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio

from .._errors import InvalidOption, UsageError
from .._service import shielded
from ..abc import SessionStore
from ._database import Database

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .._records import SessionRecord
    from ..abc import Mutate

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_CLOSE_LIMIT = 5.0
"""Seconds that leaving allows, beyond `busy_timeout`, for the disk."""


class SQLiteStore(SessionStore):
    """Keeps records in an SQLite file.

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
        if os.fspath(path) in {"", ":memory:"}:
            raise InvalidOption("SQLiteStore keeps a file; use MemoryStore to keep none", detail="invalid-path")
        if not 0 < busy_timeout < math.inf:
            raise InvalidOption(
                f"busy_timeout must be finite and more than 0 seconds, not {busy_timeout!r}",
                detail="invalid-busy_timeout",
            )
        try:
            self._path = Path(path).expanduser().absolute()
        except RuntimeError as error:
            raise InvalidOption(f"cannot expand {os.fspath(path)!r}: {error}", detail="invalid-path") from error
        self._busy_timeout = busy_timeout
        self._limiter = trio.CapacityLimiter(1)
        self._database: Database | None = None

    async def __aenter__(self) -> SQLiteStore:
        """Get ready; the file is not touched before the first call."""
        if self._database is not None:
            raise UsageError(f"the store of {self._path} is in use already", detail="store-in-use")
        # Both anew: should an earlier job never have ended, it keeps its own.
        self._limiter = trio.CapacityLimiter(1)
        self._database = Database(self._path, self._busy_timeout)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Wait for the running job, fold the log into the file and close it.

        If cancelled, it does so all the same: within `busy_timeout` plus 5 seconds.
        """
        database, self._database = self._database, None
        assert database is not None
        database.leaving = True
        with shielded(self._busy_timeout + _CLOSE_LIMIT) as scope:
            await trio.to_thread.run_sync(database.close, abandon_on_cancel=True, limiter=self._limiter)
        if scope.cancelled_caught:
            _log.warning("%s is left open: a job in a thread does not end, it will close the file", self._path)

    async def read(self, key: str) -> SessionRecord | None:
        """Return the record under a canonical key, or None.

        If cancelled, nothing was read.

        Raises:
            StoreError: it cannot be read.
        """
        return await self._run(lambda database: database.read(key))

    async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
        """Replace a record by ``mutate(record)`` in one transaction; return what is stored then.

        If cancelled, the update may still happen, whole, before any later one.
        `mutate` runs in the thread.  If it raises, nothing changes and its
        exception comes out as it is.

        Raises:
            StoreError: it cannot be read or written; nothing changed.
            UsageError: `mutate` returned a record with another key.
        """
        return await self._run(lambda database: database.update(key, mutate))

    async def list(self) -> tuple[SessionRecord, ...]:
        """Return every record, ordered by key.

        If cancelled, nothing was read.

        Raises:
            StoreError: they cannot be read.
        """
        return await self._run(Database.read_all)

    async def _run(self, job: Callable[[Database], _T]) -> _T:
        database = self._database
        if database is None:
            raise UsageError(f"the store of {self._path} must be entered first", detail="store-not-entered")
        return await trio.to_thread.run_sync(job, database, abandon_on_cancel=True, limiter=self._limiter)
