"""The counts of a manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.turn_kit import C, G, T, Watched, adds_up, one_session
from trio_acp import Settings, TextDelta, TurnFailed, TurnTimedOut
from trio_acp.testing import FakeRuntime, Hang, Raise, Sleep

if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_every_turn_is_in_one_column_at_every_instant(autojump_clock: MockClock) -> None:
    """Submitted = queued + active + completed + failed + timed_out + stopped, at each record of the trace."""
    watched = Watched()
    runtime = FakeRuntime([TextDelta("x"), Sleep(1)])
    async with one_session(runtime, instrument=watched) as (manager, session), trio.open_nursery() as nursery:
        nursery.start_soon(session.prompt, "a")
        await trio.sleep(0.5)
        with trio.move_on_after(0.1):
            await session.prompt("b")
        s = manager.statistics()
        assert (2, 0, 1, 1, 1) == (s.submitted, s.queued, s.active, s.stopped, s.depth)
        await session.prompt("c")
        runtime.turn = [Raise(OSError("x"))]
        with pytest.raises(TurnFailed):
            await session.prompt("d")
        runtime.turn, runtime.on_cancel = [Hang()], [Hang()]
        with pytest.raises(TurnTimedOut):
            await session.prompt("e")
        s = manager.statistics()
        assert adds_up(s)
        assert (5, 2, 1, 1, 1) == (s.submitted, s.completed, s.failed, s.timed_out, s.stopped)
        assert {"ACP_TURN_FAILED": 2} == s.errors_by_code
        assert (T + G + C, 1 + 1 + T + G + C) == (s.latency_max, s.latency_total)
        assert s.latency_total / 4 == s.latency_average  # the one that was withdrawn has none
        assert (1, 1, 0) == (s.suspects, s.open_handles, s.stragglers)
    assert [] == watched.broken


async def test_statistics_are_a_copy(autojump_clock: MockClock) -> None:
    """What was returned does not change."""
    async with one_session(FakeRuntime()) as (manager, session):
        before = manager.statistics()
        await session.prompt("x")
        assert (0, 1) == (before.submitted, manager.statistics().submitted)


async def test_what_a_manager_says_before_anything_happened(autojump_clock: MockClock) -> None:
    """No turn: no latency; and how it was set up."""
    async with one_session(FakeRuntime(), settings=Settings(idle_ttl=30, max_sessions=3)) as (manager, _):
        s = manager.statistics()
        assert (0.0, 0.0, 30, 3, None) == (
            s.latency_average,
            s.latency_max,
            s.idle_ttl,
            s.capacity.limit,
            s.last_evicted,
        )
