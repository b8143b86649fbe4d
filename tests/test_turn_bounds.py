"""G1: how long a turn can take, to the exact second, whatever the adapter does."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

import pytest
import trio

from tests.turn_kit import LIMITS, SETTINGS, AwkwardStore, C, G, J, Recorder, T, check_trace, one_session
from trio_acp import Limits, Settings, Stopped, TimedOut, TurnFailed, TurnTimedOut, open_session_manager
from trio_acp.testing import FakeRuntime, Hang, Sleep, Swallow

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_acp.abc import Mode

pytestmark = pytest.mark.concurrency

MODES: tuple[Mode, ...] = ("persistent", "oneshot")
CASES = list(itertools.product(("hung", "prompt"), ("hung", "prompt"), ("hung", "prompt"), MODES))


def runtime_for(run: str, cancel: str, close: str) -> FakeRuntime:
    return FakeRuntime(
        [Hang(stops=run == "prompt")],
        cancel=[Hang()] if cancel == "hung" else [],
        close=[Hang()] if close == "hung" else [],
    )


def seconds_of_cleanup(run: str, cancel: str, close: str, mode: str) -> float:
    """What the ladder costs: the cancel rung, the join rung, the close rung."""
    ladder = C if cancel == "hung" else J if run == "hung" else 0.0
    return ladder + (C if mode == "oneshot" and close == "hung" else 0.0)


@pytest.mark.parametrize(("run", "cancel", "close", "mode"), CASES)
async def test_a_hung_turn_returns_at_the_exact_second(
    run: str, cancel: str, close: str, mode: Mode, autojump_clock: MockClock
) -> None:
    """T+1 if the stream ends by itself, +join if it has to be cancelled, +2 if `cancel` hangs; oneshot +0 or +2."""
    recorder = Recorder()
    async with one_session(runtime_for(run, cancel, close), mode=mode, instrument=recorder) as (manager, session):
        began = trio.current_time()
        with pytest.raises(TurnTimedOut) as caught:
            await session.prompt("x")
        assert pytest.approx(T + G + seconds_of_cleanup(run, cancel, close, mode)) == trio.current_time() - began
        stopped = cancel == "prompt" and not (mode == "oneshot" and close == "hung")
        assert ("finished" if stopped else "deadline") == caught.value.cleanup
        assert LIMITS == caught.value.limits
        assert 0 == manager.statistics().stragglers
        assert (1 if cancel == "hung" and mode == "persistent" else 0) == manager.statistics().suspects
    check_trace(recorder)


async def test_a_cancel_that_takes_its_time_leaves_less_for_the_join(autojump_clock: MockClock) -> None:
    """Asking for the end and waiting for it share one cleanup: a slow `cancel` does not add a join to it."""
    async with one_session(FakeRuntime([Hang()], cancel=[Sleep(C - J / 2)])) as (_manager, session):
        began = trio.current_time()
        with pytest.raises(TurnTimedOut):
            await session.prompt("x")
        assert pytest.approx(T + G + C) == trio.current_time() - began


@pytest.mark.parametrize(("run", "cancel", "close", "mode"), CASES)
async def test_a_cancelled_caller_returns_at_the_exact_second(
    run: str, cancel: str, close: str, mode: Mode, autojump_clock: MockClock
) -> None:
    """A caller cancelled at second 1 gets its own Cancelled at 1 plus the ladder's cost, never later."""
    async with one_session(runtime_for(run, cancel, close), mode=mode) as (manager, session):
        began = trio.current_time()
        with trio.move_on_after(1) as scope:
            await session.prompt("x")
        assert scope.cancelled_caught
        assert pytest.approx(1 + seconds_of_cleanup(run, cancel, close, mode)) == trio.current_time() - began
        assert 1 == manager.statistics().stopped


