"""One suite over every transport: what `trio_acp.abc.Transport` promises, each of them keeps."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
import trio
import trio.testing
import trio_websocket

from trio_acp._errors import ConnectionLost, InvalidOption
from trio_acp._service import shielded
from trio_acp.abc import Transport
from trio_acp.testing import TransportContract
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


class Kept(TransportContract):
    """One of the transports above, held to the kit."""

    seconds = SECONDS
    leaves = SECONDS
    over: Echo

    def connect(self) -> AbstractAsyncContextManager[tuple[Transport, Callable[[], object]]]:
        return type(self).over()


class TestMemory(Kept):
    over = staticmethod(over_memory)


class TestWebSocketOverMemory(Kept):
    over = staticmethod(over_memory_streams)


class TestWebSocketOverTcp(Kept):
    over = staticmethod(over_tcp)


class TestWebsocketsOverMemory(Kept):
    over = staticmethod(partial(over_memory_streams, "websockets"))


class TestWebsocketsOverTcp(Kept):
    over = staticmethod(partial(over_tcp, "websockets"))


class TestStdio(Kept):
    over = staticmethod(partial(over_pipes, "echo_lines.py"))


class TestStdioServer(Kept):
    over = staticmethod(partial(over_pipes, "echo_messages.py"))


# -- planted faults ------------------------------------------------------------


class Wrapped(Transport):
    """Does what another one does."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner

    async def send(self, message: str) -> None:
        await self.inner.send(message)

    async def receive(self) -> str | bytes:
        return await self.inner.receive()

    async def aclose(self) -> None:
        await self.inner.aclose()


class LosesWhatItTook(Wrapped):
    async def receive(self) -> str | bytes:
        message = await self.inner.receive()
        await trio.lowlevel.checkpoint()
        return message


class LosesWhatItTookTogether(Wrapped):
    async def receive_many(self) -> Sequence[str | bytes]:
        messages = await self.inner.receive_many()
        await trio.lowlevel.checkpoint()
        return messages


class SendsTheLastFirst(Wrapped):
    async def send_many(self, messages: Sequence[str]) -> None:
        await self.inner.send_many(messages[::-1])


class TakesNone(Wrapped):
    async def receive_many(self) -> Sequence[str | bytes]:
        await trio.lowlevel.checkpoint()
        return ()


class KnowsNoJson(Wrapped):
    async def send(self, message: str) -> None:
        await self.inner.send(message.replace("\N{LINE SEPARATOR}", "\n"))


class TellsNothing(Wrapped):
    async def receive(self) -> str | bytes:
        try:
            return await self.inner.receive()
        except ConnectionLost:
            return ""


class RaisesTriosOwn(Wrapped):
    async def send(self, message: str) -> None:
        try:
            await self.inner.send(message)
        except ConnectionLost:
            raise trio.ClosedResourceError from None


class StaysPolite(Wrapped):
    async def aclose(self) -> None:
        with shielded(0.5):
            await trio.sleep(0.5)
        await self.inner.aclose()


class StaysOpen(Wrapped):
    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


BROKEN: list[tuple[Callable[[Transport], Transport], str, str]] = [
    (LosesWhatItTook, "cancelled_at_delivery", "receive did not end within"),
    (LosesWhatItTookTogether, "cancelled_at_delivery", "receive did not end within"),
    (SendsTheLastFirst, "many_at_once", "and received ["),
    (TakesNone, "many_at_once", "receive_many returned no message"),
    (KnowsNoJson, "every_character", "came back as"),
    (TellsNothing, "sudden_end", "receive after the peer's end returned '': it must raise ConnectionLost"),
    (RaisesTriosOwn, "after_close", "send after aclose raised ClosedResourceError"),
    (StaysPolite, "a_cancelled_close", "aclose in a cancelled scope did not end within 0.1 s"),
    (StaysOpen, "after_close", "send after aclose returned None: it must raise ConnectionLost"),
]


@pytest.mark.parametrize(("transport", "law", "said"), BROKEN)
def test_the_kit_names_the_law_that_is_broken(transport: Callable[[Transport], Transport], law: str, said: str) -> None:
    """Each planted fault fails the test of its law, with what is wrong and the law itself, in words."""

    class Contract(TransportContract):
        leaves = 0.1

        def clock(self) -> trio.testing.MockClock:
            return trio.testing.MockClock(autojump_threshold=0)

        @asynccontextmanager
        async def connect(self) -> AsyncIterator[tuple[Transport, Callable[[], object]]]:
            async with over_memory() as (inner, end_peer):
                yield transport(inner), end_peer

    [name] = [name for name in dir(Contract) if name.startswith("test_") and law in name]
    with pytest.raises(AssertionError) as caught:
        getattr(Contract(), name)()
    message, _, cited = str(caught.value).partition("\nThe law: ")
    assert said in message
    assert str(getattr(Contract, name).__doc__) == cited


# -- what only some have -------------------------------------------------------


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


async def test_one_sends_at_a_time(autojump_clock: trio.testing.MockClock) -> None:
    """A second task in `send` gets `trio.BusyResourceError`; the first goes on, and after it another may."""
    ours, theirs = memory_transport_pair(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send, "1")
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(2):  # whoever was refused takes nothing away from who is there
            with pytest.raises(trio.BusyResourceError, match=r"in send\(\)"), trio.fail_after(1):
                await ours.send("2")
        assert "1" == await theirs.receive()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send, "3")
        assert "3" == await theirs.receive()


@pytest.mark.parametrize("capacity", [-1, 1.5, True, float("nan")])
def test_memory_capacity_is_checked(capacity: float) -> None:
    """A capacity that cannot be is refused."""
    with pytest.raises(InvalidOption):
        memory_transport_pair(capacity)
