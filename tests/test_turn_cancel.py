"""Who stops a turn, when, and what that does: guarantees G2 to G6."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.turn_kit import (
    SETTINGS,
    AtStep,
    C,
    J,
    OnRecord,
    OnTask,
    Recorder,
    Watched,
    check_trace,
    installed,
    one_session,
    our_tasks,
    run_virtual,
)
from trio_acp import BackendUnavailable, Completed, Stopped, TextDelta, TurnFailed, TurnTimedOut, open_session_manager
from trio_acp._turn import settle
from trio_acp._turn_state import TurnState
from trio_acp.abc import Done
from trio_acp.testing import FakeRuntime, Hang, Raise, Run, Sleep

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from trio_acp._trace import TraceRecord
    from trio_acp.abc import Mode
    from trio_acp.testing.fake import Step

pytestmark = pytest.mark.concurrency


# -- in the queue --------------------------------------------------------------


async def test_a_withdrawn_prompt_costs_nothing_and_never_reaches_the_agent(autojump_clock: MockClock) -> None:
    """A caller cancelled in the queue returns in zero seconds; the runtime is never called for it."""
    runtime = FakeRuntime([Sleep(4)])
    async with one_session(runtime) as (manager, session), trio.open_nursery() as nursery:
        nursery.start_soon(session.prompt, "first")
        await trio.sleep(1)
        with trio.move_on_after(1) as scope:
            await session.prompt("withdrawn")
        assert (True, 2) == (scope.cancelled_caught, trio.current_time())
        assert (1, 0) == (manager.statistics().stopped, manager.statistics().queued)
        await session.prompt("third")
        assert 8 == trio.current_time()
    prompts = [call.detail.prompt[0].text for call in runtime.calls if call.name == "run_turn"]
    assert ["first", "third"] == prompts
    assert ["ensure_session", "run_turn", "run_turn", "close"] == runtime.names(), "one handle served them all"


async def test_a_caller_that_is_already_cancelled_admits_nothing(autojump_clock: MockClock) -> None:
    """Entering a turn is a checkpoint before it is an admission."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (manager, session):
        with trio.CancelScope() as scope:
            scope.cancel()
            await session.prompt("x")
        assert scope.cancelled_caught
        assert 0 == manager.statistics().submitted


async def test_a_user_stops_a_turn_in_the_queue(autojump_clock: MockClock) -> None:
    """`Turn.cancel` settles a waiting turn there and then; iteration ends normally."""
    recorder = Recorder()
    async with one_session(FakeRuntime([Sleep(4)]), instrument=recorder) as (_manager, session):  # noqa: SIM117 - reads better
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.prompt, "first")
            await trio.testing.wait_all_tasks_blocked()
            async with session.turn("x") as turn:
                assert turn.cancel("not needed")
                assert Stopped(by="user", reason="not needed") == turn.outcome
                assert [] == [event async for event in turn]
                assert not turn.cancel()
                assert 0 == trio.current_time()
    assert ["admitted", "withdrawn", "settled"] == recorder.names(turn.request_id)


async def test_who_cancelled_first_has_stopped_it_also_if_it_was_never_started(autojump_clock: MockClock) -> None:
    """A turn that was cancelled before it was entered, and is left in its queue, was stopped by the user."""
    async with one_session(FakeRuntime()) as (_, session):
        turn = session.turn("x")
        assert turn.cancel("no more")
        async with turn:
            pass
        assert Stopped(by="user", reason="no more") == turn.outcome


async def test_a_turn_cancelled_before_it_is_entered_starts_nothing(autojump_clock: MockClock) -> None:
    """A stop is sticky: asked for before the admission, it still keeps the agent out of it, in setup too."""
    runtime = FakeRuntime()
    async with one_session(runtime, mode="oneshot") as (_manager, session):
        await session.close()
        calls = len(runtime.calls)
        turn = session.turn("x")
        assert turn.cancel()
        async with turn:
            assert [] == [event async for event in turn]
        assert Stopped(by="user", reason="cancelled by the user") == turn.outcome
        assert calls == len(runtime.calls)


# -- in setup ------------------------------------------------------------------


