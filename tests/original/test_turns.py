"""Turns, as the original's own tests have them: order, deadlines, cancellation, failures, what is written when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.original.kit import KEY, HangingDiary, in_turn, manager_with, record, requests
from tests.turn_kit import OWN_TASKS, SETTINGS, C, G, J, OnRecord, Recorder, check_trace, our_tasks
from trio_acp import (
    BackendUnavailable,
    Completed,
    Failed,
    RuntimeOptions,
    Session,
    SessionInitFailed,
    Stopped,
    TextDelta,
    TurnFailed,
    TurnTimedOut,
    open_session_manager,
)
from trio_acp.abc import Done
from trio_acp.testing import FakeRuntime, Hang, Raise, Run, Sleep, Swallow

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_acp import Outcome
    from trio_acp.testing.fake import Step

pytestmark = pytest.mark.concurrency

ONE_SECOND = RuntimeOptions(timeout_seconds=1)


async def expect_timeout(session: Session, caught: list[TurnTimedOut]) -> None:
    with pytest.raises(TurnTimedOut) as error:
        await session.prompt("hangs")
    caught.append(error.value)


async def keep_outcome(session: Session, outcomes: dict[str, Outcome], text: str) -> None:
    outcomes[text] = (await session.prompt(text)).outcome


# -- waiting ------------------------------------------------------------------


async def test_a_caller_that_gives_up_in_the_queue_leaves_it_at_once(autojump_clock: MockClock) -> None:
    """It gets its own cancellation in zero seconds; the depth falls there and then; the backend sees one turn."""
    runtime = FakeRuntime([Sleep(4)])
    async with manager_with(runtime, record()) as (manager, _), trio.open_nursery() as nursery:
        session = manager.session(KEY)
        nursery.start_soon(session.prompt, "first")
        await wait_all_tasks_blocked()
        with trio.move_on_after(1) as scope:
            await session.prompt("second")
        assert (True, 1) == (scope.cancelled_caught, trio.current_time())
        assert (1, 1) == (manager.statistics().depth, manager.statistics().stopped)
        assert 0 == (await session.status()).queued
    assert 0 == manager.statistics().depth
    assert 1 == runtime.names().count("run_turn")


async def test_nothing_is_kept_of_a_lane_that_is_not_used(autojump_clock: MockClock) -> None:
    """After turns on two sessions no lane and no task of theirs is left, only what belongs to the manager."""
    async with manager_with(FakeRuntime(), record("a"), record("b")) as (manager, _):
        async with trio.open_nursery() as nursery:
            for key in "ab":
                nursery.start_soon(manager.session(key).prompt, "x")
        await wait_all_tasks_blocked()
        assert () == manager._ctx.queue.busy()
        assert OWN_TASKS == sorted(our_tasks())


# -- deadlines ----------------------------------------------------------------


@pytest.mark.parametrize("said", ["", "some progress"])
async def test_a_turn_that_hangs_times_out_and_the_next_one_runs_on_the_same_handle(
    said: str, autojump_clock: MockClock
) -> None:
    """Also if it had said something: that is kept, and is no success; the agent is asked to stop once, never closed."""
    first: list[Step] = [TextDelta(said)] if said else []
    runtime = FakeRuntime(in_turn([*first, Hang()], []))
    caught: list[TurnTimedOut] = []
    async with manager_with(runtime, record(options=ONE_SECOND)) as (manager, store):
        session = manager.session(KEY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_timeout, session, caught)
            await wait_all_tasks_blocked()
            assert Completed() == (await session.prompt("queued")).outcome
        assert pytest.approx(1 + G + J) == trio.current_time()
        assert (said, "finished") == (caught[0].partial, caught[0].cleanup)
        names = runtime.names()
        assert (1, 2, 0) == (names.count("ensure_session"), names.count("run_turn"), names.count("close"))
        assert (["turn-timeout"], {KEY: 1}) == (requests(runtime, "cancel"), runtime.most_at_once)
        assert ["running", "error", "running", "idle"] == store.states()
        counts = manager.statistics()
        assert (1, 0, 0) == (counts.open_handles, counts.active, counts.depth)
        assert (1, 1, 0) == (counts.completed, counts.timed_out, counts.failed)


async def test_a_timeout_longer_than_any_timer_does_not_pass_at_once(autojump_clock: MockClock) -> None:
    """A stored timeout of 2**53 - 1 seconds, which no rule of today would accept, is a very distant deadline."""
    runtime = FakeRuntime([Sleep(100_000)])
    async with manager_with(runtime, record(options=RuntimeOptions(timeout_seconds=2**53 - 1))) as (manager, _):
        assert Completed() == (await manager.session(KEY).prompt("x")).outcome
    assert 100_000 == trio.current_time()


# -- how turns end ------------------------------------------------------------


async def test_turns_are_counted_with_their_time_and_their_error(autojump_clock: MockClock) -> None:
    """One good, one that raises: each in its column, the code of the error, seconds in total and at most."""
    runtime = FakeRuntime(in_turn([Sleep(1)], [Sleep(3), Raise(OSError("boom"))]))
    async with manager_with(runtime, record()) as (manager, _):
        session = manager.session(KEY)
        await session.prompt("good")
        with pytest.raises(TurnFailed):
            await session.prompt("bad")
        counts = manager.statistics()
        assert (1, 1, 0, 0) == (counts.completed, counts.failed, counts.active, counts.depth)
        assert {"ACP_TURN_FAILED": 1} == counts.errors_by_code
        assert (4, 3) == (counts.latency_total, counts.latency_max)


async def test_what_an_adapter_raises_after_its_last_event_fails_the_turn(autojump_clock: MockClock) -> None:
    """Only what `run_turn` returns ends a turn well; a failure after everything was said is a failure."""
    runtime = FakeRuntime([TextDelta("all of it"), Raise(OSError("the agent went away"))])
    async with manager_with(runtime, record()) as (manager, store):
        with pytest.raises(TurnFailed, match="the agent went away") as caught:
            await manager.session(KEY).prompt("x")
        assert "all of it" == caught.value.partial
        assert ["running", "error"] == store.states()
        assert "the agent went away" in str(store.stored().last_error)


async def test_an_error_of_an_adapter_keeps_its_words_and_its_cause(autojump_clock: MockClock) -> None:
    """Foreign errors get the code of where they happened: of the turn, or of the opening."""
    boom = OSError("boom")
    runtime = FakeRuntime(in_turn([Raise(boom)]))
    async with manager_with(runtime, record()) as (manager, _):
        with pytest.raises(TurnFailed, match="boom") as caught:
            await manager.session(KEY).prompt("x")
        assert ("ACP_TURN_FAILED", boom) == (caught.value.code, caught.value.__cause__)
        runtime.ensure = [Raise(boom)]
        with pytest.raises(SessionInitFailed, match="boom") as refused:
            await manager.start_session("other", agent="codex")
        assert ("ACP_SESSION_INIT_FAILED", boom) == (refused.value.code, refused.value.__cause__)


async def test_a_session_that_cannot_be_opened_is_in_error_and_never_running(autojump_clock: MockClock) -> None:
    """The turn's error names the opening; `running` is written only when there is something to run on."""
    runtime = FakeRuntime(ensure=[Raise(OSError("no such program"))])
    async with manager_with(runtime, record()) as (manager, store):
        with pytest.raises(TurnFailed, match="no such program") as caught:
            await manager.session(KEY).prompt("x")
        assert isinstance(caught.value.__cause__, SessionInitFailed)
        assert ["error"] == store.states()
        assert {"ACP_SESSION_INIT_FAILED": 1} == manager.statistics().errors_by_code


