"""The scenes of the demonstration.  Each one shows something, and checks that it was so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from .._errors import AcpError, TurnTimedOut
from .._events import PermissionAnswered, TextDelta, ToolCall
from .._outcomes import Completed, Stopped
from .._service import ServiceScope
from ..abc import PermissionPolicy
from ._text import one_line, safe_text

if TYPE_CHECKING:
    from .._limits import Limits
    from .._manager import SessionManager
    from .._session import Session
    from .._statistics import Statistics
    from ..abc import Decision, PermissionRequest
    from ._output import Output

_TIMEOUT = 0.3


class DemoFailed(AcpError):
    """Something did not go as the demonstration announced."""

    default_detail = "demo-failed"


@attrs.define
class Stage:
    """Where the demonstration is shown.

    Attributes:
        number: Of the scene that is shown.
    """

    _output: Output
    number: int = 0

    async def say(self, text: str = "") -> None:
        """Show a line of ours."""
        await self._output.write(f"{text}\n")

    async def scene(self, title: str) -> None:
        """Begin the next scene."""
        self.number += 1
        await self.say(f"\n{self.number}. {title}")

    async def prompt(self, text: str) -> None:
        """Show a prompt that is about to be sent."""
        await self.say(self._output.dim(f"   prompt: {text}"))

    async def told(self, label: str, text: str) -> None:
        """Show one line that has words of the agent."""
        await self.say(f"   {label}: {one_line(text, 100)}")

    async def begin_stream(self) -> None:
        """Begin a line that is written piece by piece."""
        await self._output.write("   agent: ")

    async def stream(self, text: str) -> None:
        """Write a piece of the agent's text."""
        await self._output.write(safe_text(text, multiline=False))


