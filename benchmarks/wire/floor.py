"""What Trio alone takes over the wire: ``python -m benchmarks.wire.floor SIZES ADDRESS all`` prints what was measured.

As `benchmarks.memory.floor`: a task of its own for each turn, in a cancel
scope, and its events come in a deque to whoever waits.  A task reads the
connection, and one writes it, so that no cancellation can tear a frame.
Frames are cut by hand, masked by websockets and decoded by msgspec.  Nothing
else is there: no types, no errors, no limits, no store, no end of anything.
So no client that promises as much can be faster on Trio.
"""

from __future__ import annotations

import sys
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec
import trio
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from ..memory.floor import Turn
from .driver import Address, Client
from .entry import Task, parse, tell

if TYPE_CHECKING:
    from .driver import Call

RECEIVE_SIZE = 2**16
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Answer:
    """What is waited for."""

    def __init__(self) -> None:
        self.here = trio.Event()
        self.result: Any = None


class Connection:
    """A stream, the answers that are waited for, and the turns that run, by session."""

    def __init__(self, stream: trio.SocketStream, protocol: ClientProtocol) -> None:
        self.turns: dict[str, Turn] = {}
        self._stream = stream
        self._protocol = protocol
        self._numbers = count(1)
        self._answers: dict[int, Answer] = {}
        self._to_write: list[bytes] = []
        self._work = trio.Event()

    async def write(self) -> None:
        """Write what waits, together."""
        while True:
            if not self._to_write:
                self._work = trio.Event()
                await self._work.wait()
            messages, self._to_write = self._to_write, []
            for message in messages:
                self._protocol.send_text(message)
            await self._stream.send_all(b"".join(self._protocol.data_to_send()))

    async def read(self) -> None:
        """Read text frames, which are all that this agent sends."""
        data = b""
        while received := await self._stream.receive_some(RECEIVE_SIZE):
            data = data + received if data else bytes(received)
            at = 0
            while len(data) - at >= 2:
                length, start = data[at + 1], at + 2
                if length >= 126:
                    start += 2 if length == 126 else 8
                    length = int.from_bytes(data[at + 2 : start])
                if start + length > len(data):
                    break
                at = start + length
                self._take(_decode(data[start:at]))
            data = data[at:]

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("method") == "session/update":
            params = message["params"]
            self.turns[params["sessionId"]].send(params["update"]["content"]["text"])
        else:
            answer = self._answers.pop(message["id"])
            answer.result = message["result"]
            answer.here.set()

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        """Send a request, and wait for its answer."""
        number = next(self._numbers)
        answer = self._answers[number] = Answer()
        self._to_write.append(_encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))
        self._work.set()
        await answer.here.wait()
        return answer.result

    async def run_turn(self, session_id: str, text: str, turn: Turn) -> None:
        """Run a turn, in a task of its own."""
        with trio.CancelScope():
            prompt = [{"type": "text", "text": text}]
            await self.call("session/prompt", {"sessionId": session_id, "prompt": prompt})
        turn.end()


class Floor(Client):
    """Two tasks for each connection; all are ended with the nursery."""

    def __init__(self, address: Address, nursery: trio.Nursery) -> None:
        self._uri = parse_uri(address.plain)
        self._nursery = nursery

    async def connect(self, *, secure: bool = False) -> Connection:
        """Open a connection, and read and write it from then on."""
        assert not secure
        stream = await trio.open_tcp_stream(self._uri.host, self._uri.port)
        protocol = ClientProtocol(self._uri)
        protocol.send_request(protocol.connect())
        await stream.send_all(b"".join(protocol.data_to_send()))
        while not protocol.events_received():
            protocol.receive_data(bytes(await stream.receive_some(RECEIVE_SIZE)))
        connection = Connection(stream, protocol)
        self._nursery.start_soon(connection.read)
        self._nursery.start_soon(connection.write)
        await connection.call("initialize", {"protocolVersion": 1, "clientCapabilities": {}})
        return connection

    async def new_session(self, connection: Connection) -> tuple[Connection, str]:
        """Open a session."""
        answer = await connection.call("session/new", {"cwd": "/", "mcpServers": []})
        return connection, answer["sessionId"]

    async def turn(self, session: tuple[Connection, str], text: str) -> int:
        """Start a turn, and take its events."""
        connection, session_id = session
        turn = connection.turns[session_id] = Turn()
        await trio.lowlevel.checkpoint_if_cancelled()
        self._nursery.start_soon(connection.run_turn, session_id, text, turn)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return await turn.consume()

    async def stall(self, session: tuple[Connection, str], text: str, seconds: float) -> None:
        """Is not done: nothing is bounded."""
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
    plain = Task(task.sizes, Address(task.address.plain), task.what)
    async with trio.open_nursery() as nursery:
        found = await plain.run(Floor(plain.address, nursery))
        nursery.cancel_scope.cancel()
    return found


if __name__ == "__main__":
    tell(trio.run(run, parse(sys.argv[1:])), "trio", "websockets", "msgspec")