async def test_a_session_is_never_in_error_between_two_attempts(autojump_clock: MockClock) -> None:
    """The retry is part of the turn: what is written is `running` and, in the end, `idle`."""
    failed = BackendUnavailable("gone before it began", retryable=True)
    runtime = FakeRuntime(in_turn([Raise(failed)], []))
    async with manager_with(runtime, record()) as (manager, store):
        assert Completed() == (await manager.session(KEY).prompt("x")).outcome
        names = runtime.names()
        assert (2, 2) == (names.count("ensure_session"), names.count("run_turn"))
        assert ({"running", "idle"}, "idle") == (set(store.states()), store.states()[-1])


async def test_an_answer_of_cancelled_is_no_error(autojump_clock: MockClock) -> None:
    """The agent stopped by itself: iteration ends normally after what it said, and the session is idle."""
    runtime = FakeRuntime([TextDelta("a"), Done(stop_reason="cancelled")])
    async with manager_with(runtime, record()) as (manager, store):
        async with manager.session(KEY).turn("x") as turn:
            assert [TextDelta("a")] == [event async for event in turn]
        assert Stopped(by="agent", agent_stop_reason="cancelled") == turn.outcome
        assert ["running", "idle"] == store.states()
        assert (1, 0) == (manager.statistics().stopped, manager.statistics().failed)


async def test_a_turn_without_a_terminal_answer_leaves_the_session_in_error(autojump_clock: MockClock) -> None:
    """However much it said: an adapter that returns without a word of how it ended has failed."""

    class Silent(FakeRuntime):
        async def run_turn(self, *args: Any) -> Any:
            await super().run_turn(*args)

    async with manager_with(Silent([TextDelta("a")]), record()) as (manager, store):
        with pytest.raises(TurnFailed) as caught:
            await manager.session(KEY).prompt("x")
        assert ("no-terminal-event", "a") == (caught.value.detail, caught.value.partial)
        assert ["running", "error"] == store.states()


