"""Connecting `AcpRuntime` with an agent in the same program."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import trio

from ..transports.memory import memory_transport_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..abc import Dial, Transport


class Serves(Protocol):
    """An agent, as far as connecting to it goes: `ScriptedAgent`, or your own."""

    async def serve(self, transport: Transport) -> None:
        """Serve one connection until it ends."""


def dial_agent(agent: Serves) -> Dial:
    """Return a dial that connects to an agent in this program, without network or process.

    ::

        runtime = AcpRuntime(dial_agent(ScriptedAgent()))

    Each connection is served in a task that ends with it; it works under a mock clock.
    """

    @asynccontextmanager
    async def connect() -> AsyncIterator[Transport]:
        ours, theirs = memory_transport_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent.serve, theirs, name="scripted agent")
            try:
                yield ours
            finally:
                await ours.aclose()
                nursery.cancel_scope.cancel(reason="the client has hung up")

    return connect
