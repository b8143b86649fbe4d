"""What things cost, counted in task steps and tasks instead of seconds."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
import trio

from tests.turn_kit import OWN_TASKS, SETTINGS, installed, one_session, our_tasks
from trio_acp import MemoryStore, TextDelta, open_session_manager
from trio_acp.testing import FakeRuntime

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_acp import Session, SessionRecord
    from trio_acp.abc import Mutate


class Steps(trio.abc.Instrument):
    """Counts the task steps of a run."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


class CountingStore(MemoryStore):
    """Counts writes."""

    writes = 0

    def _replace(self, key: str, mutate: Mutate) -> SessionRecord | None:
        self.writes += 1
        return super()._replace(key, mutate)


@pytest.mark.parametrize("events", [1, 10, 1000])
async def test_a_turn_takes_five_steps_and_two_writes_whatever_it_says(events: int, autojump_clock: MockClock) -> None:
    """An in-memory turn on a warm session: at most 5 task steps and 2 writes, for one event or a thousand."""
    steps, store = Steps(), CountingStore()
    async with one_session(FakeRuntime([TextDelta("x")] * events), store=store) as (_manager, session):
        await session.prompt("warm")
        store.writes = 0
        with installed(steps):
            async with session.turn("x") as turn:
                assert events == len([event async for event in turn])
        assert 2 == store.writes
    assert steps.count <= 5


async def events_of(session: Session) -> int:
    """Run a turn, and count its events."""
    async with session.turn("x") as turn:
        return len([event async for event in turn])


async def test_a_turn_leaves_nothing_for_the_garbage_collector(autojump_clock: MockClock) -> None:
    """Its objects do not refer to each other in cycles once it is over, so that a thousand turns cost what one does."""
    async with one_session(FakeRuntime([TextDelta("x")])) as (_manager, session):
        await session.prompt("warm")
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                assert 1 == await events_of(session)
            assert 0 == gc.collect()
        finally:
            gc.enable()


async def test_an_idle_session_has_no_task(autojump_clock: MockClock) -> None:
    """A thousand live sessions have as many tasks as one, one evictor for all; a lane that is idle has none."""
    async with open_session_manager({"fake": FakeRuntime([TextDelta("x")])}, settings=SETTINGS) as manager:
        first = await manager.start_session("first", agent="fake")
        await first.prompt("x")
        await trio.testing.wait_all_tasks_blocked()
        before = sorted(our_tasks())
        for n in range(1000):
            session = await manager.start_session(f"s{n}", agent="fake")
            await session.prompt("x")
        await trio.testing.wait_all_tasks_blocked()
        assert before == sorted(our_tasks())
        assert OWN_TASKS == before
        assert 1001 == manager.statistics().open_handles