# -- cancelling ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("manners", "seconds"), [("ends", 0), ("raises", 0), ("ends late", 1), ("ignores", J), ("hangs", C)]
)
async def test_cancelling_a_running_turn_leaves_the_session_idle(
    manners: str, seconds: float, autojump_clock: MockClock
) -> None:
    """Whatever the agent does when it is asked: one `cancel` with the words given, `Stopped`, and no error stored.

    It returns when the turn has settled, within its one budget.
    """
    asked = trio.Event()

    class Agent(FakeRuntime):
        async def run_turn(self, *args: Any) -> Any:
            if manners == "raises":
                await asked.wait()
                raise OSError("aborted")
            return await super().run_turn(*args)

    how: dict[str, list[Step]] = {"ends late": [Sleep(1)], "hangs": [Hang()]}
    runtime = Agent(
        [Hang(stops=manners.startswith("ends"))], cancel=[Run(lambda _: asked.set()), *how.get(manners, [])]
    )
    outcomes: dict[str, Outcome] = {}
    async with manager_with(runtime, record()) as (manager, store):
        session = manager.session(KEY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_outcome, session, outcomes, "x")
            await wait_all_tasks_blocked()
            assert 1 == await session.cancel("enough")
            assert seconds == pytest.approx(trio.current_time())
            assert (1, 0) == (manager.statistics().stopped, manager.statistics().active)
            assert "idle" == store.stored().state
        assert isinstance(outcomes["x"], Stopped)
        assert ("user", "enough") == (outcomes["x"].by, outcomes["x"].reason)
        assert ["enough"] == requests(runtime, "cancel")
        assert ["running", "idle"] == store.states()


async def test_cancel_stops_what_was_admitted_before_it_and_nothing_else(autojump_clock: MockClock) -> None:
    """Waiting turns settle at once, without the lane; one that is admitted while the running one is stopped runs."""
    runtime = FakeRuntime(in_turn([Hang()], []), cancel=[Sleep(1)])
    outcomes: dict[str, Outcome] = {}
    recorder = Recorder()
    async with open_session_manager({"codex": runtime}, settings=SETTINGS, instrument=recorder) as manager:
        session = await manager.start_session(KEY, agent="codex")
        async with trio.open_nursery() as nursery:
            for text in ("running", "waiting"):
                nursery.start_soon(keep_outcome, session, outcomes, text)
                await wait_all_tasks_blocked()
            nursery.start_soon(session.cancel)
            await wait_all_tasks_blocked()
            assert (["waiting"], 0) == (list(outcomes), trio.current_time())
            nursery.start_soon(keep_outcome, session, outcomes, "later")
        assert [Stopped, Stopped, Completed] == [type(outcomes[text]) for text in ("waiting", "running", "later")]
    assert ["running", "later"] == [request.prompt[0].text for request in requests(runtime, "run_turn")]
    check_trace(recorder)


@pytest.mark.parametrize("where", ["opening", "asking", "telling", "marking", "submitting"])
async def test_a_turn_that_is_stopped_before_its_prompt_never_sends_it(where: str, autojump_clock: MockClock) -> None:
    """In every step of the preparation, and in the last moment before the prompt: no `run_turn`, and at once."""

    class Hangs(FakeRuntime):
        async def capabilities(self, handle: Any) -> Any:
            if where == "asking":
                await trio.sleep_forever()
            return await super().capabilities(handle)

    runtime = Hangs(ensure=[Hang()] if where == "opening" else [], controls=[Hang()] if where == "telling" else [])
    store = HangingDiary(record(options=RuntimeOptions(mode="plan")))
    if where == "marking":
        store.hanging = {"running"}
    recorder = OnRecord("ready" if where == "submitting" else "")
    async with open_session_manager({"codex": runtime}, store=store, instrument=recorder) as manager:
        turn = manager.session(KEY).turn("x")
        recorder.function = turn.cancel
        async with turn, trio.open_nursery() as nursery:
            if where != "submitting":
                await wait_all_tasks_blocked()
                nursery.start_soon(manager.session(KEY).cancel)
            assert [] == [event async for event in turn]
        assert Stopped(by="user", reason="cancelled by the user") == turn.outcome
        assert not {"run_turn", "cancel"} & set(runtime.names())
        assert (0, 0) == (manager.statistics().active, trio.current_time())


