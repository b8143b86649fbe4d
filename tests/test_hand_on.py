"""The lane that is handed on: whatever stops a turn, and whatever its adapter does in the task that it keeps."""

from __future__ import annotations

import inspect
import signal
import sys
from contextlib import suppress
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.turn_kit import (
    LIMITS,
    OWN_TASKS,
    AwkwardStore,
    C,
    OnRecord,
    OnTask,
    Recorder,
    check_trace,
    installed,
    one_session,
    our_tasks,
    run_virtual,
)
from trio_acp import Failed, Settings, Stopped, TextDelta, TurnError, TurnFailed, TurnTimedOut
from trio_acp._actor import Actor
from trio_acp._turn_state import TurnState
from trio_acp.abc import Done
from trio_acp.testing import FakeRuntime, Hang, Raise, Sleep, Swallow

if TYPE_CHECKING:
    from types import FrameType

    from trio.testing import MockClock

    from trio_acp import Outcome, Turn
    from trio_acp._trace import TraceRecord
    from trio_acp.abc import EventSink, Handle, Mode, TurnRequest
    from trio_acp.testing.fake import Step

pytestmark = pytest.mark.concurrency


class Unprotected(Recorder):
    """Notes what is told while Ctrl-C may interrupt whoever tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def record(self, record: TraceRecord) -> None:
        super().record(record)
        if not trio.lowlevel.currently_ki_protected():
            self.found.append(f"{record.name} {record.data.get('cause', '')}".strip())


async def test_ctrl_c_does_not_come_between_a_cause_and_its_consequence(autojump_clock: MockClock) -> None:
    """A turn is admitted, withdrawn or stopped, by caller, deadline or exit, in a step that Ctrl-C does not cut."""
    recorder = Unprotected()
    runtime = FakeRuntime([Hang(stops=True)])
    async with trio.open_nursery() as nursery, one_session(runtime, instrument=recorder) as (_manager, session):
        async with session.turn("is stopped") as turn:
            await wait_all_tasks_blocked()
            turn.cancel()
        async with session.turn("is left"):
            await wait_all_tasks_blocked()
        with pytest.raises(TurnTimedOut):
            await session.prompt("times out")
        async with trio.open_nursery() as others:
            others.start_soon(session.prompt, "runs")
            await wait_all_tasks_blocked()
            async with session.turn("is withdrawn"):
                pass
            await session.cancel()
        for text in ("runs at the exit", "waits at the exit"):
            nursery.start_soon(session.prompt, text)
            await wait_all_tasks_blocked()
    assert {"user", "left", "deadline", "shutdown"} <= {record.data.get("cause") for record in recorder.records}
    assert 2 == recorder.names().count("withdrawn")
    assert [] == recorder.found


async def test_ctrl_c_does_not_leave_a_lane_without_its_actor(autojump_clock: MockClock) -> None:
    """Whatever is admitted, its actor is started in a step that Ctrl-C does not cut."""
    protected: list[bool] = []

    def started() -> None:
        protected.append(trio.lowlevel.currently_ki_protected())

    async with one_session(FakeRuntime()) as (_manager, session):
        for use in (session.prompt("x"), session.status(), session.close()):
            with installed(OnTask("trio_acp actor k", started, spawned=True)):
                await use
    assert [True] * 3 == protected


def test_ctrl_c_in_the_step_of_an_admission_finds_the_turn_entered() -> None:
    """It comes at the next checkpoint, which is in the block: so the turn is left, and told to stop, by the block."""
    outcomes: list[Outcome | None] = []

    async def main() -> None:
        recorder = OnRecord("admitted", lambda: signal.raise_signal(signal.SIGINT))
        async with one_session(FakeRuntime([Hang(stops=True)]), instrument=recorder) as (_manager, session):
            turn = session.turn("x")
            try:
                async with turn:
                    await trio.sleep_forever()
            finally:
                outcomes.append(turn.outcome)

    with pytest.raises(KeyboardInterrupt):
        run_virtual(main)
    assert [Stopped(by="left", agent_stop_reason="cancelled")] == outcomes


def test_ctrl_c_while_an_event_is_waited_for_comes_alone() -> None:
    """Whichever line of the waiting or of the waking the signal comes in: the turn is left, and nothing breaks."""
    lines = 0
    codes = {inspect.unwrap(f).__code__ for f in (TurnState.next_event, TurnState._tell_consumer)}

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if frame.f_code not in codes:
            return None
        if event == "line":
            lines -= 1
            if lines == 0:
                signal.raise_signal(signal.SIGINT)
        return trace

    async def main() -> None:
        runtime = FakeRuntime([Sleep(1), TextDelta("a"), Sleep(1), TextDelta("b")])
        async with one_session(runtime) as (_manager, session), session.turn("x") as turn:
            async for _ in turn:
                pass

    def pressed_at(line: int) -> bool:
        nonlocal lines
        lines, before = line, sys.gettrace()
        sys.settrace(trace)
        try:
            run_virtual(main)
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    assert 20 < next(line for line in count(1) if not pressed_at(line))


class Loud(FakeRuntime):
    """Says more than its consumer can take, once it is cancelled."""

    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        try:
            return await super().run_turn(request, events)
        finally:
            for _ in range(2):
                events.send(TextDelta("much"))


@pytest.mark.breaks_the_model("its turn is put into the lane by hand")
async def test_an_actor_has_no_say_in_a_turn_that_it_has_handed_on(autojump_clock: MockClock) -> None:
    """It is cancelled, as nothing of ours ever does, in the step in which it hands on: the turn ends as decided."""
    settings = Settings(limits=LIMITS, max_buffered=1)
    async with one_session(Loud([Hang()]), settings=settings) as (_manager, session):
        turn = session.turn("x")
        assert session._ctx.queue.admit("k", turn._state)
        with trio.move_on_after(1) as scope:
            await Actor(session._ctx, "k").serve()
        assert (True, 1) == (scope.cancelled_caught, trio.current_time())
        await turn._state.settled.wait()
        assert isinstance(turn.outcome, Failed)
        assert "consumer-too-slow" == turn.outcome.error.detail


async def test_a_cause_in_the_step_that_begins_a_write_ends_it_at_once(autojump_clock: MockClock) -> None:
    """Everything is prepared, a cause comes, and the store does not answer: that costs `cleanup` once, not twice."""
    store = AwkwardStore()
    recorder = OnRecord("ready")
    async with one_session(FakeRuntime(), store=store, instrument=recorder) as (_manager, session):
        turn = session.turn("x")

        def stop() -> None:
            store.hang_update = True
            turn.cancel()

        recorder.function = stop
        async with turn:
            async for _ in turn:
                pass
        assert (Stopped(by="user", reason="cancelled by the user"), C) == (turn.outcome, trio.current_time())


TENANT: ContextVar[str] = ContextVar("TENANT", default="nobody")


class Tenants(FakeRuntime):
    """Notes for whom it is called."""

    def __init__(self) -> None:
        super().__init__([Hang(stops=True)])
        self.served: list[tuple[str, str]] = []

    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        self.served.append(("run_turn", TENANT.get()))
        return await super().run_turn(request, events)

    async def cancel(self, handle: Handle, reason: str) -> None:
        self.served.append(("cancel", TENANT.get()))
        await super().cancel(handle, reason)


@pytest.mark.parametrize("by", ["deadline", "user"])
async def test_a_turn_is_stopped_in_the_context_in_which_it_ran(by: str, autojump_clock: MockClock) -> None:
    """Whoever stops a turn, the adapter finds the context variables of the task that began it, to the lane's end."""
    runtime = Tenants()
    async with one_session(runtime) as (_manager, session):

        async def prompt(timeout: float) -> None:
            TENANT.set("a tenant")
            if by == "user":
                await session.prompt("x")
            else:
                with pytest.raises(TurnTimedOut):
                    await session.prompt("x", timeout=timeout)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(prompt, 1)
            await wait_all_tasks_blocked()
            nursery.start_soon(prompt, 10)
            await wait_all_tasks_blocked()
            TENANT.set("another")
            if by == "user":
                await session.cancel()
        assert ("cancel", "a tenant") in runtime.served
        assert {"a tenant"} == {tenant for _, tenant in runtime.served}