@pytest.mark.parametrize("by", ["user", "caller"])
async def test_a_stop_in_setup_ends_the_setup_at_once(by: str, autojump_clock: MockClock) -> None:
    """Nothing was submitted: the call that opens the session is cancelled, the backend is told nothing."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (_manager, session):
        await session.close()
        runtime.ensure = [Hang()]
        del runtime.calls[:]
        with trio.move_on_at(1.5 if by == "caller" else 10):
            async with session.turn("x") as turn, trio.open_nursery() as nursery:
                await trio.sleep(1)
                if by == "user":
                    await session.cancel()
                    nursery.cancel_scope.cancel()
                await trio.sleep_forever()
        assert (1 if by == "user" else 1.5) == trio.current_time()
        assert isinstance(turn.outcome, Stopped)
        assert by == turn.outcome.by
        assert ["ensure_session"] == runtime.names()
        runtime.ensure = []
        assert Completed() == (await session.prompt("next")).outcome


async def test_a_session_opened_too_late_is_closed_and_not_adopted(autojump_clock: MockClock) -> None:
    """What a cancelled setup opens within `join` or later is closed by identity; the next turn gets its own."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (manager, session):
        await session.close()
        turn = session.turn("x")
        # The cancel arrives when the handle is there already, but the actor has not run yet.
        with installed(OnTask("trio_acp call ensure_session", turn.cancel, spawned=False)):
            async with turn:
                assert [] == [event async for event in turn]
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(turn.outcome, Stopped)
        assert not manager.is_live("k")
        assert set() == runtime.open
        assert "run_turn" not in runtime.names()


# -- in the stream ---------------------------------------------------------------


async def test_a_cancelled_caller_gets_cancelled_within_the_bound(autojump_clock: MockClock) -> None:
    """The caller's own Cancelled goes on, after at most cleanup; the outcome is kept on the turn."""
    async with one_session(FakeRuntime([Hang()], cancel=[Hang()])) as (manager, session):
        turn = session.turn("x")
        with trio.CancelScope() as outer:
            with trio.move_on_after(1) as scope:
                async with turn:
                    await trio.sleep_forever()
            assert (True, 1 + C) == (scope.cancelled_caught, trio.current_time())
        assert not outer.cancelled_caught
        assert Stopped(by="caller") == turn.outcome
        assert 1 == manager.statistics().stopped


async def test_a_user_cancel_waits_and_counts(autojump_clock: MockClock) -> None:
    """`Session.cancel` stops the running turn and those queued at the call, waits for them, returns how many."""
    runtime = FakeRuntime([Hang(stops=True)], cancel=[Sleep(0.5)])
    async with one_session(runtime) as (manager, session), trio.open_nursery() as nursery:
        for text in ("a", "b", "c"):
            nursery.start_soon(session.prompt, text)
        await trio.sleep(1)
        assert 3 == await session.cancel("stop it")
        assert 1.5 == trio.current_time()
        assert 3 == manager.statistics().stopped
        assert 0 == await session.cancel()
    assert ["ensure_session", "run_turn", "cancel", "close"] == runtime.names()
    assert "stop it" == runtime.calls[2].detail


async def test_a_cancelled_user_cancel_stops_the_turns_all_the_same(autojump_clock: MockClock) -> None:
    """Giving up the wait does not take the request back."""
    async with one_session(FakeRuntime([Hang()], cancel=[Hang()])) as (_manager, session):
        async with session.turn("x") as turn:
            await trio.sleep(1)
            with trio.move_on_after(0.5) as scope:
                await session.cancel()
            assert scope.cancelled_caught
            assert [] == [event async for event in turn]
        assert Stopped(by="user", reason="cancelled by the user") == turn.outcome