async def test_cancel_waits_until_a_turn_that_is_being_opened_has_settled(autojump_clock: MockClock) -> None:
    """The opening is given up, `join` for an adapter that resists; what it opens late is closed, never prompted."""
    runtime = FakeRuntime(ensure=[Swallow(5)])
    outcomes: dict[str, Outcome] = {}
    async with manager_with(runtime, record()) as (manager, _):
        session = manager.session(KEY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_outcome, session, outcomes, "x")
            await wait_all_tasks_blocked()
            assert 1 == await session.cancel("no")
            assert (1, J) == (manager.statistics().stopped, trio.current_time())
        assert Stopped(by="user", reason="no") == outcomes["x"]
        await trio.sleep(10)
        assert ["ensure_session", "close"] == runtime.names()
        assert (set(), ["late"]) == (runtime.open, requests(runtime, "close"))


async def test_a_backend_that_fails_to_stop_changes_no_outcome_and_loses_its_handle(autojump_clock: MockClock) -> None:
    """The cause decides the turn; that `cancel` failed is why the next turn runs on another handle."""
    runtime = FakeRuntime(in_turn([Hang()], []), cancel=[Raise(OSError("broken pipe"))])
    outcomes: dict[str, Outcome] = {}
    async with manager_with(runtime, record()) as (manager, store):
        session = manager.session(KEY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_outcome, session, outcomes, "x")
            await wait_all_tasks_blocked()
            assert 1 == await session.cancel("no")
        assert (Stopped(by="user", reason="no"), "idle") == (outcomes["x"], store.states()[-1])
        assert 1 == manager.statistics().suspects
        await session.prompt("y")
        assert ["suspect"] == requests(runtime, "close")
        assert [1, 2] == [getattr(call.handle, "number", 0) for call in runtime.calls if call.name == "run_turn"]


async def test_a_turn_that_was_closed_is_not_tried_again(autojump_clock: MockClock) -> None:
    """An opening that fails retryably after the session was closed is not repeated, nor is the turn."""
    runtime = FakeRuntime()
    async with manager_with(runtime, record()) as (manager, _):
        session = manager.session(KEY)
        turn = session.turn("x")
        failed = BackendUnavailable("gone", retryable=True)
        runtime.ensure = [Run(lambda _: turn.cancel("closed")), Raise(failed)]
        async with turn:
            assert [] == [event async for event in turn]
        assert isinstance(turn.outcome, Stopped)
        assert ["ensure_session"] == runtime.names()


async def test_close_while_a_turn_is_told_its_options_ends_it_without_a_prompt(autojump_clock: MockClock) -> None:
    """The turn is stopped by `closed`, its handle is closed, and nothing of it runs afterwards."""
    runtime = FakeRuntime(controls=[Hang()])
    outcomes: dict[str, Outcome] = {}
    async with manager_with(runtime, record(options=RuntimeOptions(mode="plan"))) as (manager, _):
        session = manager.session(KEY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_outcome, session, outcomes, "x")
            await wait_all_tasks_blocked()
            assert (await session.close("new one")).closed
        assert Stopped(by="closed", reason="new one") == outcomes["x"]
        assert "run_turn" not in runtime.names()
        assert (False, 0) == (manager.is_live(KEY), trio.current_time())


async def test_a_reset_gets_through_to_a_session_whose_agent_is_stuck(autojump_clock: MockClock) -> None:
    """`cancel` and `close` resist for long: the session is usable again within their budgets, and stays as it is."""
    runtime = FakeRuntime([Hang()], cancel=[Swallow(50)], close=[Swallow(50)])
    outcomes: dict[str, Outcome] = {}
    async with manager_with(runtime, record()) as (manager, store):
        session = manager.session(KEY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_outcome, session, outcomes, "x")
            await wait_all_tasks_blocked()
            await session.cancel()
        runtime.turn = []
        await manager.start_session(KEY, agent="codex", fresh=True)
        assert trio.current_time() <= 2 * (C + J) + 1e-6
        assert Completed() == (await session.prompt("y")).outcome
        written = list(store.written)
        await trio.sleep(100)
        assert written == store.written
        assert (0, "fake-2") == (manager.statistics().stragglers_now, store.stored().session_id)


async def test_an_observer_that_fails_is_not_the_backends_failure(autojump_clock: MockClock) -> None:
    """The body's own error leaves as it is; the turn is stopped by `left`, whatever type the error has."""
    runtime = FakeRuntime([TextDelta("a"), Hang(stops=True)])
    mine = SessionInitFailed("mine, and no turn's")
    async with manager_with(runtime, record()) as (manager, store):
        turn = manager.session(KEY).turn("x")
        with pytest.raises(SessionInitFailed) as caught:
            async with turn:
                async for _ in turn:
                    raise mine
        assert mine is caught.value
        assert not isinstance(turn.outcome, Failed)
        assert (["running", "idle"], {}) == (store.states(), manager.statistics().errors_by_code)
