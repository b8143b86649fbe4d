"""Faults that the original had, each tried here: what is left of them is nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.original.kit import KEY, in_turn, manager_with, record, requests
from tests.turn_kit import SETTINGS
from trio_acp import BackendUnavailable, Failed, TurnFailed
from trio_acp.testing import FakeRuntime, Hang, Raise, Run, Sleep

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_acp import SessionRecord

pytestmark = pytest.mark.concurrency


async def test_what_another_writer_changes_during_a_turn_is_kept(autojump_clock: MockClock) -> None:
    """A turn's writes change the turn's own fields of what is stored then, not of what it had read."""
    runtime = FakeRuntime([Sleep(2)])
    async with manager_with(runtime, record()) as (manager, store), trio.open_nursery() as nursery:
        nursery.start_soon(manager.session(KEY).prompt, "x")
        await trio.sleep(1)

        def rename(old: SessionRecord | None) -> SessionRecord | None:
            return None if old is None else attrs.evolve(old, label="renamed")

        await store.update(KEY, rename)
        await trio.sleep(2)
        assert ("renamed", "idle", "fake-1") == (store.stored().label, store.stored().state, store.stored().session_id)


async def test_a_record_deleted_during_a_turn_stays_deleted(autojump_clock: MockClock) -> None:
    """The turn ends as it does; its last write makes nothing anew."""
    runtime = FakeRuntime([Sleep(2)])
    async with manager_with(runtime, record()) as (manager, store), trio.open_nursery() as nursery:
        nursery.start_soon(manager.session(KEY).prompt, "x")
        await trio.sleep(1)
        await store.update(KEY, lambda _: None)
        await trio.sleep(2)
        assert ((), 1) == (await store.list(), manager.statistics().completed)


@pytest.mark.parametrize(
    "words", ["ACP turn timed out after 1s.", "permission denied for /etc", "cancelled", "session not found"]
)
async def test_words_decide_nothing(words: str, autojump_clock: MockClock) -> None:
    """What an error's text says is for people: it is a failure of the turn, tried once, and keeps the session."""
    runtime = FakeRuntime([Raise(OSError(words))])
    async with manager_with(runtime, record()) as (manager, _):
        with pytest.raises(TurnFailed) as caught:
            await manager.session(KEY).prompt("x")
        assert "adapter-error" == caught.value.detail
        counts = manager.statistics()
        assert (1, 0, 0) == (counts.failed, counts.timed_out, counts.stopped)
        assert ["ensure_session", "run_turn"] == runtime.names()


@pytest.mark.parametrize("step", [-1e9, 0.0, 1e9])
async def test_a_step_of_the_wall_clock_moves_no_deadline(step: float, autojump_clock: MockClock) -> None:
    """Stamps tell the wall clock; latencies, ages and deadlines are those of Trio's clock."""
    wall = 1e9
    runtime = FakeRuntime([Sleep(1), Run(lambda _: jump())])

    def jump() -> None:
        nonlocal wall
        wall += step

    async with manager_with(runtime, record(), settings=attrs.evolve(SETTINGS, idle_ttl=10)) as (manager, store):
        manager._ctx.wall_clock = lambda: wall
        await manager.session(KEY).prompt("x")
        assert (1e9 + step, 1) == (store.stored().last_activity, manager.statistics().latency_max)
        await trio.sleep(10.5)
        assert [("idle-evicted", 11)] == [(call.detail, call.time) for call in runtime.calls if call.name == "close"]


async def test_turns_that_never_began_are_counted_too(autojump_clock: MockClock) -> None:
    """One that found no session, one that found no room, one that was withdrawn: each in its column."""
    settings = attrs.evolve(SETTINGS, max_sessions=1)
    runtime = FakeRuntime([Sleep(3)])
    async with manager_with(runtime, record("a"), record("b"), settings=settings) as (manager, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager.session("a").prompt, "x")
            await wait_all_tasks_blocked()
            for key in ("nobody", "b"):
                with pytest.raises(TurnFailed):
                    await manager.session(key).prompt("x")
            with trio.move_on_after(1):
                await manager.session("a").prompt("x")
        counts = manager.statistics()
        assert (4, 1, 2, 1) == (counts.submitted, counts.completed, counts.failed, counts.stopped)
        assert {"ACP_SESSION_INIT_FAILED": 2} == counts.errors_by_code


async def test_a_handle_is_never_dropped(autojump_clock: MockClock) -> None:
    """Retried, dead, moved, begun anew, suspect: whatever replaces a handle, the old one is closed."""
    failed = BackendUnavailable("nothing was started", retryable=True)
    runtime = FakeRuntime(in_turn([Raise(failed)], [], [], [Hang()], []), cancel=[Hang()])
    async with manager_with(runtime, record(cwd="/a")) as (manager, _):
        session = manager.session(KEY)
        await session.prompt("retried")
        runtime.dead = set(runtime.open)
        await session.prompt("another handle")
        await session.update_options(cwd="/b")
        with trio.move_on_after(1):
            await session.prompt("hangs")
        await session.prompt("not on the suspect one")
        await manager.start_session(KEY, agent="codex", fresh=True)
        await wait_all_tasks_blocked()
        opened, closed = len(requests(runtime)), len(requests(runtime, "close"))
        assert (opened - 1, 1) == (closed, len(runtime.open))
    assert set() == runtime.open


async def test_a_hung_backend_never_holds_a_lane_beyond_its_deadlines(autojump_clock: MockClock) -> None:
    """Whichever of its calls hangs, the next operation of the session gets its turn."""
    limits = attrs.evolve(SETTINGS.limits, setup=3.0, controls=1.0, probe=1.0)
    settings = attrs.evolve(SETTINGS, limits=limits)
    longest = limits.turn + limits.grace + 2 * limits.cleanup + 2 * limits.join
    for hung in ("ensure", "turn", "on_control", "on_status", "on_cancel", "on_close"):
        runtime = FakeRuntime()
        setattr(runtime, hung, [Hang()])
        async with manager_with(runtime, record(), settings=settings) as (manager, _):
            session = manager.session(KEY)
            await session.update_options(mode="plan")
            began = trio.current_time()
            turn = session.turn("x")
            with pytest.raises(TurnFailed) if hung in {"ensure", "on_control"} else trio.move_on_after(math.inf):
                await session.status()
                async with turn:
                    if hung in {"turn", "on_cancel"}:
                        turn.cancel()
                    async for _event in turn:
                        pass
            assert trio.current_time() - began <= longest
            assert isinstance(turn.outcome, Failed) == (hung in {"ensure", "on_control"})
            setattr(runtime, hung, [])
            assert "end_turn" == getattr((await session.prompt("next")).outcome, "stop_reason", None)
