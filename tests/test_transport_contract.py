"""One suite over every transport: what `trio_acp.abc.Transport` promises, each of them keeps."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
import trio
import trio.testing
import trio_websocket

from trio_acp._errors import ConnectionLost, InvalidMessage, InvalidOption
from trio_acp.abc import Transport
from trio_acp.transports import (
    StdioTransport,
    dial_stdio,
    dial_websocket,
    memory_transport_pair,
    websocket_over_stream,
    websocket_server_transport,
)

if TYPE_CHECKING:
    from trio_acp.transports._engines import Engine

pytestmark = pytest.mark.concurrency

PROGRAMS = Path(__file__).parent / "programs"
LIMIT = 64 * 2**20
SECONDS = 20.0

Echo: TypeAlias = Callable[[], AbstractAsyncContextManager[tuple[Transport, Callable[[], None]]]]
"""Opens a transport to a peer that echoes; the function ends the peer suddenly."""


async def echo(transport: Transport) -> None:
    """Send back every message until the connection has ended."""
    try:
        while True:
            message = await transport.receive()
            assert isinstance(message, str)
            await transport.send(message)
    except ConnectionLost:
        pass


@asynccontextmanager
async def over_memory() -> AsyncIterator[tuple[Transport, Callable[[], None]]]:
    """Two ends in one program; the sudden end is the other side's close."""
    ours, theirs = memory_transport_pair()
    gone = trio.Event()

    async def peer(scope: trio.CancelScope) -> None:
        with scope:
            await echo(theirs)
        await theirs.aclose()
        gone.set()

    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(peer, scope)
        try:
            yield ours, lambda: scope.cancel(reason="sudden end")
        finally:
            await ours.aclose()