async def test_a_session_without_turns_has_nothing_to_cancel(autojump_clock: MockClock) -> None:
    """Cancelling an idle session calls nobody and opens nothing."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (manager, _session):
        assert 0 == await manager.session("nobody").cancel()
        assert ["ensure_session"] == runtime.names()


async def test_the_first_cause_decides(autojump_clock: MockClock) -> None:
    """Later causes are kept in the trace and change nothing."""
    recorder = Recorder()
    async with one_session(FakeRuntime([Hang()], cancel=[Hang()]), instrument=recorder) as (_manager, session):
        turn = session.turn("x", timeout=1)
        with trio.move_on_after(2.5):
            async with turn, trio.open_nursery() as nursery:
                await trio.sleep(1)
                turn.cancel("first")
                nursery.start_soon(session.close)
                await trio.sleep_forever()
        assert Stopped(by="user", reason="first") == turn.outcome
        assert 1 + C == trio.current_time()
    causes = [r.data["cause"] for r in recorder.records if r.name == "cause" and r.turn == turn.request_id]
    assert ["user", "closed", "caller"] == causes


async def test_many_causes_make_one_cancel(autojump_clock: MockClock) -> None:
    """User, close and caller together: `Runtime.cancel` is called once, with the first reason, in one budget."""
    runtime = FakeRuntime([Hang()], cancel=[Hang()])
    async with one_session(runtime) as (_manager, session), trio.open_nursery() as nursery:
        with trio.move_on_after(2):
            async with session.turn("x", timeout=1) as turn:
                await trio.sleep(0.5)
                nursery.start_soon(session.cancel, "one")
                await trio.sleep(0.5)
                nursery.start_soon(session.close, "two")
                turn.cancel("three")
                await trio.sleep_forever()
        assert 0.5 + C == trio.current_time()
    assert ["one"] == [call.detail for call in runtime.calls if call.name == "cancel"]


async def test_a_turn_that_ended_is_not_cancelled(autojump_clock: MockClock) -> None:
    """`cancel` is called only while `run_turn` is alive."""
    runtime = FakeRuntime([Sleep(1)])
    async with one_session(runtime) as (_manager, session), session.turn("x") as turn:
        async for _ in turn:
            pass
        assert not turn.cancel()
        assert Completed() == turn.outcome
    assert "cancel" not in runtime.names()


async def test_what_the_agent_answers_to_a_cancel_is_kept_and_decides_nothing(autojump_clock: MockClock) -> None:
    """An agent that says end_turn after it was told to stop: the turn is Stopped, its word is on the outcome."""
    runtime = FakeRuntime([Hang(stops=True)], cancel=[Sleep(0.5)])
    async with one_session(runtime) as (_manager, session), session.turn("x") as turn:
        await trio.sleep(1)
        turn.cancel("no")
        assert [] == [event async for event in turn]
    assert Stopped(by="user", reason="no", agent_stop_reason="cancelled") == turn.outcome


async def test_an_agent_that_stops_unasked(autojump_clock: MockClock) -> None:
    """The answer `cancelled` without a request to stop is Stopped by the agent."""
    async with one_session(FakeRuntime([Done(stop_reason="cancelled")])) as (_manager, session):
        reply = await session.prompt("x")
    assert Stopped(by="agent", agent_stop_reason="cancelled") == reply.outcome


@pytest.mark.parametrize("answers", [True, False])
async def test_a_handle_is_suspect_until_its_agent_is_quiet(answers: bool, autojump_clock: MockClock) -> None:
    """After a cancel that did not return, the handle is used again only if found quiet; else closed and resumed."""
    runtime = FakeRuntime([Hang()], cancel=[Hang()])
    async with one_session(runtime) as (manager, session):
        with trio.move_on_after(1):
            await session.prompt("x")
        assert 1 == manager.statistics().suspects
        status = await session.status()
        assert (True, True) == (status.live, status.suspect)
        runtime.turn, runtime.quiet = [], answers
        del runtime.calls[:]
        await session.prompt("y")
        assert (["run_turn"] if answers else ["close", "ensure_session", "run_turn"]) == runtime.names()
        assert 0 == manager.statistics().suspects
        if not answers:
            assert "fake-1" == runtime.calls[1].detail.resume


async def test_a_stop_while_a_suspect_handle_is_being_closed(autojump_clock: MockClock) -> None:
    """The next turn's setup closes the suspect handle; a stop there ends it at once, and nothing is opened."""
    runtime = FakeRuntime([Hang()], cancel=[Hang()], close=[Hang()])
    async with one_session(runtime) as (manager, session):
        with trio.move_on_after(1):
            await session.prompt("x")
        del runtime.calls[:]
        began = trio.current_time()
        with trio.move_on_after(1):
            await session.prompt("y")
        assert (1.0, ["close"]) == (trio.current_time() - began, runtime.names())
        assert not manager.is_live("k")


# -- between "woken" and "run" -----------------------------------------------------


async def test_a_cancel_between_woken_and_run_submits_nothing(autojump_clock: MockClock) -> None:
    """A cancel after everything is prepared, in the step in which the adapter would be called: it is never called."""
    runtime = FakeRuntime([TextDelta("never")])
    recorder = OnRecord("ready")
    async with one_session(runtime, instrument=recorder) as (manager, session):
        turn = session.turn("x")
        recorder.function = turn.cancel
        async with turn:
            assert [] == [event async for event in turn]
        assert Stopped(by="user", reason="cancelled by the user") == turn.outcome
        assert 0 == manager.statistics().suspects
        assert ["ensure_session"] == runtime.names()
    assert "submitted" not in recorder.names()


async def test_a_response_before_the_cancel_completes_the_turn(autojump_clock: MockClock) -> None:
    """The adapter has returned, in the same step the cancel comes: the response was first."""
    runtime = FakeRuntime([TextDelta("done")])
    recorder = OnRecord("decided")
    async with one_session(runtime, instrument=recorder) as (_manager, session):
        turn = session.turn("x")
        recorder.function = turn.cancel
        async with turn:
            assert [TextDelta("done")] == [event async for event in turn]
        assert Completed() == turn.outcome
        assert "cancel" not in runtime.names()
    causes = [r.data["cause"] for r in recorder.records if r.name == "cause"]
    assert ["response", "user"] == causes