@pytest.mark.parametrize("swallowing", ["run", "cancel", "close", "run cancel", "run close", "cancel close", "all"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("by", ["deadline", "caller"])
async def test_an_adapter_that_swallows_cancellation_costs_two_joins(
    swallowing: str, mode: Mode, by: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The bound had it honoured cancellation, plus 2·join; it is counted, and named in a warning."""
    resists = ["run", "cancel", "close"] if swallowing == "all" else swallowing.split()
    runtime = FakeRuntime(
        [Swallow(30)] if "run" in resists else [Hang(stops=True)],
        cancel=[Swallow(30)] if "cancel" in resists else [],
        close=[Swallow(30)] if "close" in resists else [],
    )
    polite = {name: "hung" if name in resists else "prompt" for name in ("run", "cancel", "close")}
    called = [name for name in resists if name != "close" or mode == "oneshot"]
    async with one_session(runtime, mode=mode) as (manager, session):
        began = trio.current_time()
        if by == "caller":
            began += 1
            with trio.move_on_at(began) as scope:
                await session.prompt("x")
            assert scope.cancelled_caught
        else:
            began += T + G
            with pytest.raises(TurnTimedOut):
                await session.prompt("x")
        base = seconds_of_cleanup(**polite, mode=mode)
        assert base - 1e-6 <= trio.current_time() - began <= base + 2 * J + 1e-6
        statistics = manager.statistics()
        assert len(called) == statistics.stragglers == statistics.stragglers_now
        names = {"run": "call run_turn", "cancel": "call cancel", "close": "call close"}
        for name in called:
            assert f"the {names[name]} does not end although it was cancelled" in caplog.text


async def test_a_straggler_that_ends_at_last_is_counted_down(autojump_clock: MockClock) -> None:
    """`stragglers` is for ever, `stragglers_now` goes back when the call has ended."""
    async with one_session(FakeRuntime([Swallow(20)])) as (manager, session):
        with trio.move_on_after(1):
            await session.prompt("x")
        await trio.sleep(30)
        assert (1, 0) == (manager.statistics().stragglers, manager.statistics().stragglers_now)


async def test_setup_counts_against_the_deadline(autojump_clock: MockClock) -> None:
    """A turn that hangs in setup times out at T+1; nothing was submitted, so nothing is cancelled at the backend."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (_manager, session):
        await session.close()
        runtime.ensure = [Hang()]
        began = trio.current_time()
        with pytest.raises(TurnTimedOut):
            await session.prompt("x")
        assert pytest.approx(T + G) == trio.current_time() - began
        assert not {"run_turn", "cancel"} & set(runtime.names())


async def test_the_deadline_counts_while_a_setup_resists(autojump_clock: MockClock) -> None:
    """It is the first cause as soon as it has passed: a cancel during the `join` that follows comes too late."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (_manager, session):
        await session.close()
        runtime.ensure = [Swallow(20)]
        turn = session.turn("x")

        async def cancel_late() -> None:
            await trio.sleep(T + G + J / 2)
            turn.cancel("too late")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_late)
            with pytest.raises(TurnTimedOut):
                async with turn:
                    async for _ in turn:
                        pass


async def test_setup_has_a_cap_of_its_own(autojump_clock: MockClock) -> None:
    """Setup beyond `setup` seconds is a failure with detail setup-timeout, whatever the turn still has."""
    settings = Settings(limits=Limits(turn=100, setup=3))
    runtime = FakeRuntime()
    async with one_session(runtime, settings=settings) as (_manager, session):
        await session.close()
        runtime.ensure = [Hang()]
        began = trio.current_time()
        with pytest.raises(TurnFailed) as caught:
            await session.prompt("x")
        assert ("setup-timeout", 3.0) == (caught.value.detail, trio.current_time() - began)


async def test_each_running_turn_has_its_own_gate(autojump_clock: MockClock) -> None:
    """One alarm for all: turns end each at its second, in whatever order they began, with others that end in time."""
    over: dict[str, float] = {}

    async with open_session_manager({"fake": FakeRuntime([Hang(stops=True)])}, settings=SETTINGS) as manager:

        async def run(start: float, timeout: float) -> None:
            session = await manager.start_session(f"{start:g}+{timeout:g}", agent="fake")
            await trio.sleep_until(start)
            with pytest.raises(TurnTimedOut):
                await session.prompt("x", timeout=timeout)
            over[session.key] = trio.current_time()

        async with trio.open_nursery() as nursery:
            for start, timeout in ((1, 30), (2, 10), (3, 20), (4, 9), (25, 1)):
                nursery.start_soon(run, start, timeout)
            for n in range(10):
                quick = await manager.start_session(f"quick {n}", agent="fake")
                async with quick.turn("x", timeout=1.5):
                    pass  # left at once, so stopped long before its gate
                await trio.sleep(1)
    assert {"1+30": 31 + G, "2+10": 12 + G, "3+20": 23 + G, "4+9": 13 + G, "25+1": 26 + G} == over


@pytest.mark.parametrize("_again", range(8))  # it is a race: either order must do
async def test_no_prompt_is_submitted_once_the_gate_has_closed(_again: int, autojump_clock: MockClock) -> None:
    """A store that eats the whole deadline during setup leaves nothing for a prompt: it is not submitted."""
    store = AwkwardStore()
    runtime = FakeRuntime()
    async with one_session(runtime, store=store) as (_manager, session):
        store.hang_update = True
        began = trio.current_time()
        with pytest.raises(TurnTimedOut):
            await session.prompt("x", timeout=C - G)  # the gate closes just when the write is given up
        assert trio.current_time() - began <= C + C
        assert "run_turn" not in runtime.names()
        store.hang_update = False


async def test_a_store_that_hangs_before_a_turn_delays_it_by_cleanup_at_most(autojump_clock: MockClock) -> None:
    """Marking the session as running is given up after cleanup, and the turn runs all the same."""
    store = AwkwardStore()
    async with one_session(FakeRuntime([Sleep(1)]), store=store) as (_manager, session):
        store.hang_update = True
        began = trio.current_time()
        await session.prompt("x")
        assert C + 1 + C == trio.current_time() - began, "before it, the turn, and after it"
        store.hang_update = False


async def test_a_hung_store_costs_at_most_cleanup(autojump_clock: MockClock) -> None:
    """The terminal write of a completed turn is bounded by cleanup, counted, and done again at the exit."""
    store = AwkwardStore()
    runtime = FakeRuntime([Sleep(1)])
    recorder = Recorder()
    async with one_session(runtime, store=store, instrument=recorder) as (manager, session):
        async with session.turn("x") as turn:
            await trio.sleep(0.5)
            store.hang_update = True
            async for _ in turn:
                pass
            assert 1 + C == trio.current_time()
        record = await store.memory.read("k")
        assert record is not None
        assert "running" == record.state
        assert 1 == manager.statistics().store_failures
        assert "store_failed" in recorder.names(turn.request_id)
        store.hang_update = False
    record = await store.memory.read("k")
    assert record is not None
    assert ("idle", None) == (record.state, record.owner)


async def test_the_write_runs_beside_the_ladder(autojump_clock: MockClock) -> None:
    """A hung `cancel` and a hung store share one cleanup budget."""
    store = AwkwardStore()
    async with one_session(FakeRuntime([Hang()], cancel=[Hang()]), store=store) as (_manager, session):
        async with session.turn("x") as turn:
            await trio.sleep(1)
            store.hang_update = True
            turn.cancel("enough")
            async for _ in turn:
                pass
            assert 1 + C == trio.current_time()
        store.hang_update = False
    assert Stopped(by="user", reason="enough") == turn.outcome


async def test_outcomes_of_the_deadline_say_how_cleanup_went(autojump_clock: MockClock) -> None:
    """`Turn.outcome` has what the exception had."""
    async with one_session(FakeRuntime([Hang()], cancel=[Hang()])) as (_manager, session):
        turn = session.turn("x", timeout=2)
        with pytest.raises(TurnTimedOut):
            async with turn:
                async for _ in turn:
                    pass
        assert isinstance(turn.outcome, TimedOut)
        assert ("deadline", 2) == (turn.outcome.cleanup, turn.outcome.limits.turn)


async def test_the_manager_waits_for_stragglers_and_says_where_they_are(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Exit never leaves a task behind: it waits, and reports the straggler's await stack every 5 seconds."""
    caplog.set_level(logging.WARNING)
    async with one_session(FakeRuntime([Swallow(23)])) as (_manager, session):
        with trio.move_on_after(1):
            await session.prompt("x")
    assert pytest.approx(23) == trio.current_time()
    reports = [line for line in caplog.messages if "does not end; it waits at" in line and "_swallow" in line]
    assert 4 == len(reports)
