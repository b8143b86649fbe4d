"""Counts that have no noise: how many task steps an update costs through the real WebSocket stack."""

from __future__ import annotations

import trio
import trio_websocket

import trio_acp
from trio_acp.testing import ScriptedAgent
from trio_acp.transports.websocket import websocket_server_transport


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


async def serve(agent: ScriptedAgent, *, task_status: trio.TaskStatus[str]) -> None:
    """Serve an agent on a loopback port; tell its URL."""

    async def handle(request: trio_websocket.WebSocketRequest) -> None:
        await agent.serve(websocket_server_transport(await request.accept()))

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_websocket.serve_websocket, handle, "127.0.0.1", 0, None)
        task_status.started(f"ws://127.0.0.1:{server.port}/acp")


async def steps_of(session: trio_acp.Session, updates: int) -> int:
    counter = ClientSteps()
    async with session.turn(f"chunks {updates}") as turn:
        trio.lowlevel.add_instrument(counter)
        events = [event async for event in turn]
        trio.lowlevel.remove_instrument(counter)
    assert updates == len(events)
    return counter.steps


async def test_an_update_costs_at_most_four_steps_through_trio_websocket() -> None:
    """From the socket to the consumer, with a write of the agent for each update: ≤ 4 steps of our and its tasks."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            url = await nursery.start(serve, ScriptedAgent(), name="server")
            async with trio_acp.open_session_manager({"agent": trio_acp.AcpRuntime.websocket(url)}) as manager:
                session = await manager.start_session("k", agent="agent", cwd="/repo")
                few, many = await steps_of(session, 10), await steps_of(session, 1010)
            nursery.cancel_scope.cancel()
    assert many - few <= 4 * 1000 + 2  # how a turn begins and ends may take a step more or less