async def serve_echo(stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
    """Be the server on one stream until `scope` is cancelled: then the stream ends without a close frame."""
    with scope:
        async with trio.open_nursery() as nursery:
            request = await trio_websocket.wrap_server_stream(nursery, stream, max_message_size=LIMIT)
            connection = await request.accept()
            await echo(websocket_server_transport(connection))
            nursery.cancel_scope.cancel(reason="echo has ended")
    await trio.aclose_forcefully(stream)


@asynccontextmanager
async def over_memory_streams(engine: Engine = "trio-websocket") -> AsyncIterator[tuple[Transport, Callable[[], None]]]:
    """A WebSocket over streams in memory."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(serve_echo, theirs, scope)
        async with websocket_over_stream(ours, "test", "/acp", engine=engine) as transport:
            yield transport, lambda: scope.cancel(reason="sudden end")


@asynccontextmanager
async def over_tcp(engine: Engine = "trio-websocket") -> AsyncIterator[tuple[Transport, Callable[[], None]]]:
    """A WebSocket over a real loopback connection."""
    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(
            trio.serve_tcp, lambda stream: serve_echo(stream, scope), 0
        )
        port = listeners[0].socket.getsockname()[1]
        async with dial_websocket(f"ws://localhost:{port}/acp", engine=engine)() as transport:
            yield transport, lambda: scope.cancel(reason="sudden end")
        nursery.cancel_scope.cancel(reason="the test is over")


@asynccontextmanager
async def over_pipes(program: str) -> AsyncIterator[tuple[Transport, Callable[[], None]]]:
    """A child process that echoes lines; the sudden end is SIGKILL."""
    async with dial_stdio([sys.executable, str(PROGRAMS / program)])() as transport:
        assert isinstance(transport, StdioTransport)
        pid = transport.pid
        yield transport, lambda: os.kill(pid, signal.SIGKILL)


KINDS: dict[str, Echo] = {
    "memory": over_memory,
    "websocket-memory": over_memory_streams,
    "websocket-tcp": over_tcp,
    "websockets-memory": lambda: over_memory_streams("websockets"),
    "websockets-tcp": lambda: over_tcp("websockets"),
    "stdio": lambda: over_pipes("echo_lines.py"),
    "stdio-server": lambda: over_pipes("echo_messages.py"),
}


@pytest.fixture(name="connect", params=list(KINDS))
def _connect(request: pytest.FixtureRequest) -> Echo:
    @asynccontextmanager
    async def connect() -> AsyncIterator[tuple[Transport, Callable[[], None]]]:
        with trio.fail_after(SECONDS):
            async with KINDS[request.param]() as pair:
                yield pair

    return connect


async def test_order_is_kept(connect: Echo) -> None:
    """Messages arrive whole, each once, in the order in which they were sent."""
    sent = [json.dumps({"n": n}) for n in range(200)]
    received: list[str | bytes] = []

    async def sender(transport: Transport) -> None:
        for message in sent:
            await transport.send(message)

    async with connect() as (transport, _), trio.open_nursery() as nursery:
        nursery.start_soon(sender, transport)
        received.extend([await transport.receive() for _ in sent])
    assert sent == received


async def test_a_large_message(connect: Echo) -> None:
    """A message of 8 MiB goes there and back."""
    message = json.dumps({"text": "x" * 8 * 2**20})

    async with connect() as (transport, _), trio.open_nursery() as nursery:
        nursery.start_soon(transport.send, message)
        answer = await transport.receive()
    assert message == answer


@pytest.mark.parametrize("text", ["\u2028\u2029\x85", "\0", "line\nbreak\r\n", "é \U0001f600 漢", "\ufeff", ""])
@pytest.mark.parametrize("escaped", [True, False])
async def test_unicode(connect: Echo, text: str, escaped: bool) -> None:
    """Every character that JSON can carry arrives as it was, escaped or not."""
    message = json.dumps({"text": text}, ensure_ascii=escaped)

    async with connect() as (transport, _):
        await transport.send(message)
        answer = await transport.receive()
    assert message == answer


async def test_what_is_no_text_is_refused(connect: Echo) -> None:
    """A lone surrogate is refused before anything is sent, and the connection goes on."""
    async with connect() as (transport, _):
        with pytest.raises(InvalidMessage, match="character 2"):
            await transport.send('["\ud800"]')
        await transport.send("{}")
        assert await transport.receive() == "{}"


async def test_receive_cancelled_before_it_starts(connect: Echo) -> None:
    """A receive in a scope that is already cancelled takes nothing."""
    async with connect() as (transport, _):
        await transport.send("{}")
        with trio.CancelScope() as scope:
            scope.cancel(reason="before")
            await transport.receive()
        assert scope.cancelled_caught
        assert await transport.receive() == "{}"


async def test_receive_cancelled_while_it_waits(connect: Echo) -> None:
    """A receive that is cancelled while nothing has arrived leaves the next message for the next receive."""
    async with connect() as (transport, _):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(transport.receive)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel(reason="while waiting")
        assert scope.cancelled_caught
        await transport.send("{}")
        assert await transport.receive() == "{}"


async def test_receive_cancelled_at_delivery(connect: Echo) -> None:
    """However a cancellation and a message meet, the message is received exactly once."""
    sent = [json.dumps({"n": n}) for n in range(30)]
    received: list[str | bytes] = []

    async def receive_into(transport: Transport) -> None:
        received.append(await transport.receive())

    async with connect() as (transport, _):
        for steps, message in enumerate(sent):
            await transport.send(message)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(receive_into, transport)
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                    scope.cancel(reason="at delivery")
            if len(received) <= steps:
                received.append(await transport.receive())
    assert sent == received


async def test_closing_ends_a_receive(connect: Echo) -> None:
    """A receive that waits while its transport is closed raises `ConnectionLost`, detail closed."""
    details = []

    async def receive(transport: Transport) -> None:
        with pytest.raises(ConnectionLost) as caught:
            await transport.receive()
        details.append(caught.value.detail)

    async with connect() as (transport, _), trio.open_nursery() as nursery:
        nursery.start_soon(receive, transport)
        await trio.testing.wait_all_tasks_blocked()
        await transport.aclose()
    assert details == ["closed"]


async def test_after_close(connect: Echo) -> None:
    """After close, send and receive raise `ConnectionLost`; closing again is a checkpoint and does nothing."""
    async with connect() as (transport, _):
        with trio.testing.assert_checkpoints():
            await transport.aclose()
        with trio.testing.assert_checkpoints():
            await transport.aclose()
        with pytest.raises(ConnectionLost) as sending, trio.testing.assert_checkpoints():
            await transport.send("{}")
        with pytest.raises(ConnectionLost) as receiving, trio.testing.assert_checkpoints():
            await transport.receive()
    assert [sending.value.detail, receiving.value.detail] == ["closed", "closed"]


async def test_two_close_at_once(connect: Echo) -> None:
    """Two tasks may close at once: both return, and the transport is closed."""
    async with connect() as (transport, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.aclose)
            nursery.start_soon(transport.aclose)
        with pytest.raises(ConnectionLost):
            await transport.receive()


async def test_a_cancelled_close_closes(connect: Echo) -> None:
    """A cancelled close raises `Cancelled` and has closed by force."""
    async with connect() as (transport, _):
        with trio.CancelScope() as scope:
            scope.cancel(reason="no time for manners")
            await transport.aclose()
        assert scope.cancelled_caught
        with pytest.raises(ConnectionLost):
            await transport.receive()


async def test_one_receiver(connect: Echo) -> None:
    """A second task in receive gets `BusyResourceError`, and the first goes on."""
    answers: list[str | bytes] = []

    async def receive(transport: Transport) -> None:
        answers.append(await transport.receive())

    async with connect() as (transport, _), trio.open_nursery() as nursery:
        nursery.start_soon(receive, transport)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await transport.receive()
        await transport.send("{}")
    assert answers == ["{}"]


async def test_the_peers_sudden_end(connect: Echo) -> None:
    """When the peer vanishes, receive raises `ConnectionLost`, again and again, and send soon does."""
    async with connect() as (transport, end_peer):
        await transport.send("{}")
        await transport.receive()
        end_peer()
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                await transport.receive()
        with pytest.raises(ConnectionLost):
            await transport.send("{}")


async def test_send_and_receive_are_checkpoints(connect: Echo) -> None:
    """Every public method is a checkpoint also when it succeeds at once."""
    async with connect() as (transport, _):
        with trio.testing.assert_checkpoints():
            await transport.send("{}")
        with trio.testing.assert_checkpoints():
            await transport.receive()


async def test_memory_works_in_virtual_time(autojump_clock: trio.testing.MockClock) -> None:
    """A WebSocket over memory streams works in virtual time."""
    async with over_memory_streams() as (transport, _):
        await trio.sleep(SECONDS / 2)
        await transport.send("{}")
        assert await transport.receive() == "{}"


async def test_memory_binary_messages() -> None:
    """Tests can send what only some peers send."""
    ours, theirs = memory_transport_pair()
    await ours.send_bytes(b"\0")
    assert await theirs.receive() == b"\0"


async def test_memory_has_room_for_so_many() -> None:
    """With a capacity, send waits when it is used up; cancelled then, the connection is gone, as on a network."""
    ours, theirs = memory_transport_pair(1)
    await ours.send("1")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.send, "2")
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel(reason="no room")
    with pytest.raises(ConnectionLost, match="send was cancelled"):
        await ours.send("3")
    assert await theirs.receive() == "1"
    with pytest.raises(ConnectionLost, match="peer closed"):
        await theirs.receive()


async def test_memory_closed_while_a_send_waits() -> None:
    """A send that waits ends with `ConnectionLost` when either side closes."""
    for closer in (0, 1):
        pair = memory_transport_pair(0)

        async def send(transport: Transport) -> None:
            with pytest.raises(ConnectionLost):
                await transport.send("{}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, pair[0])
            await trio.testing.wait_all_tasks_blocked()
            await pair[closer].aclose()


@pytest.mark.parametrize("capacity", [-1, 1.5, True, float("nan")])
def test_memory_capacity_is_checked(capacity: float) -> None:
    """A capacity that cannot be is refused."""
    with pytest.raises(InvalidOption):
        memory_transport_pair(capacity)
