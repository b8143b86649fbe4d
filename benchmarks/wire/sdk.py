"""The official Python SDK with its own WebSocket transport, on asyncio.

``python -m benchmarks.wire.sdk SIZES ADDRESS WHAT`` prints what was measured; it runs where the SDK is installed.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import acp
from acp.ws import client as acp_ws

from .driver import Address, Client
from .entry import Task, parse, tell

if TYPE_CHECKING:
    from .driver import Call


class Consumer:
    """What the SDK calls for each update: it counts them for each session."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.stalled = False

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        """Count an update; once stalled, never return."""
        self.seen[session_id] += 1
        if self.stalled:
            await asyncio.Event().wait()


class Sdk(Client):
    """A consumer and a connection of the SDK each time."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def connect(self, *, secure: bool = False) -> tuple[Any, Consumer]:
        """Open a connection as the SDK's own function does; with TLS, tell its library whom to trust."""
        if secure:
            assert self._address.secure is not None
            context = ssl.create_default_context(cafile=self._address.authority)
            original = acp_ws.ws_connect
            acp_ws.ws_connect = partial(original, ssl=context)  # it has no parameter for this
            try:
                stream = await acp_ws.create_websocket_stream(self._address.secure)
            finally:
                acp_ws.ws_connect = original
        else:
            stream = await acp_ws.create_websocket_stream(self._address.plain)
        consumer = Consumer()
        connection = acp.connect_to_agent(consumer, stream)
        await connection.initialize(protocol_version=acp.PROTOCOL_VERSION)
        return connection, consumer

    async def new_session(self, connection: tuple[Any, Consumer]) -> tuple[Any, Consumer, str]:
        """Open a session."""
        answer = await connection[0].new_session(cwd="/", mcp_servers=[])
        return *connection, answer.session_id

    async def turn(self, session: tuple[Any, Consumer, str], text: str) -> int:
        """Prompt."""
        connection, consumer, session_id = session
        consumer.seen[session_id] = 0
        await connection.prompt(session_id=session_id, prompt=[acp.text_block(text)])
        return consumer.seen[session_id]

    async def stall(self, session: tuple[Any, Consumer, str], text: str, seconds: float) -> None:
        """Prompt, and let the consumer hang."""
        session[1].stalled = True
        prompt = asyncio.ensure_future(self.turn(session, text))
        await asyncio.sleep(seconds)
        prompt.cancel()

    async def together(self, calls: list[Call]) -> None:
        """Gather them."""
        await asyncio.gather(*(call() for call in calls))

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)


async def main(task: Task) -> None:
    """Do what was asked for, print, and be gone: what is in its queues need not be worked off."""
    tell(await task.run(Sdk(task.address)), "agent-client-protocol", "websockets")
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(parse(sys.argv[1:])))
