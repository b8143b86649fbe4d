"""trio_acp over the wire: manager, store in memory, typed events, and one consumer that iterates for each turn.

``python -m benchmarks.wire.ours SIZES ADDRESS WHAT [ENGINE]`` prints what was measured.
"""

from __future__ import annotations

import ssl
import sys
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

import trio_acp

from ..counts import counted
from .driver import Address, Client, turns
from .entry import Task, parse, tell

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from trio_acp import AcpRuntime, Session

    from .driver import Call

SEVERAL = 10
"""Turns over which task steps are counted."""


class Ours(Client):
    """A manager with a runtime for each connection, all entered when it is opened."""

    def __init__(self, address: Address, connections: int, engine: str) -> None:
        options: dict[str, Any] = {"engine": engine} if engine else {}
        websocket: Callable[..., AcpRuntime] = partial(trio_acp.AcpRuntime.websocket, **options)
        self._secure: dict[str, AcpRuntime] = {}
        if address.secure is not None:
            context = ssl.create_default_context(cafile=address.authority)
            self._secure = {"secure": websocket(address.secure, ssl_context=context)}
        self._plain = {f"plain-{n}": websocket(address.plain) for n in range(connections)}
        self._unused = iter(self._plain)
        self._count = 0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Ours:
        settings = trio_acp.Settings(max_sessions=None, limits=trio_acp.Limits(cleanup=60.0))
        opening = trio_acp.open_session_manager({**self._plain, **self._secure}, settings=settings)
        self._manager = await self._stack.enter_async_context(opening)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(exc_type, exc, tb)

    async def connect(self, *, secure: bool = False) -> str:
        """Return the name of a runtime; its first session connects it."""
        await trio.lowlevel.checkpoint()
        return "secure" if secure else next(self._unused)

    async def new_session(self, connection: str) -> Session:
        """Start a session."""
        self._count += 1
        return await self._manager.start_session(f"agent:{connection}:{self._count}", agent=connection, cwd="/")

    async def turn(self, session: Session, text: str) -> int:
        """Run a turn, iterating over its events."""
        seen = 0
        async with session.turn(text) as turn:
            async for _ in turn:
                seen += 1
        return seen

    async def stall(self, session: Session, text: str, seconds: float) -> None:
        """Take one event, then none.  The turn fails once too much waits for it, and is stopped in any case."""
        try:
            async with session.turn(text) as turn:
                async for _ in turn:
                    await trio.sleep(seconds)
                    break
        except trio_acp.TurnFailed as error:
            assert error.detail == "consumer-too-slow", error  # noqa: PT017 - no test: it is told from other failures

    async def together(self, calls: list[Call]) -> None:
        """Run them in a nursery."""
        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(call)

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await trio.sleep(seconds)


async def count(client: Ours, updates: int) -> dict[str, float]:
    """Count the task steps of a turn of 10 updates, and for each update of a long one."""
    session = await client.new_session(await client.connect())
    await turns(client, session, 3, 10)
    steps, waits = await counted(partial(turns, client, session, SEVERAL, 10))
    some, _ = await counted(partial(turns, client, session, 1, updates))
    return {"wire_steps": steps / SEVERAL, "wire_waits": waits / SEVERAL, "update_steps": some / updates}


async def run(task: Task) -> dict[str, float]:
    """Do what was asked for."""
    async with Ours(task.address, task.sizes.crowd_wire + 2, task.option) as client:
        found = {} if task.what == "stall" else await count(client, task.sizes.updates)
        return found | await task.run(client)


if __name__ == "__main__":
    tell(trio.run(run, parse(sys.argv[1:])), "trio-acp", "trio", "trio-websocket")
