"""Counts that have no noise: how many task steps an update costs through the real WebSocket stack."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
import trio.testing
import trio_websocket

import trio_acp
from trio_acp.testing import ScriptedAgent
from trio_acp.transports.websocket import websocket_over_stream, websocket_server_transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_acp.abc import Transport


class ClientSteps(trio.abc.Instrument):
    """Counts the steps of all tasks except those below the task called ``server``."""

    def __init__(self) -> None:
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        ancestor: trio.lowlevel.Task | None = task
        while ancestor is not None:
            if ancestor.name == "server":
                return
            ancestor = None if ancestor.parent_nursery is None else ancestor.parent_nursery.parent_task
        self.steps += 1


@asynccontextmanager
async def connect_to(agent: ScriptedAgent) -> AsyncIterator[Transport]:
    """Connect to an agent by a WebSocket over a pair of memory streams."""
    ours, theirs = trio.testing.memory_stream_pair()

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            request = await trio_websocket.wrap_server_stream(nursery, theirs)
            await agent.serve(websocket_server_transport(await request.accept()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, name="server")
        async with websocket_over_stream(ours, "localhost", "/acp") as transport:
            yield transport
        nursery.cancel_scope.cancel()


async def steps_of(session: trio_acp.Session, updates: int) -> int:
    counter = ClientSteps()
    async with session.turn(f"chunks {updates}") as turn:
        trio.lowlevel.add_instrument(counter)
        events = [event async for event in turn]
        trio.lowlevel.remove_instrument(counter)
    assert updates == len(events)
    return counter.steps


async def test_an_update_costs_at_most_four_steps_through_trio_websocket(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """From the stream to the consumer: ≤ 4 steps of tasks of ours and of trio-websocket for each update."""
    agent = ScriptedAgent()
    runtime = trio_acp.AcpRuntime(lambda: connect_to(agent))
    async with trio_acp.open_session_manager({"agent": runtime}) as manager:
        session = await manager.start_session("k", agent="agent", cwd="/repo")
        few, many = await steps_of(session, 10), await steps_of(session, 1010)
    assert (many - few) / 1000 <= 4.0
