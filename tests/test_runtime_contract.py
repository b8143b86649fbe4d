"""The laws of `trio_acp.abc.Runtime`, kept by every runtime of ours, and what the kit says of those that break them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import trio

from trio_acp import AcpRuntime, TextDelta
from trio_acp._service import shielded
from trio_acp.abc import Capabilities, Done
from trio_acp.testing import FakeRuntime, Hang, RuntimeContract, ScriptedAgent, Sleep, Swallow, dial_agent

if TYPE_CHECKING:
    from pathlib import Path

    from trio_acp.abc import EnsureRequest, EventSink, Handle, Runtime, TurnRequest
    from trio_acp.testing.fake import Step


def script(request: TurnRequest) -> list[Step]:
    """Do what the kit's own prompts say."""
    (block,) = request.prompt
    return [TextDelta("x"), *([Hang(stops=True)] if getattr(block, "text", "") == "work" else [])]


class TestFake(RuntimeContract):
    resumes = True

    def make_runtime(self) -> Runtime:
        return FakeRuntime(script)


class TestScriptedAgent(RuntimeContract):
    quick = "say hello"
    slow = "say working; hang"
    resumes = True

    def make_runtime(self) -> Runtime:
        return AcpRuntime(dial_agent(ScriptedAgent()))


class TestStdio(RuntimeContract):
    quick = "say hello"
    slow = "say working; hang"
    resumes = True

    @pytest.fixture(autouse=True)
    def _state(self, tmp_path: Path) -> None:
        self.state = str(tmp_path)

    def make_runtime(self) -> Runtime:
        return AcpRuntime.stdio([sys.executable, "-m", "trio_acp.testing.agent", "--state-dir", self.state])


# -- planted faults ------------------------------------------------------------


class Swallows(FakeRuntime):
    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        try:
            return await super().run_turn(request, events)
        except trio.Cancelled:
            return Done(stop_reason="cancelled")


class SpeaksLate(FakeRuntime):
    sinks: list[EventSink] = []

    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        self.sinks.append(events)
        return await super().run_turn(request, events)

    async def close(self, handle: Handle, reason: str) -> None:
        for sink in self.sinks:
            sink.send(TextDelta("late"))


class OneHandle(FakeRuntime):
    only: Handle | None = None

    async def ensure_session(self, request: EnsureRequest) -> Handle:
        self.only = self.only or await super().ensure_session(request)
        return self.only


class LeavesATask(FakeRuntime):
    async def ensure_session(self, request: EnsureRequest) -> Handle:
        trio.lowlevel.spawn_system_task(trio.sleep_forever)
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


def ends_otherwise(request: TurnRequest) -> list[Step]:
    return [*script(request), Done(stop_reason="end_turn")]


def resists(request: TurnRequest) -> list[Step]:
    (block,) = request.prompt
    return [TextDelta("x"), *([Swallow(2.0)] if getattr(block, "text", "") == "work" else [])]


BROKEN = [
    (OneHandle(script), "handles_are_objects", "returned one handle twice"),
    (AnotherId(script), "resumed_or_known", "was to be resumed"),
    (FakeRuntime(), "sends_its_events", "sent no event"),
    (FakeRuntime([Sleep(60)]), "sends_its_events", "run_turn did not end within"),
    (SpeaksLate(script), "sends_its_events", "an event came after the turn's end"),
    (FakeRuntime([Done(stop_reason="cancelled")]), "takes_nothing_more", "as if it had been stopped"),
    (StopsAll(script), "cancel_stops", "stopped the turn of another handle"),
    (FakeRuntime(script, cancel=[Sleep(60)]), "cancel_stops", "cancel did not end within"),
    (Swallows(script), "is_cancelled_ends", "swallowed trio.Cancelled"),
    (FakeRuntime(resists), "is_cancelled_ends", "run_turn after it was cancelled did not end within"),
    (ClosesInItsOwnTime(script), "cancelled_before_it_begins", "close in a cancelled scope"),
    (FakeRuntime(script, offers=Capabilities()), "not_offered", "is not offered, and was accepted"),
    (FakeRuntime(resists, cancel=[Sleep(60)]), "exceeds_its_deadline", "did not stop within"),
    (LeavesATask(script), "handles_are_objects", "tasks are left"),
]


@pytest.mark.breaks_the_model("the runtimes here break the rules")
@pytest.mark.parametrize(("runtime", "law", "said"), BROKEN)
def test_the_kit_names_the_law_that_is_broken(runtime: FakeRuntime, law: str, said: str) -> None:
    """Each planted fault fails the test of its law, in words."""

    class Contract(RuntimeContract):
        seconds = 0.3
        leaves = 0.1
        resumes = True

        def make_runtime(self) -> Runtime:
            return runtime

    [name] = [name for name in dir(Contract) if name.startswith("test_") and law in name]
    with pytest.raises(BaseException) as caught:
        getattr(Contract(), name)()
    found: list[BaseException] = [caught.value]
    while isinstance(found[0], BaseExceptionGroup):
        found = [*found[0].exceptions, *found[1:]]
    assert any(said in str(error) for error in found), found
