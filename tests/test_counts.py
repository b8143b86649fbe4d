"""What a turn costs in counts, which are the same on every machine: task steps, waits for I/O, writes of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from trio_acp import MemoryStore, Settings, TextDelta, open_session_manager
from trio_acp.testing import FakeRuntime

if TYPE_CHECKING:
    from trio_acp import Session, SessionRecord
    from trio_acp.abc import Mutate

TURNS = 10


@attrs.define(eq=False)
class Counts(trio.abc.Instrument):
    """Counts what Trio does while it is installed."""

    steps: int = 0
    io_waits: int = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1

    def before_io_wait(self, timeout: float) -> None:
        self.io_waits += 1


class CountingStore(MemoryStore):
    """Counts writes."""

    writes = 0

    async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
        self.writes += 1
        return await super().update(key, mutate)


async def one_turn(session: Session) -> int:
    async with session.turn("x") as turn:
        return len([event async for event in turn])


@pytest.mark.parametrize("events", [0, 1, 10, 100])
async def test_the_steps_of_a_turn_do_not_depend_on_its_events(events: int) -> None:
    """A turn in memory takes 9 steps of tasks for any number of events that come together, and 2 writes."""
    store = CountingStore()
    runtime = FakeRuntime([TextDelta("x" * 64)] * events)
    async with open_session_manager({"fake": runtime}, store=store) as manager:
        session = await manager.start_session("agent:fake:acp:1", agent="fake")
        assert events == await one_turn(session)  # which opens the backend session
        store.writes = 0
        counts = Counts()
        trio.lowlevel.add_instrument(counts)
        for _ in range(TURNS):
            await one_turn(session)
        trio.lowlevel.remove_instrument(counts)
        await session.close()
    assert counts.steps <= 9 * TURNS
    assert counts.io_waits <= 9 * TURNS
    assert store.writes <= 2 * TURNS + 1  # the close frees the row


async def test_an_idle_session_has_no_task() -> None:
    """A thousand sessions that were used and wait for nothing have not one task."""
    runtime = FakeRuntime()
    async with open_session_manager({"fake": runtime}, settings=Settings(max_sessions=None)) as manager:
        before = trio.lowlevel.current_statistics().tasks_living
        for n in range(1000):
            session = await manager.start_session(f"agent:fake:acp:{n}", agent="fake")
            await session.prompt("x")
        assert before == trio.lowlevel.current_statistics().tasks_living
        assert 1000 == manager.statistics().open_handles
