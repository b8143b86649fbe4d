"""An SQLite file from the side of Trio: its worker thread, and what becomes of jobs nobody waits for.

Jobs go to the thread through a limiter with a single token, so they run one
after the other in the order of the calls, although none of them is waited for
longer than its caller wants: a job whose caller was cancelled is left to
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
from .._limits import is_seconds
from .._service import shielded
from ._database import Database

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_CLOSE_LIMIT = 5.0
"""Seconds that leaving allows, beyond `busy_timeout`, for the disk."""


class DatabaseFile:
    """The file of one store or ledger, between its `enter` and its `leave`.

    Args:
        path: The file.
        busy_timeout: How long one job waits for other users of the file, seconds.
        name: The class it works for, for messages.
        without: The class that needs no file.

    Raises:
        InvalidOption: the path or the timeout cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str], busy_timeout: float, name: str, *, without: str) -> None:
        if os.fspath(path) in {"", ":memory:"}:
            raise InvalidOption(f"{name} keeps a file; use {without} to keep none", detail="invalid-path")
        if not (is_seconds(busy_timeout) and busy_timeout < math.inf):
            raise InvalidOption(
                f"busy_timeout must be finite and more than 0 seconds, not {busy_timeout!r}",
                detail="invalid-busy_timeout",
            )
        try:
            self._path = Path(path).expanduser().absolute()
        except RuntimeError as error:
            raise InvalidOption(f"cannot expand {os.fspath(path)!r}: {error}", detail="invalid-path") from error
        self._name = name
        self._busy_timeout = busy_timeout
        self.limiter = trio.CapacityLimiter(1)
        self.database: Database | None = None

    def enter(self) -> None:
        """Get ready; the file is not touched before the first job.

        Raises:
            UsageError: it is entered already.
        """
        if self.database is not None:
            raise UsageError(
                f"{self._path}: this {self._name} has been entered already; "
                "pass it to open_session_manager without entering it",
                detail="store-in-use",
            )
        # Both anew: should an earlier job never have ended, it keeps its own.
        self.limiter = trio.CapacityLimiter(1)
        self.database = Database(self._path, self._busy_timeout)

    async def leave(self) -> None:
        """Wait for the running job, fold the log into the file and close it.

        If cancelled, it does so all the same: within `busy_timeout` plus 5 seconds.
        """
        database, self.database = self.database, None
        assert database is not None
        database.leaving = True
        with shielded(self._busy_timeout + _CLOSE_LIMIT) as scope:
            await trio.to_thread.run_sync(database.close, abandon_on_cancel=True, limiter=self.limiter)
        if scope.cancelled_caught:
            _log.warning("%s is left open: a job in a thread does not end, it will close the file", self._path)

    async def run(self, job: Callable[[Database], _T]) -> _T:
        """Run a job in the thread.  If cancelled, it may still happen, before any later one.

        Raises:
            StoreError: what the job raises.
            UsageError: the file is not entered.
        """
        database = self.database
        if database is None:
            raise UsageError(f"the {self._name} of {self._path} must be entered first", detail="store-not-entered")
        return await trio.to_thread.run_sync(job, database, abandon_on_cancel=True, limiter=self.limiter)


class KeptInFile:
    """What keeps its records in an SQLite file: entered and left by the manager it is given to."""

    _file: DatabaseFile

    async def __aenter__(self) -> Self:
        """Get ready; the file is not touched before the first call."""
        self._file.enter()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Wait for the running job, fold the log into the file and close it.

        If cancelled, it does so all the same: within `busy_timeout` plus 5 seconds.
        """
        await self._file.leave()