class Careless(FakeRuntime):
    """Leaves a cancel scope without leaving it."""

    def __init__(self) -> None:
        super().__init__([Sleep(1)])
        self.scopes: list[trio.CancelScope] = []

    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        self.scopes.append(trio.CancelScope(deadline=trio.current_time() + 1.5))
        self.scopes[-1].__enter__()
        return await super().run_turn(request, events)


async def test_a_scope_that_an_adapter_does_not_leave_ends_with_its_turn(autojump_clock: MockClock) -> None:
    """The turns after it, in the same task, are not cancelled by it."""
    async with one_session(Careless()) as (manager, session):
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(session.prompt, "x")
        assert (4, 4) == (manager.statistics().completed, trio.current_time())


class StopsAtNth(Recorder):
    """Stops turns in the step in which it is told the n-th thing from now on, of whatever kind."""

    events = True
    last = 0

    def expect(self, n: int, turns: list[Turn]) -> None:
        self.last, self.stopped = len(self.records) + n, turns

    def record(self, record: TraceRecord) -> None:
        super().record(record)
        if len(self.records) == self.last:
            for turn in self.stopped:
                turn.cancel()


@pytest.mark.parametrize("mode", ["persistent", "oneshot"])
@pytest.mark.parametrize(
    "steps", [[TextDelta("x"), Hang(stops=True)], [Swallow(20)], [Raise(TurnFailed("not begun", retryable=True))]]
)
async def test_a_stop_in_whatever_is_told(steps: list[Step], mode: Mode, autojump_clock: MockClock) -> None:
    """An instrument stops two turns in any step that it hears of: they settle in time, and nothing stays."""
    runtime = FakeRuntime(steps)
    n, told = 0, 1
    while n < told:
        n += 1
        recorder = StopsAtNth()
        async with one_session(runtime, mode=mode, instrument=recorder) as (manager, session):
            turns = [session.turn(text) for text in ("first", "second")]
            before = len(recorder.records)
            recorder.expect(n, turns)

            async def run(turn: Turn) -> None:
                with suppress(TurnError):
                    async with turn:
                        async for _ in turn:
                            pass

            async with trio.open_nursery() as nursery:
                for turn in turns:
                    nursery.start_soon(run, turn)
            told = len(recorder.records) - before
            assert None not in [turn.outcome for turn in turns]
            assert (2, 0) == (manager.statistics().submitted, manager.statistics().depth)
            await trio.sleep(20)
            assert OWN_TASKS == sorted(our_tasks())
        check_trace(recorder)


