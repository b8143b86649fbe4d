"""Traces of real runs under virtual time: one of each kind of end that a person may want to see."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import trio
from trio.testing import MockClock

import trio_acp
from trio_acp.testing import FakeRuntime, Raise, ScriptedAgent, Sleep, dial_agent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from trio_acp import Session, SessionManager
    from trio_acp.abc import TurnRequest
    from trio_acp.testing.fake import Step

LIMITS = trio_acp.Limits(turn=10.0)
HOSTILE = 'a<script>alert("1")</script>&\x1b]0;x\x07\u202e'


class LosesItsConnection(FakeRuntime):
    """Loses its connection once, before the first prompt was sent."""

    def __init__(self) -> None:
        self._lost = False
        super().__init__(self._turn, ensure=[Sleep(0.4)])

    def _turn(self, request: TurnRequest) -> Iterable[Step]:
        if self._lost:
            return [trio_acp.TextDelta("here again"), Sleep(1)]
        self._lost = True
        return [Sleep(0.5), Raise(trio_acp.ConnectionLost("the connection was lost", retryable=True))]


def write_demo(path: Path) -> None:
    """Write the trace of six sessions, side by side."""

    async def main() -> None:
        runtimes: dict[str, Any] = {
            "agent": trio_acp.AcpRuntime(dial_agent(ScriptedAgent())),
            "unsteady": LosesItsConnection(),
        }
        settings = trio_acp.Settings(limits=LIMITS)
        async with (
            trio_acp.TraceFile(path) as trace,
            trio_acp.open_session_manager(runtimes, settings=settings, instrument=trace) as manager,
            trio.open_nursery() as nursery,
        ):
            for session in (_normal, _ignores, _cancelled, _queue, _retried, _oneshot):
                await trio.sleep(0.2)
                nursery.start_soon(session, manager)

    run_with(main)


def run_with(main: Callable[[], Awaitable[None]]) -> None:
    """Run under a clock that jumps."""
    trio.run(main, clock=MockClock(autojump_threshold=0))


async def _normal(manager: SessionManager) -> None:
    session = await manager.start_session("normal", agent="agent")
    await session.prompt("sleep 1; chunks 40 word every=0.1; tool Read README.md kind=read every=0.3")


async def _ignores(manager: SessionManager) -> None:
    session = await manager.start_session("ignores the cancel", agent="agent")
    await _failing(session, "sleep 1; chunks 9 word every=0.5; ignore-cancel 60; hang")
    await session.prompt("say Here again; sleep 1")


async def _cancelled(manager: SessionManager) -> None:
    session = await manager.start_session(HOSTILE, agent="agent")
    async with (
        session.turn("chunks 30 word every=0.1; ignore-cancel 0.7; hang") as turn,
        trio.open_nursery() as nursery,
    ):

        async def cancel() -> None:
            await trio.sleep(3.5)
            turn.cancel(f"pressed {HOSTILE}")

        nursery.start_soon(cancel)
        async for _event in turn:
            pass
    with trio.move_on_after(2):
        await session.prompt("say Working; ignore-cancel 1.2; hang")


async def _queue(manager: SessionManager) -> None:
    session = await manager.start_session("queue", agent="agent")
    async with trio.open_nursery() as nursery:
        for n in range(3):
            nursery.start_soon(session.prompt, f"chunks 6 word every=0.4; say {n}")
            await trio.sleep(0.5)
        with trio.move_on_after(2):
            await session.prompt("never")


async def _retried(manager: SessionManager) -> None:
    session = await manager.start_session("loses its connection", agent="unsteady")
    await session.prompt("x")


async def _oneshot(manager: SessionManager) -> None:
    await manager.ask("say Hello; sleep 1", agent="agent")


async def _failing(session: Session, text: str) -> None:
    try:
        await session.prompt(text)
    except trio_acp.TurnTimedOut:
        return
    raise AssertionError


def header(**members: Any) -> dict[str, Any]:
    """Return a header, as the first line has it."""
    return {"trace": "trio-acp", "version": 1, "clock": 100.0, "wall": "2026-01-02T03:04:05+00:00", **members}


def entry(name: str, time: float, session: str = "k", turn: str = "t", **data: Any) -> dict[str, Any]:
    """Return a record, `time` seconds after the header."""
    return {"name": name, "time": 100.0 + time, "session": session, "turn": turn, "data": data}


def encoded(*values: Any) -> list[bytes]:
    """Return the lines of a file."""
    return [(json.dumps(value) + "\n").encode() for value in values]
