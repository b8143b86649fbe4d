"""trio_acp in memory: ``python -m benchmarks.memory.ours SIZES [sqlite|instrument|turns]`` prints what was measured."""

from __future__ import annotations

import gc
import json
import platform
import statistics
import sys
import tempfile
import time
import tracemalloc
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import trio

import trio_acp
from trio_acp.abc import Instrument
from trio_acp.stores import SQLiteStore
from trio_acp.testing import FakeRuntime, Hang

from ..counts import counted
from ..sizes import Sizes, load
from ..stopwatch import timed
from .runtimes import Prepared, Waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_acp import Session, SessionManager
    from trio_acp.abc import Runtime, TraceRecord

SETTINGS = trio_acp.Settings(max_sessions=None, limits=trio_acp.Limits(cleanup=60.0))
"""No bound on sessions, and time to close ten thousand of them at once on a busy machine."""

SEVERAL = 10
"""Turns over which task steps are counted."""


class Listening(Instrument):
    """Hears everything and keeps nothing."""

    events = True

    def record(self, record: TraceRecord) -> None:
        """Let it go."""


@asynccontextmanager
async def opened(
    runtime: Runtime, variant: str = "", settings: trio_acp.Settings = SETTINGS
) -> AsyncIterator[SessionManager]:
    """Open a manager for the block, with the store or instrument that the variant says."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        store = SQLiteStore(Path(directory) / "store.db") if variant == "sqlite" else None
        instrument = Listening() if variant == "instrument" else None
        async with trio_acp.open_session_manager(
            {"bench": runtime}, store=store, instrument=instrument, settings=settings
        ) as manager:
            yield manager


async def started(manager: SessionManager, count: int) -> list[Session]:
    """Start sessions."""
    return [await manager.start_session(f"agent:bench:acp:{n}", agent="bench") for n in range(count)]


async def turns(session: Session, count: int, events: int) -> None:
    """Run turns, one after the other; each has a consumer that iterates over its events."""
    text = str(events)
    for _ in range(count):
        seen = 0
        async with session.turn(text) as turn:
            async for _ in turn:
                seen += 1
        assert seen == events, f"{seen} events of {events}"


async def crowd(sessions: list[Session], count: int, events: int) -> None:
    """Run turns in all sessions at once."""
    async with trio.open_nursery() as nursery:
        for session in sessions:
            nursery.start_soon(turns, session, count, events)


async def measure_turns(sizes: Sizes, variant: str) -> dict[str, float]:
    """Measure turns, one after the other."""
    found: dict[str, float] = {}
    async with opened(Prepared(), variant) as manager:
        (session,) = await started(manager, 1)
        await turns(session, max(1, sizes.turns // 4), 10)
        for events in (1, 10, 100):
            count = max(1, sizes.turns // (4 if events == 100 else 1))
            took = await timed(partial(turns, session, count, events), times=sizes.batches)
            found[f"turn_{events}"] = took.cpu / count * 1e6
            found[f"turn_{events}_wall"] = took.wall / count * 1e6
    return found


async def measure_many(sizes: Sizes) -> dict[str, float]:
    """Measure many sessions at once, one long turn, and how the cost grows."""
    found: dict[str, float] = {}
    async with opened(Prepared()) as manager:
        (session,) = sessions = await started(manager, 1)
        steps, waits = await counted(partial(turns, session, SEVERAL, 10))
        found["turn_steps"], found["turn_waits"] = steps / SEVERAL, waits / SEVERAL
        took = await timed(partial(turns, session, 1, sizes.events), times=sizes.batches)
        found["event"], found["event_wall"] = (each / sizes.events * 1e9 for each in (took.cpu, took.wall))
        for count in sorted({*sizes.growth, sizes.crowd}):
            sessions = await started(manager, count)
            each = max(1, sizes.growth_turns // count)
            await crowd(sessions, 1, 1)
            if count in sizes.growth:
                took = await timed(partial(crowd, sessions, each, 100), times=min(3, sizes.batches))
                found[f"grow_{count}"] = took.cpu / (count * each * 100) * 1e9
            if count == sizes.crowd:
                took = await timed(partial(crowd, sessions, 1, 10), times=sizes.batches)
                found["crowd"], found["crowd_wall"] = (value / count * 1e6 for value in (took.cpu, took.wall))
    return found


async def measure_cancel(sizes: Sizes) -> dict[str, float]:
    """Measure how soon the cancel of a running turn returns, and its turn is settled."""
    returned: list[float] = []
    settled: list[float] = []

    async def consume(session: Session) -> None:
        async with session.turn("x") as turn:
            async for _ in turn:
                pass
        settled.append(time.perf_counter() - begun)

    runtime = Waiting()
    begun = 0.0
    async with opened(runtime) as manager:
        (session,) = await started(manager, 1)
        for _ in range(sizes.cancels):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(consume, session)
                await runtime.running.wait()
                begun = time.perf_counter()
                assert await session.cancel() == 1
                returned.append(time.perf_counter() - begun)
    return {"cancel": statistics.median(returned) * 1e6, "cancel_settled": statistics.median(settled) * 1e6}


async def measure_patience(sizes: Sizes) -> dict[str, float]:
    """Measure when a turn is given up whose backend never returns from anything, in seconds.

    A turn of 1 s has the default times for a last word and for stopping; a shorter one has them shorter in proportion.
    """
    if not sizes.patience:
        return {}
    limits = trio_acp.Limits(grace=sizes.patience, cleanup=2 * sizes.patience)
    settings = trio_acp.Settings(limits=limits)
    found: dict[str, float] = {}

    async def give_up(session: Session, mode: str) -> None:
        begun = time.perf_counter()
        try:
            await session.prompt("x", timeout=sizes.patience)
        except trio_acp.TurnTimedOut:
            found[f"patience_{mode}"] = time.perf_counter() - begun

    runtime = FakeRuntime([Hang()], cancel=[Hang()], close=[Hang()])
    async with opened(runtime, settings=settings) as manager, trio.open_nursery() as nursery:
        for mode in ("persistent", "oneshot"):
            session = await manager.start_session(f"agent:bench:acp:{mode}", agent="bench", mode=mode)
            nursery.start_soon(give_up, session, mode)
    return found


async def measure_idle(sizes: Sizes) -> dict[str, float]:
    """Weigh sessions that were used and wait for nothing: what Python allocated for each, and their tasks."""
    async with opened(Prepared()) as manager:
        (first,) = await started(manager, 1)
        await turns(first, 3, 1)
        tasks = trio.lowlevel.current_statistics().tasks_living
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for n in range(sizes.idle):
            session = await manager.start_session(f"agent:bench:acp:idle-{n}", agent="bench")
            await turns(session, 1, 1)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        more = trio.lowlevel.current_statistics().tasks_living - tasks
    return {"idle_bytes": (after - before) / sizes.idle, "idle_tasks": more / sizes.idle}


async def measure(sizes: Sizes, variant: str) -> dict[str, float]:
    """Measure everything; of a variant, what a turn costs (``turns`` is none but that)."""
    found = await measure_turns(sizes, variant)
    if not variant:
        for each in (measure_many, measure_cancel, measure_idle, measure_patience):
            found |= await each(sizes)
    return found


def main(argv: list[str]) -> None:
    """Measure, print."""
    found = trio.run(measure, load(argv[0]), argv[1] if len(argv) > 1 else "")
    about = f"trio_acp {version('trio-acp')}, trio {version('trio')}, Python {platform.python_version()}"
    print(json.dumps({"about": about, "found": found}))


if __name__ == "__main__":
    main(sys.argv[1:])