class Prompt(FakeRuntime):
    """Answers without a checkpoint."""

    begun = 0

    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        self.begun += 1
        return Done()


async def test_others_run_between_two_turns_of_a_lane(autojump_clock: MockClock) -> None:
    """Also if no adapter and no store ever waits: the first caller goes on before the third turn has begun."""
    runtime = Prompt()
    begun: list[int] = []
    async with one_session(runtime) as (_manager, session):

        async def prompt() -> None:
            await session.prompt("x")
            begun.append(runtime.begun)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(prompt)
    assert begun[0] <= 2
    assert 10 == runtime.begun


async def test_a_turn_may_be_withdrawn_while_its_causes_are_told(autojump_clock: MockClock) -> None:
    """Stopped twice before it is entered, and by the instrument that hears of the first: it ends as the first says."""
    recorder = OnRecord("cause")
    async with one_session(FakeRuntime(), instrument=recorder) as (_manager, session):
        turn = session.turn("x")
        recorder.function = turn.cancel
        turn.cancel("first")
        turn.cancel("second")
        async with turn:
            assert [] == [event async for event in turn]
        assert Stopped(by="user", reason="first") == turn.outcome


class Unspeakable(TurnFailed):
    """Cannot be told to an instrument."""

    def __str__(self) -> str:
        raise ValueError("no words")


class Stumbling(FakeRuntime):
    """Obeys a stop, and then fails."""

    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        await super().run_turn(request, events)
        raise Unspeakable("x")


async def test_what_goes_wrong_after_the_lane_was_handed_on_decides_nothing(autojump_clock: MockClock) -> None:
    """The adapter's end cannot even be put on record: the turn, which somebody has stopped, is stopped."""
    async with one_session(Stumbling([Hang(stops=True)]), instrument=Recorder()) as (_manager, session):
        async with session.turn("x") as turn:
            await wait_all_tasks_blocked()
            turn.cancel("enough")
        assert Stopped(by="user", reason="enough") == turn.outcome