async def test_a_cancel_before_the_response_in_one_pass_stops_the_turn(autojump_clock: MockClock) -> None:
    """The cancel is logged, then, in the same step, the adapter returns: the cancel was first, no `cancel` is sent."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (_manager, session):
        turn = session.turn("x")
        runtime.turn = [Run(lambda sink: turn.cancel("first")), Done()]
        async with turn:
            assert [] == [event async for event in turn]
        assert Stopped(by="user", reason="first", agent_stop_reason="end_turn") == turn.outcome
        assert "cancel" not in runtime.names()


# -- at every step ---------------------------------------------------------------


SCENARIOS: dict[str, Callable[[], FakeRuntime]] = {
    "prompt": lambda: FakeRuntime([TextDelta("a"), Sleep(1), TextDelta("b")]),
    "hung run": lambda: FakeRuntime([TextDelta("a"), Hang()]),
    "hung cancel": lambda: FakeRuntime([Hang()], cancel=[Hang()]),
    "slow": lambda: FakeRuntime([Sleep(1)], ensure=[Sleep(1)], cancel=[Sleep(0.05)], close=[Sleep(1)]),
    "failing": lambda: FakeRuntime([Sleep(1), Raise(OSError("gone"))]),
    "retried": lambda: FakeRuntime(_retried_once([])),
}


def _retried_once(tried: list[int]) -> Callable[[object], list[Step]]:
    def steps(request: object) -> list[Step]:
        tried.append(1)
        return [Raise(BackendUnavailable("not yet", retryable=True))] if len(tried) == 1 else [Sleep(1)]

    return steps


@pytest.mark.parametrize("mode", ["persistent", "oneshot"])
@pytest.mark.parametrize("by", ["user", "caller", "shutdown"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_stop_at_every_step_keeps_every_promise(name: str, by: str, mode: Mode) -> None:
    """Wherever the stop falls: the bound, one outcome, one cancel, nothing submitted after it, no task left."""
    for after in (True, False):
        for n in range(1, 200):
            if not stop_at_step(name, by, mode, n, after=after):
                break
        else:
            pytest.fail("the scenario has more steps than expected")
        assert n > 5


def stop_at_step(name: str, by: str, mode: Mode, n: int, *, after: bool) -> bool:
    """Run a scenario with a stop at its n-th step; say whether it had so many."""
    runtime = SCENARIOS[name]()
    recorder = Watched()
    settled: list[float] = []
    stops: list[Callable[[], object]] = []
    began: list[float] = []

    def stop() -> None:
        began.append(trio.current_time())
        stops[0]()

    at_step = AtStep(n, stop, after=after)

    async def main() -> None:
        try:
            with trio.CancelScope() as shutdown:
                async with one_session(runtime, mode=mode, instrument=recorder) as (_manager, session):
                    await session.close()
                    turn = session.turn("x")
                    with trio.CancelScope() as scope:
                        stops.append({"user": turn.cancel, "caller": scope.cancel, "shutdown": shutdown.cancel}[by])
                        try:
                            at_step.armed = True
                            async with turn:
                                async for _ in turn:
                                    pass
                        except (TurnFailed, TurnTimedOut):
                            pass
                        finally:
                            at_step.armed = False
                            settled.append(trio.current_time())
                    assert (turn.outcome is None) == ("admitted" not in recorder.names())
        finally:
            assert [] == our_tasks()

    run_virtual(main, at_step)
    assert set() == runtime.open
    assert [] == recorder.broken
    assert set(runtime.most_at_once.values()) <= {1}
    check_trace(recorder)
    if at_step.fired:
        assert settled[0] - began[0] <= 2 * C + 2 * J + 1e-9
    return at_step.fired


@pytest.mark.breaks_the_model("its caller settles the turn, as it would if the clock jumped")
async def test_what_its_caller_could_not_wait_for_is_tidied_up_all_the_same(autojump_clock: MockClock) -> None:
    """A caller whose own bound is over settles its turn; the actor goes on, and closes what is to be closed."""
    runtime = FakeRuntime([Hang()])

    class Impatient(Recorder):
        def record(self, record: TraceRecord) -> None:
            super().record(record)
            if record.name == "cause" and record.data["cause"] == "caller":
                state = manager._ctx.queue.current("once")
                assert isinstance(state, TurnState)
                settle(manager._ctx, state, Stopped(by="caller"))

    trace = Impatient()
    async with open_session_manager({"fake": runtime}, settings=SETTINGS, instrument=trace) as manager:
        session = await manager.start_session("once", agent="fake", mode="oneshot")
        with trio.move_on_after(1) as scope:
            await session.prompt("x")
        assert scope.cancelled_caught
        await trio.sleep(2 * C + 2 * J)  # as long as the ladder may take
        assert ["cancel", "close"] == runtime.names()[-2:]
        assert set() == runtime.open
        runtime.turn = []
        await session.prompt("and the next one")
    assert 1 == trace.names().count("decided")
