"""An audit log in an SQLite file, which may be that of a `SQLiteStore`."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final

from .._audit import AuditDecision, AuditRecord
from ..abc import AuditLog
from ._columns import NUMBER, OWNER, TEXT, Columns, one_of, or_none
from ._file import DatabaseFile, KeptInFile
from ._retention import Retention
from ._text import storable

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from ._database import Database, Execute

_PLAIN: Final = {
    "id": TEXT,
    "time": NUMBER,
    "session": or_none(TEXT),
    "session_id": or_none(TEXT),
    "turn": or_none(TEXT),
    "event": TEXT,
    "decision": one_of(AuditDecision),
    "rule": TEXT,
    "title_sha256": TEXT,
}
_TABLE: Final = Columns("audit", ("id",), {**_PLAIN, **OWNER})
_COLUMNS: Final = tuple(_TABLE.kinds)
_PUT: Final = (
    f"INSERT OR IGNORE INTO audit ({', '.join(_COLUMNS)}) "  # noqa: S608 - the names above
    f"VALUES ({', '.join('?' * len(_COLUMNS))})"
)
_SELECT: Final = (
    f"SELECT {', '.join(_COLUMNS)} FROM audit "  # noqa: S608 - the names above
    "WHERE time >= ?1 AND (?2 IS NULL OR session = ?2) ORDER BY number"
)
_ANY_TOO_OLD: Final = "SELECT 1 FROM audit WHERE time < ? LIMIT 1"
_EXPIRE: Final = "DELETE FROM audit WHERE time < ?"
_GUARD: Final = "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = 'audit_is_kept'"
_LIFT: Final = "DROP TRIGGER audit_is_kept"


class SQLiteAudit(KeptInFile, AuditLog):
    """Keeps audit records in the table ``audit`` of an SQLite file, its own or that of a `SQLiteStore`.

    Give it to `open_session_manager` without entering it: the manager enters
    and leaves it.  To read it, enter it yourself, with ``async with``.

    What `SQLiteStore` says of its file and its thread holds here too: it is
    created at the first use, for its owner only; an append that returned
    survives the death of the machine; **a cancelled call is abandoned, not
    awaited**.  The table refuses changes and deletions.  Halves of surrogate
    pairs become ``?``, for the file cannot hold them.

    Records are kept for good, some 300 bytes each, unless a retention is given.
    Then older ones are never shown; the first append deletes them, and later
    ones do so at most once an hour.  What must be kept longer, copy before: the
    table ``audit`` is plain SQL, and ``number`` counts on, so that a gap shows
    what was taken away.

    Args:
        path: The file.  ``~`` is the home directory.
        retention: Seconds that a record is kept, by its wall-clock time; ``math.inf`` keeps it for good.
        busy_timeout: How long one call waits for other users of the file, seconds.
        wall_clock: Seconds since the epoch.

    Raises:
        InvalidOption: the path or one of the times cannot be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        retention: float = math.inf,
        busy_timeout: float = 2.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = DatabaseFile(path, busy_timeout, "SQLiteAudit", without="MemoryAudit")
        self._retention = Retention(retention, wall_clock)

    async def append(self, records: Sequence[AuditRecord]) -> None:
        """Keep records, in one transaction; one whose `id` is kept stays as it is.

        If cancelled, it may still happen, whole, before any later append.

        Raises:
            StoreError: they cannot be written; nothing changed.
        """
        rows = [_to_row(record) for record in records]
        due, oldest = self._retention.due(), self._retention.oldest()

        def write(execute: Execute) -> None:
            if due:
                _expire(execute, oldest)
            for row in rows:
                execute(_PUT, row)

        await self._file.run(lambda database: database.transact("append", write))
        if due:
            self._retention.swept()

    async def list(self, *, session: str | None = None) -> tuple[AuditRecord, ...]:
        """Return every record, or those of one session, in the order in which they were appended.

        If cancelled, nothing was read.

        Raises:
            StoreError: they cannot be read.
        """
        wanted = (self._retention.oldest(), session)

        def read(database: Database) -> tuple[AuditRecord, ...]:
            return database.find(_from_row, _SELECT, wanted)

        return await self._file.run(read)


def _expire(execute: Execute, oldest: float) -> None:
    """Delete what is too old.  The trigger that forbids it is away inside of this transaction, and for nobody else."""
    if not execute(_ANY_TOO_OLD, (oldest,)):
        return
    guards = execute(_GUARD)
    if guards:
        execute(_LIFT)
    execute(_EXPIRE, (oldest,))
    for (guard,) in guards:
        execute(guard)


def _to_row(record: AuditRecord) -> tuple[Any, ...]:
    values = (getattr(record, name) for name in _PLAIN)
    plain = (storable(value) if isinstance(value, str) else value for value in values)
    owner = record.owner
    return (*plain, owner.pid, owner.start_time, owner.boot_id, owner.manager_id)


def _from_row(row: tuple[Any, ...]) -> AuditRecord:
    values = _TABLE.read(row)
    owner = _TABLE.take_owner(values)
    if owner is None:
        raise _TABLE.damaged(values, "owner_pid", "it is missing")
    return AuditRecord(**values, owner=owner)
