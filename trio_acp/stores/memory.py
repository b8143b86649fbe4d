"""A store that is forgotten with its object: the default, and the model for every other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .._errors import UsageError
from ..abc import SessionStore

if TYPE_CHECKING:
    from .._records import SessionRecord
    from ..abc import Mutate


class MemoryStore(SessionStore):
    """Keeps records in a dict.

    They stay when the store is left, and are there when it is entered again:
    two managers, one after the other or together, may be given one store.

    Every method is one checkpoint, before anything happens: a cancelled call
    changed nothing, and the rest of the call is atomic.
    """

    def __init__(self) -> None:
        self._records: dict[str, SessionRecord] = {}

    async def read(self, key: str) -> SessionRecord | None:
        """Return the record under a canonical key, or None.

        If cancelled, nothing was read.
        """
        await trio.lowlevel.checkpoint()
        return self._records.get(key)

    async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
        """Replace a record by ``mutate(record)`` in one atomic step; return what is stored then.

        If cancelled, or if `mutate` raises, nothing changed.

        Raises:
            UsageError: `mutate` returned a record with another key.
        """
        await trio.lowlevel.checkpoint()
        return self._replace(key, mutate)

    def update_nowait(self, key: str, mutate: Mutate) -> SessionRecord | None:
        """Do what `update` does, without a checkpoint.

        Raises:
            UsageError: `mutate` returned a record with another key.
            trio.WouldBlock: this is a subclass, which has an `update` of its own.
        """
        if type(self).update is not MemoryStore.update:
            raise trio.WouldBlock
        return self._replace(key, mutate)

    def _replace(self, key: str, mutate: Mutate) -> SessionRecord | None:
        record = mutate(self._records.get(key))
        if record is None:
            self._records.pop(key, None)
        elif record.key != key:
            raise UsageError(f"the record of {key!r} cannot be replaced by one of {record.key!r}", detail="key-changed")
        else:
            self._records[key] = record
        return record

    async def list(self) -> tuple[SessionRecord, ...]:
        """Return every record, ordered by key.

        If cancelled, nothing was read.
        """
        await trio.lowlevel.checkpoint()
        return tuple(self._records[key] for key in sorted(self._records))