class AskVisibly(PermissionPolicy):
    """Allows everything, and shows what was asked."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def decide(self, request: PermissionRequest) -> Decision:
        """Allow."""
        offered = ", ".join(option.kind for option in request.options)
        await self._stage.told("the agent asks", f"May I? {request.tool_call.title}")
        await self._stage.told("possible answers", offered)
        return "allow"


def check(holds: bool, claim: str) -> None:
    if not holds:
        raise DemoFailed(f"the demonstration failed: {claim}")


async def _streaming(stage: Stage, session: Session) -> None:
    await stage.scene("A turn: the answer is shown while it arrives, piece by piece.")
    script = "chunks 8 piece every=0.05"
    await stage.prompt(script)
    pieces = 0
    await stage.begin_stream()
    async with session.turn(script) as turn:
        async for event in turn:
            if isinstance(event, TextDelta):
                pieces += 1
                await stage.stream(event.text)
    await stage.say()
    check(turn.outcome == Completed("end_turn"), f"the turn did not complete: {turn.outcome}")
    check(pieces == 8, f"8 pieces were sent, {pieces} arrived")


async def _permission(stage: Stage, session: Session) -> None:
    await stage.scene("Tools: the agent says what it does, and asks before it changes anything.")
    script = "tool Read notes.txt kind=read; sleep 0.1; permission! Write notes.txt"
    await stage.prompt(script)
    statuses, decisions = [], []
    async with session.turn(script) as turn:
        async for event in turn:
            match event:
                case ToolCall(kind="read"):
                    statuses.append(event.status)
                    await stage.told("tool", f"{event.title}: {event.status}")
                case PermissionAnswered():
                    decisions.append(event.decision)
                    await stage.told("answer", f"{event.decision}, for this once")
                case TextDelta(text=text):
                    await stage.told("agent", text)
                case _:
                    pass
    check(statuses[-1:] == ["completed"], f"the tool call did not complete: {statuses}")
    check(decisions == ["allow"], f"permission was not asked for and given once: {decisions}")


async def _queue(stage: Stage, manager: SessionManager, session: Session) -> None:
    await stage.scene("A queue: a second prompt waits until the first one is done.")
    first, second = "say One,; sleep 0.3; say two.", "say Three."
    finished: list[str] = []
    waiting = 0

    answered = trio.Event()
    problems: list[Exception] = []

    async def ask_second() -> None:
        try:
            reply = await session.prompt(second)
            finished.append("second")
            await stage.told("agent, to the second", reply.text)
        except (AcpError, OSError) as error:
            problems.append(error)
        finally:
            answered.set()

    await stage.prompt(first)
    said: list[str] = []
    async with ServiceScope("second prompt") as nursery:
        async with session.turn(first) as turn:
            async for event in turn:
                if not isinstance(event, TextDelta):
                    continue
                said.append(event.text)
                if len(said) == 1:
                    await stage.prompt(second)
                    nursery.start_soon(ask_second)
                else:
                    waiting = manager.statistics().queued
        finished.append("first")
        await stage.told("agent, to the first", " ".join(said))
        check(bool(said), "nothing was said")
        await answered.wait()
    for problem in problems:
        raise problem
    check(waiting == 1, f"the second prompt did not wait: {waiting} were queued")
    check(finished == ["first", "second"], f"the prompts were not answered in their order: {finished}")


async def _cancel(stage: Stage, session: Session) -> None:
    await stage.scene("A cancel: the agent is told to stop, and says that it has.")
    script = "say Working ...; hang"
    await stage.prompt(script)
    asked = trio.current_time()
    async with session.turn(script) as turn:
        async for event in turn:
            if isinstance(event, TextDelta):
                await stage.told("agent", event.text)
                asked = trio.current_time()
                turn.cancel("shown in the demonstration")
    took = trio.current_time() - asked
    check(isinstance(turn.outcome, Stopped) and turn.outcome.by == "user", f"it was not stopped: {turn.outcome}")
    await stage.say(f"   stopped by the user, {took:.2f} s after asking")


async def _timeout(stage: Stage, session: Session, limits: Limits) -> None:
    await stage.scene("A timeout: this agent will not stop, and the caller gets on all the same.")
    script = "ignore-cancel 60; say Still working ...; hang"
    await stage.prompt(script)
    await stage.say(
        f"   Limits, shortened for the show: the turn {_TIMEOUT:g} s (else two days), grace\n"
        f"   {limits.grace:g} s (else 1), for the agent to stop {limits.cleanup:g} s (else 2)."
    )
    began = trio.current_time()
    try:
        async with session.turn(script, timeout=_TIMEOUT) as turn:
            async for event in turn:
                if isinstance(event, TextDelta):
                    await stage.told("agent", event.text)
    except TurnTimedOut as error:
        took = trio.current_time() - began
        await stage.say(f"   TurnTimedOut, after {took:.2f} s")
        check(error.cleanup == "deadline", "the agent stopped, although it was told not to")
        return
    raise DemoFailed(f"the demonstration failed: there was no timeout: {turn.outcome}")


async def play(stage: Stage, manager: SessionManager, session: Session, limits: Limits) -> Statistics:
    """Play the scenes before the restart; return the manager's counts.

    If cancelled, the running turn is stopped within its limits.

    Raises:
        DemoFailed: something did not go as announced.
    """
    await _streaming(stage, session)
    await _permission(stage, session)
    await _queue(stage, manager, session)
    await _cancel(stage, session)
    await _timeout(stage, session, limits)
    return manager.statistics()


async def play_resumed(stage: Stage, manager: SessionManager, session: Session, earlier: int) -> Statistics:
    """Play the scene after the restart, when the agent remembers `earlier` turns; return the manager's counts.

    If cancelled, the running turn is stopped within its limits.

    Raises:
        DemoFailed: something did not go as announced.
    """
    await stage.prompt("history")
    reply = await session.prompt("history")
    await stage.told("agent", reply.text)
    check(f" {earlier} earlier turns" in reply.text, f"{earlier} turns were to be remembered, not: {reply.text}")
    check("resumed" in reply.text, f"the session was not resumed: {reply.text}")
    return manager.statistics()


async def sum_up(stage: Stage, *all_counts: Statistics) -> None:
    """Show the counts of all managers together.  If cancelled, a part may have been shown.

    Raises:
        DemoFailed: they are not those of what was shown.
    """
    names = ("submitted", "completed", "stopped", "timed_out", "failed", "depth")
    submitted, completed, stopped, timed_out, failed, depth = (
        sum(getattr(counts, name) for counts in all_counts) for name in names
    )
    await stage.say(
        f"\n{submitted} turns: {completed} completed, {stopped} stopped, {timed_out} timed out, {failed} failed."
    )
    check((completed, stopped, timed_out, failed, depth) == (5, 1, 1, 0, 0), f"the counts are wrong: {all_counts}")
