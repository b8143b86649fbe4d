"""An audit log in an SQLite file, which may be that of a `SQLiteStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .._audit import AuditDecision, AuditRecord
from ..abc import AuditLog
from ._columns import NUMBER, OWNER, TEXT, Columns, one_of, or_none
from ._file import DatabaseFile
from ._text import storable

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from types import TracebackType

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
    "WHERE ?1 IS NULL OR session = ?1 ORDER BY number"
)


class SQLiteAudit(AuditLog):
    """Keeps audit records in the table ``audit`` of an SQLite file, its own or that of a `SQLiteStore`, for good.

    Give it to `open_session_manager` without entering it: the manager enters
    and leaves it.  To read it, enter it yourself, with ``async with``.

    What `SQLiteStore` says of its file and its thread holds here too: it is
    created at the first use, for its owner only; an append that returned
    survives the death of the machine; **a cancelled call is abandoned, not
    awaited**.  The table refuses changes and deletions; nothing is ever taken
    out of it (a record is some 300 bytes).  Halves of surrogate pairs become
    ``?``, for the file cannot hold them.

    Args:
        path: The file.  ``~`` is the home directory.
        busy_timeout: How long one call waits for other users of the file, seconds.

    Raises:
        InvalidOption: the path or the time cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = 2.0) -> None:
        self._file = DatabaseFile(path, busy_timeout, "SQLiteAudit", without="MemoryAudit")

    async def __aenter__(self) -> SQLiteAudit:
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

    async def append(self, records: Sequence[AuditRecord]) -> None:
        """Keep records, in one transaction; one whose `id` is kept stays as it is.

        If cancelled, it may still happen, whole, before any later append.

        Raises:
            StoreError: they cannot be written; nothing changed.
        """
        rows = [_to_row(record) for record in records]

        def write(execute: Execute) -> None:
            for row in rows:
                execute(_PUT, row)

        await self._file.run(lambda database: database.transact("append", write))

    async def list(self, *, session: str | None = None) -> tuple[AuditRecord, ...]:
        """Return every record, or those of one session, in the order in which they were appended.

        If cancelled, nothing was read.

        Raises:
            StoreError: they cannot be read.
        """

        def read(database: Database) -> tuple[AuditRecord, ...]:
            return database.find(_from_row, _SELECT, (session,))

        return await self._file.run(read)


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
