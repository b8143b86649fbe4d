"""An audit log that is forgotten with its object: the model for every other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ..abc import AuditLog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._audit import AuditRecord


class MemoryAudit(AuditLog):
    """Keeps audit records in a dict, for good.

    They stay when the log is left.  Every method is one checkpoint, before
    anything happens: a cancelled call changed nothing.
    """

    def __init__(self) -> None:
        self._records: dict[str, AuditRecord] = {}

    async def append(self, records: Sequence[AuditRecord]) -> None:
        """Keep records; one whose `id` is kept stays as it is.

        If cancelled, nothing changed.
        """
        await trio.lowlevel.checkpoint()
        for record in records:
            self._records.setdefault(record.id, record)

    async def list(self, *, session: str | None = None) -> tuple[AuditRecord, ...]:
        """Return every record, or those of one session, in the order in which they were appended.

        If cancelled, nothing was read.
        """
        await trio.lowlevel.checkpoint()
        return tuple(record for record in self._records.values() if session in {None, record.session})
