"""What these tests share: a store that remembers what was written, and short words for what a runtime was asked."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import trio

from tests.turn_kit import SETTINGS
from trio_acp import MemoryStore, SessionRecord, open_session_manager
from trio_acp.abc import Identity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from trio_acp import SessionManager, Settings
    from trio_acp.abc import Mutate, SessionState
    from trio_acp.testing import FakeRuntime
    from trio_acp.testing.fake import Step

KEY = "agent:codex:acp:1"


class Diary(MemoryStore):
    """Remembers every record that was written, None for a deletion."""

    def __init__(self, *records: SessionRecord) -> None:
        super().__init__()
        self._records.update({record.key: record for record in records})
        self.written: list[SessionRecord | None] = []

    async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
        record = await super().update(key, mutate)
        self.written.append(record)
        return record

    def states(self) -> list[str | None]:
        """Return the states that the session went through, in order: those written that were not in force already."""
        states: list[str | None] = ["idle"]
        for record in self.written:
            state = None if record is None else record.state
            if state != states[-1]:
                states.append(state)
        return states[1:]

    def stored(self, key: str = KEY) -> SessionRecord:
        """Return what is stored now."""
        return self._records[key]


class HangingDiary(Diary):
    """Never ends a write of a record in one of these states, and does not write it either."""

    def __init__(self, *records: SessionRecord) -> None:
        super().__init__(*records)
        self.hanging: set[SessionState] = set()

    async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
        wanted = mutate(await self.read(key))
        if wanted is not None and wanted.state in self.hanging:
            await trio.sleep_forever()
        return await super().update(key, mutate)


def record(key: str = KEY, *, session_id: str | None = None, **values: Any) -> SessionRecord:
    """A stored session of the agent ``codex``; with a session id one that was confirmed."""
    if session_id is not None:
        values.setdefault("identity", Identity(state="resolved", session_id=session_id, source="status", updated=1.0))
    return attrs.evolve(SessionRecord(key=key, agent="codex"), **values)


@asynccontextmanager
async def manager_with(
    runtime: FakeRuntime, *records: SessionRecord, settings: Settings = SETTINGS
) -> AsyncIterator[tuple[SessionManager, Diary]]:
    """Open a manager over a store that has these sessions already, as after a restart."""
    store = Diary(*records)
    async with open_session_manager({"codex": runtime}, store=store, settings=settings) as manager:
        yield manager, store


def requests(runtime: FakeRuntime, name: str = "ensure_session") -> list[Any]:
    """Return what each call of this name was given."""
    return [call.detail for call in runtime.calls if call.name == name]


def in_turn(*answers: Iterable[Step]) -> Callable[[object], Iterable[Step]]:
    """The steps of the first call, of the second, and so on; the last ones again for ever."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]
