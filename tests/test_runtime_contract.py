"""The laws of `trio_acp.abc.Runtime`, kept by every runtime of ours, and what the kit says of those that break them."""

from __future__ import annotations

import subprocess
import sys
import unittest
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock

from trio_acp import AcpRuntime, BackendUnavailable, ConnectionLost, TextDelta
from trio_acp._service import shielded
from trio_acp.abc import Capabilities, Done
from trio_acp.testing import FakeRuntime, Hang, Raise, Run, RuntimeContract, ScriptedAgent, Sleep, Swallow, dial_agent
from trio_acp.testing._contract import NOTHING_IS_LEFT
from trio_acp.testing._runtime_steps import ONE_DONE, STOPPED
from trio_acp.transports import dial_stdio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio_acp.abc import EnsureRequest, EventSink, Handle, Runtime, Transport, TurnRequest
    from trio_acp.testing.fake import Step

AGENT = [sys.executable, "-m", "trio_acp.testing.agent"]


def text_of(request: TurnRequest) -> str:
    (block,) = request.prompt
    return str(getattr(block, "text", ""))


def script(request: TurnRequest) -> list[Step]:
    """Do what the kit's own prompts say."""
    last: dict[str, list[Step]] = {"work": [Hang(stops=True)], "fail": [Raise(ConnectionLost("it has hung up"))]}
    return [TextDelta("x"), *last.get(text_of(request), [])]


class HangsUp:
    """An agent that is never there for long."""

    async def serve(self, transport: Transport) -> None:
        await transport.aclose()


class TestFake(RuntimeContract):
    faulty = ("fail",)
    resumes = True

    def clock(self) -> MockClock:
        return MockClock(autojump_threshold=0)

    def make_runtime(self) -> Runtime:
        self.runtime = FakeRuntime(script)
        return self.runtime

    def make_unreachable(self) -> Runtime:
        return FakeRuntime(ensure=[Raise(BackendUnavailable("it is away"))])

    def stops_seen(self) -> int:
        return self.runtime.names().count("cancel")


class TestScriptedAgent(RuntimeContract):
    quick = "say hello"
    slow = "say working; hang"
    faulty = ("error -32603 no", "bad-response", "duplicate-response", "raw {]", "binary 3", "crash", "close")
    resumes = True

    def clock(self) -> MockClock:
        return MockClock(autojump_threshold=0)

    def make_runtime(self) -> Runtime:
        self.agent = ScriptedAgent()
        return AcpRuntime(dial_agent(self.agent))

    def make_unreachable(self) -> Runtime:
        return AcpRuntime(dial_agent(HangsUp()))

    def stops_seen(self) -> int:
        return [received.method for received in self.agent.log].count("session/cancel")


class TestStdio(RuntimeContract):
    quick = "say hello"
    slow = "say working; hang"
    faulty = ("raw {]", "crash 3")
    resumes = True

    @pytest.fixture(autouse=True)
    def _state(self, tmp_path: Path) -> None:
        self.state = str(tmp_path)

    def make_runtime(self) -> Runtime:
        return AcpRuntime(dial_stdio([*AGENT, "--state-dir", self.state]))

    def make_unreachable(self) -> Runtime:
        return AcpRuntime(dial_stdio(["/no/such/agent"]))


# -- planted faults ------------------------------------------------------------


class Swallows(FakeRuntime):
    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        with suppress(trio.Cancelled):
            return await super().run_turn(request, events)
        return Done(stop_reason="cancelled")


class Renames(FakeRuntime):
    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        with suppress(trio.Cancelled):
            return await super().run_turn(request, events)
        raise ConnectionLost("something went wrong")


class SpeaksLate(FakeRuntime):
    sinks: list[EventSink] = []

    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        self.sinks.append(events)
        return await super().run_turn(request, events)

    async def close(self, handle: Handle, reason: str) -> None:
        for sink in self.sinks:
            sink.send(TextDelta("late"))


class WorksOn(FakeRuntime):
    async def cancel(self, handle: Handle, reason: str) -> None:
        await trio.lowlevel.checkpoint()


class Trusts(FakeRuntime):
    answer: dict[str, Done] = {}

    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        await super().run_turn(request, events)
        return self.answer["done"]


class OneHandle(FakeRuntime):
    only: Handle | None = None

    async def ensure_session(self, request: EnsureRequest) -> Handle:
        self.only = self.only or await super().ensure_session(request)
        return self.only


