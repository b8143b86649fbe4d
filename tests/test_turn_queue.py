"""G8: one request of a session at a time, in order; and what the lane refuses."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from tests.turn_kit import LIMITS, OWN_TASKS, Recorder, check_trace, one_session, our_tasks
from trio_acp import ManagerClosed, QueueFull, SessionClosed, Settings, Stopped, TextDelta
from trio_acp.testing import FakeRuntime, Hang, Run, Sleep, Swallow

if TYPE_CHECKING:
    from trio.testing import MockClock

pytestmark = pytest.mark.concurrency


async def test_turns_of_a_session_run_one_at_a_time_in_order(autojump_clock: MockClock) -> None:
    """Five prompts admitted together take five times as long, first come, first served; never two at once."""
    runtime = FakeRuntime([Sleep(1)])
    recorder = Recorder()
    async with one_session(runtime, instrument=recorder) as (_manager, session):
        async with trio.open_nursery() as nursery:
            for n in range(5):
                nursery.start_soon(session.prompt, str(n))
                await trio.testing.wait_all_tasks_blocked()
        assert 5 == trio.current_time()
    prompts = [(call.detail.prompt[0].text, call.time) for call in runtime.calls if call.name == "run_turn"]
    assert [(str(n), n) for n in range(5)] == prompts
    assert {"k": 1} == runtime.most_at_once
    check_trace(recorder)


async def test_turns_of_different_sessions_run_together(autojump_clock: MockClock) -> None:
    """No lane waits for another one, however badly that one's backend behaves."""
    runtime = FakeRuntime([Sleep(1)])
    async with one_session(runtime) as (manager, _session):
        async with trio.open_nursery() as nursery:
            for n in range(20):
                session = await manager.start_session(f"s{n}", agent="fake")
                nursery.start_soon(session.prompt, "x")
        assert 1 == trio.current_time()


async def test_a_full_queue_refuses(autojump_clock: MockClock) -> None:
    """As many wait as the settings say, behind the one that runs; one more is QueueFull, a checkpoint, and no more."""
    runtime = FakeRuntime([Sleep(1)])
    async with one_session(runtime, settings=Settings(limits=LIMITS, max_queued=2)) as (manager, session):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(session.prompt, "x")
            await trio.sleep(0.5)
            with trio.testing.assert_checkpoints(), pytest.raises(QueueFull):
                await session.prompt("x")
        assert 3 == manager.statistics().submitted


async def test_a_burst_is_not_refused_because_its_actor_has_not_run(autojump_clock: MockClock) -> None:
    """One runs and max_queued wait: also if all of them come before the scheduler gets round to the first."""
    async with one_session(FakeRuntime([Sleep(1)]), settings=Settings(max_queued=2)) as (manager, session):
        turns = [session.turn(str(n)) for n in range(4)]
        steps = [turn.__aenter__() for turn in turns]
        refused = 0
        async with trio.open_nursery() as nursery:

            async def enter(n: int) -> None:
                nonlocal refused
                try:
                    await steps[n]
                except QueueFull:
                    refused += 1

            for n in range(4):
                nursery.start_soon(enter, n)
        assert (1, 3) == (refused, manager.statistics().submitted)
        assert 3 == await session.cancel()


async def test_close_acts_on_a_snapshot(autojump_clock: MockClock) -> None:
    """Turns are stopped, waiting controls are refused, what comes later opens the session again; the record stays."""
    runtime = FakeRuntime([Hang(stops=True)])
    results: list[object] = []
    async with one_session(runtime) as (manager, session):

        async def start_again() -> None:
            with pytest.raises(SessionClosed):
                await manager.start_session("k", agent="fake")
            results.append("refused")

        async with trio.open_nursery() as nursery:

            async def prompt(text: str) -> None:
                results.append((await session.prompt(text)).outcome)

            nursery.start_soon(prompt, "running")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(prompt, "waiting")
            nursery.start_soon(start_again)
            await trio.sleep(1)
            report = await session.close("enough")
            assert (True, None) == (report.closed, report.notice)
            assert not manager.is_live("k")
        stopped = Stopped(by="closed", reason="enough")
        assert "refused" in results
        assert stopped in results
        assert 3 == len(results)
        runtime.turn = []
        await session.prompt("later")
        assert "fake-1" == runtime.calls[-2].detail.resume
        assert 1 == trio.current_time()


