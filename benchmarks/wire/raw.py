"""trio-websocket and `json.loads`, and nothing else: no types, no sessions, no deadlines.

``python -m benchmarks.wire.raw SIZES ADDRESS all`` prints what was measured.
"""

from __future__ import annotations

import json
import math
import ssl
import sys
from itertools import count
from typing import TYPE_CHECKING, Any

import attrs
import trio
import trio_websocket

from .driver import Address, Client
from .entry import Task, parse, tell

if TYPE_CHECKING:
    from .driver import Call


@attrs.define(eq=False)
class Connection:
    """A socket, the answers that are waited for, and the updates seen so far of each session."""

    socket: trio_websocket.WebSocketConnection
    answers: dict[int, Any] = attrs.field(factory=dict)
    arrived: dict[int, trio.Event] = attrs.field(factory=dict)
    seen: dict[str, int] = attrs.field(factory=dict)


class Raw(Client):
    """A task reads each connection; all are closed with the nursery."""

    def __init__(self, address: Address, nursery: trio.Nursery) -> None:
        self._address = address
        self._nursery = nursery
        self._numbers = count(1)

    async def connect(self, *, secure: bool = False) -> Connection:
        """Open a connection, and read it from then on."""
        url, context = self._address.plain, None
        if secure:
            assert self._address.secure is not None
            url, context = self._address.secure, ssl.create_default_context(cafile=self._address.authority)
        socket = await trio_websocket.connect_websocket_url(self._nursery, url, ssl_context=context)
        connection = Connection(socket)
        self._nursery.start_soon(self._read, connection)
        await self._call(connection, "initialize", {"protocolVersion": 1, "clientCapabilities": {}})
        return connection

    async def _read(self, connection: Connection) -> None:
        while True:
            message = json.loads(await connection.socket.get_message())
            if message.get("method") == "session/update":
                connection.seen[message["params"]["sessionId"]] += 1
            else:
                connection.answers[message["id"]] = message["result"]
                connection.arrived[message["id"]].set()

    async def _call(self, connection: Connection, method: str, params: dict[str, Any]) -> Any:
        number = next(self._numbers)
        arrived = connection.arrived[number] = trio.Event()
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        await connection.socket.send_message(json.dumps(message))
        await arrived.wait()
        del connection.arrived[number]
        return connection.answers.pop(number)

    async def new_session(self, connection: Connection) -> tuple[Connection, str]:
        """Open a session."""
        answer = await self._call(connection, "session/new", {"cwd": "/", "mcpServers": []})
        return connection, answer["sessionId"]

    async def turn(self, session: tuple[Connection, str], text: str) -> int:
        """Send a prompt and wait for its answer."""
        connection, session_id = session
        connection.seen[session_id] = 0
        await self._call(
            connection, "session/prompt", {"sessionId": session_id, "prompt": [{"type": "text", "text": text}]}
        )
        return connection.seen[session_id]

    async def stall(self, session: tuple[Connection, str], text: str, seconds: float) -> None:
        """Is not done: there is no consumer."""
        raise NotImplementedError

    async def together(self, calls: list[Call]) -> None:
        """Run them in a nursery."""
        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(call)

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await trio.sleep(seconds)


async def run(task: Task) -> dict[str, float]:
    """Do what was asked for."""
    found: dict[str, float] = {}
    with trio.move_on_after(math.inf) as scope:
        async with trio.open_nursery() as nursery:
            found = await task.run(Raw(task.address, nursery))
            scope.cancel()
    return found


if __name__ == "__main__":
    tell(trio.run(run, parse(sys.argv[1:])), "trio-websocket", "trio")