class OneAtATime(FakeRuntime):
    """Holds a lock for the whole of a turn, and whoever opens waits for it."""

    def __init__(self) -> None:
        super().__init__(script)
        self.lock = trio.Lock()

    async def ensure_session(self, request: EnsureRequest) -> Handle:
        async with self.lock:
            return await super().ensure_session(request)

    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        async with self.lock:
            return await super().run_turn(request, events)


class LosesItsPlace(FakeRuntime):
    """Is never the same after an opening that was cancelled."""

    opening = False

    async def ensure_session(self, request: EnsureRequest) -> Handle:
        if self.opening:
            await trio.sleep_forever()
        self.opening = True
        handle = await super().ensure_session(request)
        self.opening = False
        return handle


class LeavesATask(FakeRuntime):
    async def close(self, handle: Handle, reason: str) -> None:
        trio.lowlevel.spawn_system_task(trio.sleep_forever)


def start_child(code: str = "input()") -> subprocess.Popen[bytes]:
    """Start a process that ends with its standard input."""
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)


class LeavesAProcess(FakeRuntime):
    child: subprocess.Popen[bytes] | None = None

    async def ensure_session(self, request: EnsureRequest) -> Handle:
        self.child = self.child or start_child()
        return await super().ensure_session(request)


class LeavesAGrandchild(FakeRuntime):
    """What it started has ended, and was waited for; what that one started has not."""

    child: subprocess.Popen[bytes] | None = None

    async def ensure_session(self, request: EnsureRequest) -> Handle:
        if self.child is None:
            self.child = start_child("import os; os.fork() or input()")
            self.child.wait()
        return await super().ensure_session(request)


class StopsAll(FakeRuntime):
    async def cancel(self, handle: Handle, reason: str) -> None:
        for other in tuple(self.running):
            await super().cancel(other, reason)


class ClosesInItsOwnTime(FakeRuntime):
    async def close(self, handle: Handle, reason: str) -> None:
        with shielded(2.0):
            await trio.sleep(2.0)


class AnotherId(FakeRuntime):
    async def ensure_session(self, request: EnsureRequest) -> Handle:
        handle = await super().ensure_session(request)
        handle.session_id = f"{handle.session_id}+"
        return handle


class LeavesSlowly(FakeRuntime):
    async def __aexit__(self, *_: object) -> None:
        with shielded(60.0):
            await trio.sleep(60.0)


class WouldNeverLeave(FakeRuntime):
    async def __aexit__(self, *_: object) -> None:
        await trio.sleep_forever()


class LeavesSlowlyIfCancelled(FakeRuntime):
    async def __aexit__(self, *_: object) -> None:
        if trio.current_effective_deadline() < trio.current_time():
            with shielded(40.0):
                await trio.sleep(40.0)


def resists(request: TurnRequest) -> list[Step]:
    return [TextDelta("x"), *([Swallow(20.0)] if text_of(request) == "work" else [])]


def goes_on(request: TurnRequest) -> list[Step]:
    return [TextDelta("x"), *([Sleep(20.0)] if text_of(request) == "work" else [])]


def ends_as_usual(request: TurnRequest) -> list[Step]:
    return [TextDelta("x"), *([Sleep(0.5)] if text_of(request) == "work" else [])]


def breaks(request: TurnRequest) -> list[Step]:
    return [Raise(KeyError("result"))] if text_of(request) == "fail" else script(request)