@pytest.mark.parametrize("steps", range(6))
async def test_nothing_slips_in_between_a_close_and_its_snapshot(steps: int, autojump_clock: MockClock) -> None:
    """A prompt that comes together with a close is stopped by it, or runs on a new handle; never on the old one."""
    runtime = FakeRuntime([Sleep(1)])
    async with one_session(runtime) as (_manager, session), trio.open_nursery() as nursery:
        nursery.start_soon(session.close)
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        await session.prompt("x")
    numbers = [getattr(call.handle, "number", 0) for call in runtime.calls if call.name == "run_turn"]
    ended = [call.name for call in runtime.calls]
    if numbers == [1]:
        assert "cancel" in ended
    else:
        assert numbers in ([2], [])


async def test_forgetting_deletes_the_record(autojump_clock: MockClock) -> None:
    """close(forget=True) leaves nothing in the store; closing an idle session opens no backend in order to close it."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (manager, session):
        assert (True, None) == (lambda r: (r.closed, r.notice))(await session.close())
        assert not (await session.close()).closed
        assert ["ensure_session", "close"] == runtime.names()
        assert 1 == len(await manager.stored_sessions())
        await session.close(forget=True)
        assert () == await manager.stored_sessions()


async def test_a_backend_that_does_not_close_is_reported(autojump_clock: MockClock) -> None:
    """close() returns within cleanup and says that the backend did not close properly, if that may be."""
    runtime = FakeRuntime(close=[Hang()])
    async with one_session(runtime) as (manager, session):
        report = await session.close(allow_backend_unavailable=True)
        assert LIMITS.cleanup == trio.current_time()
        assert not report.closed
        assert report.notice is not None
        assert not manager.is_live("k")


async def test_a_waiting_operation_can_be_withdrawn(autojump_clock: MockClock) -> None:
    """A cancelled caller's operation that still waited never happens."""
    runtime = FakeRuntime([Sleep(5)])
    async with one_session(runtime) as (manager, session), trio.open_nursery() as nursery:
        nursery.start_soon(session.prompt, "x")
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1) as scope:
            await manager.start_session("k", agent="fake", fresh=True)
        assert (True, 1) == (scope.cancelled_caught, trio.current_time())
        assert 0 == (await session.status()).queued
    assert 1 == runtime.names().count("ensure_session")


async def test_a_closed_manager_admits_nothing(autojump_clock: MockClock) -> None:
    """Every operation of a closed manager is refused, and nothing happens."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (manager, session):
        pass
    with pytest.raises(ManagerClosed):
        await session.prompt("x")
    with pytest.raises(ManagerClosed):
        await session.close()
    with pytest.raises(ManagerClosed):
        await manager.start_session("k", agent="fake")
    assert 0 == manager.statistics().submitted


async def test_a_stop_from_inside_the_adapter(autojump_clock: MockClock) -> None:
    """Cancelling is synchronous: the adapter itself may do it, in the middle of its own step."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (_manager, session):
        turn = session.turn("x")
        runtime.turn = [TextDelta("a"), Run(lambda sink: turn.cancel("enough")), Hang(stops=True)]
        async with turn:
            assert [TextDelta("a")] == [event async for event in turn]
        assert Stopped(by="user", reason="enough", agent_stop_reason="cancelled") == turn.outcome


async def test_a_lane_that_was_handed_on_has_one_actor(autojump_clock: MockClock) -> None:
    """An adapter keeps its actor beyond its turn: another one serves the lane, and the first, once free, does not."""
    runtime = FakeRuntime([Swallow(10)])
    stopped = "trio_acp call run_turn"

    def tasks() -> list[str]:
        return sorted(name for name in our_tasks() if name.startswith("trio_acp ") and name not in OWN_TASKS)

    async with one_session(runtime) as (manager, session):
        async with trio.open_nursery() as nursery:
            async with session.turn("is stopped") as first:
                await trio.testing.wait_all_tasks_blocked()
                assert ["trio_acp actor k"] == tasks()
                runtime.turn = [Sleep(20)]
                nursery.start_soon(partial(session.prompt, "waits", timeout=60))
                first.cancel()
                await trio.testing.wait_all_tasks_blocked()
                assert ["trio_acp actor k", stopped] == tasks()
            assert trio.current_time() < 10
            await trio.testing.wait_all_tasks_blocked()
            assert ["trio_acp actor k", stopped] == tasks()
            await trio.sleep_until(11)
            assert ["trio_acp actor k"] == tasks()
        assert (1, 1) == (manager.statistics().stopped, manager.statistics().completed)
        assert [] == tasks()
