"""Where the time of a turn goes, as a picture: ``python -m benchmarks.flame docs/pictures`` draws two of them.

The processor's clock interrupts the run every millisecond, and what runs then is
counted: a bar is as wide as the part of the time for which its function ran or
waited for one that it called.  Python knows no finer picture of itself that
does not change it.
"""

from __future__ import annotations

import contextlib
import html
import json
import platform
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from .memory import ours as memory
from .memory.runtimes import Prepared
from .rounds import agent
from .wire.driver import Address
from .wire.driver import turns as wire_turns
from .wire.ours import Ours

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

Stack: TypeAlias = tuple[str, ...]

EVERY: Final = 0.001
"""Seconds of processor time between two looks."""
BEGIN: Final = "unrolled_run"
"""Trio's loop: what is below it is the same for everything."""
WIDTH, ROW, LEAST = 1200, 18, 0.002
LETTER: Final = 6.6
COLORS: Final = {"trio_acp": "#f2a65a", "trio": "#8fb8de", "": "#c9cbd1"}
"""Of packages: ours, Trio, everybody else's."""
SESSIONS: Final = 100
TURNS: Final = 30_000
"""Of each of the two runs."""


@dataclass
class Node:
    """A function, in one place of the stack: its looks, and those of what it called."""

    looks: int = 0
    calls: dict[str, Node] = field(default_factory=dict)


@contextlib.contextmanager
def sampled() -> Iterator[Counter[Stack]]:
    """Count what runs in the block, outermost first."""
    seen: Counter[Stack] = Counter()

    def look(_number: int, frame: FrameType | None) -> None:
        names = []
        while frame is not None and frame.f_code.co_name != BEGIN:
            package = str(frame.f_globals.get("__name__", ""))
            names.append(f"{package}:{frame.f_code.co_qualname}")
            frame = frame.f_back
        if frame is not None:
            seen[tuple(reversed(names))] += 1

    before = signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
    try:
        yield seen
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def tree(seen: Counter[Stack]) -> Node:
    """Put the stacks together."""
    root = Node()
    for stack, looks in seen.items():
        node = root
        node.looks += looks
        for name in stack:
            node = node.calls.setdefault(name, Node())
            node.looks += looks
    return root


def _bars(node: Node, name: str, left: float, depth: int, whole: int) -> Iterator[tuple[str, float, float, int]]:
    part = node.looks / whole
    if part >= LEAST:
        yield name, left, part, depth
        for callee, child in sorted(node.calls.items()):
            yield from _bars(child, callee, left, depth + 1, whole)
            left += child.looks / whole


def draw(root: Node, title: str) -> str:
    """Return the picture as SVG."""
    bars = list(_bars(root, "trio:the loop, and all that it runs", 0.0, 0, root.looks))
    height = (max(depth for *_, depth in bars) + 3) * ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="4" y="{ROW - 5}" font-size="13">{html.escape(title)}</text>',
    ]
    for name, left, part, depth in bars:
        module, _, function = name.rpartition(":")
        color = COLORS.get(module.partition(".")[0], COLORS[""])
        x, width, y = left * WIDTH, part * WIDTH, height - (depth + 1) * ROW
        room = int((width - 4) / LETTER)
        label = function if len(function) <= room else function[: room - 1] + "…" if room > 3 else ""
        parts.append(
            f'<g><title>{html.escape(name)}: {part:.1%}</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" '
            f'height="{ROW - 1}" fill="{color}" stroke="#fff" stroke-width=".5"/>'
            f'<text x="{x + 3:.1f}" y="{y + 13}" font-size="11">{html.escape(label)}</text></g>'
        )
    return "\n".join([*parts, "</svg>\n"])


async def in_memory(turns: int) -> Counter[Stack]:
    """Look at turns of ten events without a wire, one after the other."""
    async with memory.opened(Prepared()) as manager:
        (session,) = await memory.started(manager, 1)
        await memory.turns(session, 100, 10)
        with sampled() as seen:
            await memory.turns(session, turns, 10)
    return seen


async def over_websocket(address: Address, count: int) -> Counter[Stack]:
    """Look at turns of ten updates of a hundred sessions at once on one connection, by the fast engine."""
    async with Ours(address, 1, "websockets") as client:
        connection = await client.connect()
        sessions = [await client.new_session(connection) for _ in range(SESSIONS)]
        await client.together([partial(wire_turns, client, session, 3, 10) for session in sessions])
        with sampled() as seen:
            await client.together([partial(wire_turns, client, session, count, 10) for session in sessions])
    return seen


def main(directory: str, turns: str = str(TURNS)) -> None:
    """Draw both."""
    where, count = Path(directory), int(turns)
    versions = f"Python {platform.python_version()}, Trio {trio.__version__}"
    picture = draw(tree(trio.run(in_memory, count)), f"Turns of 10 events in memory ({versions})")
    (where / "flame-memory.svg").write_text(picture, "utf-8")
    with agent() as address:
        seen = trio.run(over_websocket, Address(**json.loads(address)), max(1, count // SESSIONS))
    title = f"Turns of 10 updates, {SESSIONS} sessions on one connection, fast engine ({versions})"
    (where / "flame-websocket.svg").write_text(draw(tree(seen), title), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