BROKEN = [
    (OneHandle(script), "handles_are_objects", "returned one handle twice"),
    (LeavesATask(script), "handles_are_objects", "tasks are left at the end: trio.sleep_forever"),
    (LeavesAProcess(script), "handles_are_objects", "processes are left"),
    (LeavesAGrandchild(script), "handles_are_objects", "processes are left"),
    (AnotherId(script), "resumed_or_known", "was to be resumed"),
    (LosesItsPlace(script), "opening_that_is_cancelled", "ensure_session did not end within"),
    (
        FakeRuntime(script, ensure=[Swallow(20.0)]),
        "opening_that_is_cancelled",
        "checkpoints, did not end within 1 s",
    ),
    (FakeRuntime(script), "backend_that_is_away", "opened a session although the backend is away"),
    (FakeRuntime(script, ensure=[Raise(OSError("refused"))]), "backend_that_is_away", "raised OSError('refused')"),
    (FakeRuntime(), "sends_its_events", "sent no event"),
    (FakeRuntime([Sleep(60)]), "sends_its_events", "run_turn did not end within"),
    (SpeaksLate(script), "sends_its_events", "an event came after the turn's end"),
    (Trusts(script), "sends_its_events", "run_turn raised KeyError('done')"),
    (FakeRuntime([Done(stop_reason="cancelled")]), "takes_nothing_more", "as if it had been stopped"),
    (OneAtATime(), "do_not_wait_for_each_other", "ensure_session did not end within"),
    (StopsAll(script), "cancel_stops", "stopped the turn of another handle"),
    (WorksOn(script), "cancel_stops", "the backend was not told to stop"),
    (FakeRuntime(goes_on), "cancel_stops", "run_turn after cancel did not end within 1 s"),
    (FakeRuntime(ends_as_usual), "cancel_stops", "a stopped turn ends as 'cancelled', not 'end_turn'"),
    (FakeRuntime(script, cancel=[Sleep(60)]), "cancel_stops", "cancel did not end within"),
    (SpeaksLate(script), "cancel_stops", "an event came after the turn had been stopped"),
    (FakeRuntime(breaks), "does_wrong", "raised KeyError('result')"),
    (Swallows(script), "is_cancelled_ends", "swallowed trio.Cancelled: it returned Done("),
    (Renames(script), "is_cancelled_ends", "swallowed trio.Cancelled: it raised ConnectionLost("),
    (FakeRuntime(resists), "is_cancelled_ends", "run_turn after it was cancelled did not end within"),
    (SpeaksLate(script), "is_cancelled_ends", "an event came after run_turn had been cancelled"),
    (ClosesInItsOwnTime(script), "cancelled_before_it_begins", "close in a cancelled scope"),
    (WouldNeverLeave(), "sends_its_events", "leaving the runtime took 5.0 s"),
    (LeavesSlowly(script), "leaving_releases", "leaving the runtime took 60.0 s"),
    (LeavesSlowlyIfCancelled(script), "leaving_releases", "leaving the runtime took 40.0 s"),
    (WouldNeverLeave(script), "leaving_releases", "leaving the runtime took 5.0 s"),
    (FakeRuntime(script, offers=Capabilities()), "not_offered", "is not offered, and was accepted"),
    (FakeRuntime(resists, cancel=[Sleep(60)]), "exceeds_its_deadline", "did not stop within"),
    (FakeRuntime([TextDelta("x")]), "exceeds_its_deadline", "ended by itself"),
]


@pytest.mark.breaks_the_model("the runtimes here break the rules")
@pytest.mark.parametrize(("runtime", "law", "said"), BROKEN)
def test_the_kit_names_the_law_that_is_broken(runtime: FakeRuntime, law: str, said: str) -> None:
    """Each planted fault fails the test of its law, with what is wrong and the law itself, in words."""

    class Contract(RuntimeContract):
        faulty = ("fail",)
        resumes = True

        def clock(self) -> MockClock:
            return MockClock(autojump_threshold=0)

        def make_runtime(self) -> Runtime:
            return runtime

        def make_unreachable(self) -> Runtime:
            return runtime

        def stops_seen(self) -> int | None:
            return 0 if isinstance(runtime, WorksOn) else None

    [name] = [name for name in dir(Contract) if name.startswith("test_") and law in name]
    with pytest.raises(AssertionError) as caught:
        getattr(Contract(), name)()
    message, _, cited = str(caught.value).partition("\nThe law: ")
    assert said in message
    assert cited in {getattr(Contract, name).__doc__, NOTHING_IS_LEFT, ONE_DONE, STOPPED}
    if isinstance(runtime, LeavesAProcess | LeavesAGrandchild):
        assert runtime.child is not None
        runtime.child.communicate()


def test_what_a_server_has_still_to_do_is_not_left_by_the_runtime() -> None:
    """A task that the backend starts is its own matter, however long it takes."""

    class Contract(RuntimeContract):
        def clock(self) -> MockClock:
            return MockClock(autojump_threshold=0)

        @asynccontextmanager
        async def backend(self) -> AsyncIterator[None]:
            async with trio.open_nursery() as self.server:
                yield
                self.server.cancel_scope.cancel(reason="the test is over")

        def make_runtime(self) -> Runtime:
            return FakeRuntime([Run(lambda _: self.server.start_soon(trio.sleep_forever)), TextDelta("x")])

    Contract().test_a_turn_sends_its_events_and_then_ends()


def test_what_is_not_declared_is_skipped() -> None:
    """A law about something optional is no failure and no success where it is not declared."""

    class Contract(RuntimeContract):
        def make_runtime(self) -> Runtime:
            return FakeRuntime(script)

    for test, name in (
        (Contract().test_a_backend_that_is_away_is_unavailable, "make_unreachable"),
        (Contract().test_what_the_backend_does_wrong_is_a_typed_error, "faulty"),
    ):
        with pytest.raises(unittest.SkipTest, match=f"{name} is not declared"):
            test()
