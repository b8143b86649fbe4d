"""Run one turn of a real agent under a real manager, and stop by SIGKILL at a named point.

Usage: crash_manager.py.  Each line of input is a JSON list, DIR, POINT, WORD
...: the words go to the agent.  A process is forked for it; its exit status is
a line of output, negative for a signal.

A point is the name of a trace record; or the beginning or end of a write to
the store, such as ``before running`` (inside its transaction) and ``after
running``; or a step of closing.  What is in `STORED` begins with a session
that is stored but not open, the other points with one that is just started.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import trio
import trio.testing

import trio_acp
from trio_acp import abc
from trio_acp.transports import dial_stdio

if TYPE_CHECKING:
    from types import TracebackType

AGENT = [sys.executable, "-IS", str(Path(__file__).with_name("crash_agent.py"))]
STORED = {"setup", "ready", "before claim", "after claim", "before running, opened", "after running, opened"}
HANGS = {"cause", "ladder.cancel", "ladder.join"}


def die() -> NoReturn:
    """Stop here, without any cleanup."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still here")


class Plan:
    """What this process is to do; `armed` once the point counts."""

    here: Path
    point: str
    words: list[str]
    armed = False


def reach(point: str) -> None:
    """Stop if this is the point."""
    if Plan.armed and point == Plan.point.removesuffix(", opened"):
        die()


class Tracer(abc.Instrument):
    def record(self, record: abc.TraceRecord) -> None:
        reach(record.name)


def name_of(old: abc.SessionRecord | None, new: abc.SessionRecord | None) -> str:
    """Name a write by what it changes."""
    if new is None or old is None:
        return "start" if new is not None else "delete"
    if new.state == "running":
        return "running"
    if old.owner is None and new.owner is not None:
        return "claim"
    if old.owner is not None and new.owner is None:
        return "release" if old.state != "running" else "repair"
    return "terminal"


class Store(trio_acp.SQLiteStore):
    async def update(self, key: str, mutate: abc.Mutate) -> abc.SessionRecord | None:
        name = ""

        def watched(old: abc.SessionRecord | None) -> abc.SessionRecord | None:
            nonlocal name
            new = mutate(old)
            name = name_of(old, new)
            reach(f"before {name}")
            return new

        stored = await super().update(key, watched)
        reach(f"after {name}")
        return stored


class Runtime(trio_acp.AcpRuntime):
    async def close(self, handle: abc.Handle, reason: str) -> None:
        reach("before close")
        await super().close(handle, reason)
        reach("after close")

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        reach("before hanging up")
        await super().__aexit__(exc_type, exc, tb)
        reach("after hanging up")


def runtime() -> Runtime:
    """Return a runtime for the small agent."""
    return Runtime(dial_stdio([*AGENT, str(Plan.here), *Plan.words], close_timeout=0.2))


async def main() -> None:
    """Run the turn."""
    store = Store(Plan.here / "sessions.db")
    limits = trio_acp.Limits(cleanup=0.2)
    open_manager = partial(
        trio_acp.open_session_manager,
        store=store,
        ledger=trio_acp.SQLiteLedger(Plan.here / "sessions.db"),
        settings=trio_acp.Settings(limits=limits),
        instrument=Tracer(),
    )
    if Plan.point in STORED:
        async with open_manager({"agent": runtime()}) as manager:
            await manager.start_session("k", agent="agent", cwd="/", requester="boss")
    Plan.armed = Plan.point in STORED or Plan.point.endswith("start") or "repair" in Plan.point
    async with open_manager({"agent": runtime()}) as manager:
        session = manager.session("k")
        if Plan.point not in STORED:
            session = await manager.start_session("k", agent="agent", cwd="/", requester="boss")
        Plan.armed = True
        async with session.turn("hang" if Plan.point in HANGS else "hello") as turn:
            async for _ in turn:
                if Plan.point in HANGS:
                    turn.cancel()
        await trio.testing.wait_all_tasks_blocked()
        reach("idle")
        await session.close()
        await session.prompt("again")


def serve() -> None:
    """Fork a process for each line."""
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            here, Plan.point, *Plan.words = json.loads(line)
            Plan.here = Path(here)
            trio.run(main)
            os._exit(1)  # the point was never reached
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
