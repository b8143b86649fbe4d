"""What a turn over a WebSocket costs in counts, which are the same on every machine: task steps, I/O waits, writes."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest
import trio
import wsproto
from wsproto.events import AcceptConnection, CloseConnection, Message, Request, TextMessage

import trio_acp
from trio_acp.transports import websocket_over_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_acp.abc import Transport
    from trio_acp.transports._engines import Engine

SECONDS: Final = 60.0
TURNS: Final = 20

STEPS: Final[dict[Engine, float]] = {"trio-websocket": 10.5, "websockets": 8}
"""Steps of tasks, and waits for I/O, that a turn of 10 updates may take."""

PER_UPDATE: Final = 0.1
"""Steps of tasks that each update of a long turn may take."""


@attrs.define(eq=False)
class Counts(trio.abc.Instrument):
    """Counts what Trio does while it is installed."""

    steps: int = 0
    io_waits: int = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1

    def before_io_wait(self, timeout: float) -> None:
        self.io_waits += 1


class Agent:
    """An agent in a thread, for its steps not to be counted: it answers all that one read brought in one write.

    A prompt is a number: of the updates to send.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._ws = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        self._sessions = 0

    def serve(self) -> None:
        """Serve one connection to its end."""
        with self._sock:
            while data := self._sock.recv(2**20):
                self._ws.receive_data(data)
                answer = b"".join(map(self._answer, self._ws.events()))
                self._sock.sendall(answer)

    def _answer(self, event: wsproto.events.Event) -> bytes:
        match event:
            case Request():
                return self._ws.send(AcceptConnection())
            case CloseConnection():
                return self._ws.send(event.response())
            case TextMessage(data=text, message_finished=True):
                return b"".join(self._ws.send(Message(data=json.dumps(each))) for each in self._replies(text))
        raise AssertionError(f"not expected: {event!r}")

    def _replies(self, text: str) -> list[dict[str, Any]]:
        asked = json.loads(text)
        params: Any = asked["params"]
        result: dict[str, Any] = {}
        replies: list[dict[str, Any]] = []
        match asked["method"]:
            case "initialize":
                result = {"protocolVersion": 1}
            case "session/new":
                self._sessions += 1
                result = {"sessionId": f"s{self._sessions}"}
            case "session/prompt":
                update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "x" * 64}}
                told = {"sessionId": params["sessionId"], "update": update}
                note = {"jsonrpc": "2.0", "method": "session/update", "params": told}
                replies = [note] * int(params["prompt"][0]["text"])
                result = {"stopReason": "end_turn"}
        return [*replies, {"jsonrpc": "2.0", "id": asked["id"], "result": result}]


class CountedStream(trio.abc.Stream):
    """Passes everything through, and counts writes."""

    def __init__(self, inner: trio.SocketStream) -> None:
        self.writes = 0
        self._inner = inner

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.writes += 1
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._inner.aclose()


@attrs.define(eq=False)
class World:
    """A manager and its only connection."""

    manager: trio_acp.SessionManager
    stream: CountedStream


@asynccontextmanager
async def connected(engine: Engine) -> AsyncIterator[World]:
    """Open a manager whose agent is in a thread, over a pair of sockets."""
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=Agent(theirs).serve, name="agent")
    thread.start()
    stream = CountedStream(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))

    @asynccontextmanager
    async def dial() -> AsyncIterator[Transport]:
        async with websocket_over_stream(stream, "test", "/acp", engine=engine) as transport:
            yield transport

    try:
        with trio.fail_after(SECONDS):
            async with trio_acp.open_session_manager({"agent": trio_acp.AcpRuntime(dial)}) as manager:
                yield World(manager, stream)
    finally:
        ours.close()
        thread.join()


async def one_turn(session: trio_acp.Session, updates: int) -> None:
    async with session.turn(str(updates)) as turn:
        assert updates == len([event async for event in turn])


@pytest.fixture(name="engine", params=STEPS)
def _engine(request: pytest.FixtureRequest) -> Engine:
    chosen: Engine = request.param
    return chosen


async def test_the_steps_of_a_turn_of_ten(engine: Engine) -> None:
    """A turn of ten updates that come together takes so many steps and waits, and one write."""
    counts = Counts()
    async with connected(engine) as world:
        session = await world.manager.start_session("k", agent="agent", cwd="/")
        await one_turn(session, 10)
        world.stream.writes = 0
        trio.lowlevel.add_instrument(counts)
        for _ in range(TURNS):
            await one_turn(session, 10)
        trio.lowlevel.remove_instrument(counts)
        assert TURNS == world.stream.writes
    # What was sent in one write may still be read in two: half a step for that.
    assert counts.steps <= (STEPS[engine] + 0.5) * TURNS
    assert counts.io_waits <= (STEPS[engine] + 0.5) * TURNS


async def test_the_steps_of_an_update(engine: Engine) -> None:
    """Each of ten thousand updates of one turn takes a small part of a step."""
    counts = Counts()
    async with connected(engine) as world:
        session = await world.manager.start_session("k", agent="agent", cwd="/")
        await one_turn(session, 0)
        trio.lowlevel.add_instrument(counts)
        await one_turn(session, 10_000)
        trio.lowlevel.remove_instrument(counts)
    assert counts.steps <= PER_UPDATE * 10_000


async def test_a_hundred_prompts_of_one_pass_go_in_four_writes(engine: Engine) -> None:
    """What a hundred sessions ask within one pass of the scheduler is joined."""
    async with connected(engine) as world:
        sessions = [await world.manager.start_session(f"k{n}", agent="agent", cwd="/") for n in range(100)]
        for session in sessions:
            await one_turn(session, 0)
        world.stream.writes = 0
        async with trio.open_nursery() as nursery:
            for session in sessions:
                nursery.start_soon(one_turn, session, 0)
        assert world.stream.writes <= 4
