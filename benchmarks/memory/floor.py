"""What Trio alone takes for a turn in memory: ``python -m benchmarks.memory.floor SIZES`` prints what was measured.

A task of the session's own runs the turn, in a cancel scope, so that whoever
waits for it can go on without it; its events come in a deque and wake the
consumer.  Nothing else is there: no queue, no store, no limits, no log of
causes, no types.  So no manager that promises as much can be faster on Trio.
"""

from __future__ import annotations

import json
import platform
import sys
from collections import deque
from functools import partial
from importlib.metadata import version

import trio

from ..sizes import Sizes, load
from ..stopwatch import timed


class Turn:
    """A turn's events and its end."""

    def __init__(self) -> None:
        self.events: deque[str] = deque()
        self.over = False
        self._news = trio.Event()

    def send(self, event: str) -> None:
        """Take an event, and wake the consumer."""
        self.events.append(event)
        self._news.set()

    def end(self) -> None:
        """Take note of the end, and wake the consumer."""
        self.over = True
        self._news.set()

    async def consume(self) -> int:
        """Take events, one after the other, until the end; return how many."""
        seen = 0
        while True:
            while self.events:
                self.events.popleft()
                seen += 1
            if self.over:
                return seen
            self._news = trio.Event()
            await self._news.wait()


async def adapter(turn: Turn, events: int) -> None:
    """Send so many events."""
    await trio.lowlevel.checkpoint()
    for _ in range(events):
        turn.send("x" * 64)


async def actor(turn: Turn, events: int) -> None:
    """Run the adapter."""
    with trio.CancelScope():
        await adapter(turn, events)
    turn.end()


async def turns(nursery: trio.Nursery, count: int, events: int) -> None:
    """Run turns, one after the other."""
    for _ in range(count):
        turn = Turn()
        await trio.lowlevel.checkpoint_if_cancelled()
        nursery.start_soon(actor, turn, events)
        await trio.lowlevel.cancel_shielded_checkpoint()
        seen = await turn.consume()
        assert seen == events, f"{seen} events of {events}"


async def measure(sizes: Sizes) -> dict[str, float]:
    """Measure turns, and one that is long."""
    found: dict[str, float] = {}
    async with trio.open_nursery() as nursery:
        for events in (1, 10, 100):
            count = max(1, sizes.turns // (4 if events == 100 else 1))
            took = await timed(partial(turns, nursery, count, events), times=sizes.batches)
            found[f"turn_{events}"] = took.cpu / count * 1e6
            found[f"turn_{events}_wall"] = took.wall / count * 1e6
        took = await timed(partial(turns, nursery, 1, sizes.events), times=sizes.batches)
        found["event"], found["event_wall"] = (each / sizes.events * 1e9 for each in (took.cpu, took.wall))
    return found


def main(sizes: str) -> None:
    """Measure, print."""
    about = f"trio {version('trio')}, Python {platform.python_version()}"
    print(json.dumps({"about": about, "found": trio.run(measure, load(sizes))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
