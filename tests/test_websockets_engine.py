"""What only the engine ``websockets`` has to show: batches, answers to control frames, and who reads when."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from trio_acp._errors import ConnectionLost
from trio_acp.transports import websocket_over_stream
from trio_acp.transports._websocket_transport import MAX_TAKEN
from trio_acp.transports._websockets import WebsocketsTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.concurrency


class Server:
    """The other end, by hand: what it sends and reads is up to the test."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.accepted = trio.Event()
        self._protocol = ServerProtocol()

    async def accept(self, *, together_with: bytes = b"") -> None:
        """Answer the handshake; what goes with it is sent in the same write."""
        self._protocol.receive_data(await self.stream.receive_some())
        (request,) = self._protocol.events_received()
        assert isinstance(request, Request)
        self._protocol.send_response(self._protocol.accept(request))
        await self.stream.send_all(b"".join(self._protocol.data_to_send()) + together_with)
        self.accepted.set()

    async def frames(self, count: int) -> list[tuple[Opcode, bytes]]:
        """Read so many frames."""
        frames: list[tuple[Opcode, bytes]] = []
        while len(frames) < count:
            self._protocol.receive_data(await self.stream.receive_some())
            for event in self._protocol.events_received():
                assert isinstance(event, Frame)
                frames.append((event.opcode, bytes(event.data)))
        return frames


def frame(opcode: Opcode, data: bytes) -> bytes:
    return Frame(opcode, data).serialize(mask=False)


@asynccontextmanager
async def connected(
    *, together_with: bytes = b"", wire: tuple[trio.abc.Stream, trio.abc.Stream] | None = None
) -> AsyncIterator[tuple[WebsocketsTransport, Server]]:
    """Connect the engine with a server by hand over a wire in memory, under a deadline."""
    ours, theirs = wire or trio.testing.memory_stream_pair()
    server = Server(theirs)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: server.accept(together_with=together_with))
            async with websocket_over_stream(ours, "test", "/acp", engine="websockets", close_timeout=0.1) as transport:
                assert isinstance(transport, WebsocketsTransport)
                yield transport, server


async def test_what_one_read_brought_is_taken_together_within_a_bound() -> None:
    """Messages come in batches of at most 256, in order, also if they came with the handshake's answer."""
    sent = [str(n) for n in range(2 * MAX_TAKEN + 10)]
    together = b"".join(frame(Opcode.TEXT, text.encode()) for text in sent)
    async with connected(together_with=together) as (transport, _):
        batches = [await transport.receive_many() for _ in range(3)]
    assert [MAX_TAKEN, MAX_TAKEN, 10] == [len(batch) for batch in batches]
    assert sent == [message for batch in batches for message in batch]


async def test_a_batch_that_waits_is_taken_with_a_checkpoint_and_lost_by_no_cancellation() -> None:
    """A cancelled receive of what is there already takes none of it."""
    together = b"".join(frame(Opcode.TEXT, str(n).encode()) for n in range(MAX_TAKEN + 3))
    async with connected(together_with=together) as (transport, _):
        await transport.receive_many()
        with trio.CancelScope() as scope:
            scope.cancel(reason="before")
            await transport.receive_many()
        assert scope.cancelled_caught
        with trio.testing.assert_checkpoints():
            assert ["256", "257", "258"] == await transport.receive_many()


async def test_a_ping_is_answered_while_somebody_receives() -> None:
    """Between messages, and between the fragments of one, with what it carried; a receiver's end tears nothing."""
    async with connected() as (transport, server):
        await server.stream.send_all(
            frame(Opcode.PING, b"1") + Frame(Opcode.TEXT, b"a", fin=False).serialize(mask=False)
        )
        await server.stream.send_all(frame(Opcode.PING, b"2") + frame(Opcode.CONT, b"b"))
        assert "ab" == await transport.receive()
        assert [(Opcode.PONG, b"1"), (Opcode.PONG, b"2")] == await server.frames(2)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(transport.receive)
                await trio.testing.wait_all_tasks_blocked()
                await server.stream.send_all(frame(Opcode.PING, b"3"))
                scope.cancel(reason="with the ping under way")
        await server.stream.send_all(frame(Opcode.PING, b"4") + frame(Opcode.TEXT, b"c"))
        assert "c" == await transport.receive()
        pongs = await server.frames(2)
        assert [(Opcode.PONG, b"3"), (Opcode.PONG, b"4")] == pongs


async def test_a_flood_of_pings_is_not_read_on_while_nobody_takes_the_answers() -> None:
    """Answers that wait are bounded: then the flood waits in the stream, and a message behind it."""
    wire = trio.testing.lockstep_stream_pair()
    flood = frame(Opcode.PING, b"x" * 100) * 1000
    async with connected(wire=wire) as (transport, server):
        taken = 0

        async def send() -> None:
            nonlocal taken
            await server.accepted.wait()
            for _ in range(20):
                await server.stream.send_all(flood)
                taken += len(flood)
            await server.stream.send_all(frame(Opcode.TEXT, b"at last"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            received: list[str | bytes] = []

            async def receive() -> None:
                received.append(await transport.receive())

            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            assert taken <= 4 * len(flood)
            assert [(Opcode.PONG, b"x" * 100)] * 20_000 == await server.frames(20_000)
        assert ["at last"] == received


async def test_closing_ends_a_receive_that_waits_for_answers_to_be_written() -> None:
    """Where the peer floods and reads nothing, the receiver hears of the end too, and does not wait for ever."""
    wire = trio.testing.lockstep_stream_pair()
    flood = frame(Opcode.PING, b"x" * 100) * 1000
    async with connected(wire=wire) as (transport, server), trio.open_nursery() as nursery:
        details: list[str] = []

        async def receive() -> None:
            with pytest.raises(ConnectionLost) as caught:
                await transport.receive()
            details.append(caught.value.detail)

        async def send() -> None:
            await server.accepted.wait()
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await server.stream.send_all(flood)

        nursery.start_soon(receive)
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        await transport.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert ["closed"] == details


async def test_a_send_waits_for_an_answer_that_is_being_written() -> None:
    """A pong and a message never mix, whichever is first."""
    wire = trio.testing.lockstep_stream_pair()
    async with connected(wire=wire) as (transport, server), trio.open_nursery() as nursery:
        nursery.start_soon(transport.receive)
        await server.accepted.wait()
        await server.stream.send_all(frame(Opcode.PING, b"1"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(transport.send_many, ["a", "b"])
        await trio.testing.wait_all_tasks_blocked()
        assert [(Opcode.PONG, b"1"), (Opcode.TEXT, b"a"), (Opcode.TEXT, b"b")] == await server.frames(3)
        await server.stream.send_all(frame(Opcode.TEXT, b"end"))


async def test_the_peers_close_is_answered_and_told() -> None:
    """What came before it is received; then its code and reason; and the peer gets its answer."""
    async with connected() as (transport, server):
        await server.stream.send_all(frame(Opcode.TEXT, b"last") + frame(Opcode.CLOSE, b"\x0f\xa0bye"))
        assert "last" == await transport.receive()
        for _ in range(2):
            with pytest.raises(ConnectionLost, match=r"with code 4000 .*: bye"):
                await transport.receive()
        assert [(Opcode.CLOSE, b"\x0f\xa0bye")] == await server.frames(1)
        with pytest.raises(ConnectionLost, match="bye"):
            await transport.send("{}")


async def test_what_breaks_the_rules_is_told_to_the_peer_too(caplog: pytest.LogCaptureFixture) -> None:
    """Text that is no UTF-8: both sides are told; at DEBUG level nothing of the connection is logged."""
    with caplog.at_level(logging.DEBUG):
        async with connected() as (transport, server):
            await server.stream.send_all(b"\x81\x02\xff\xff")
            with pytest.raises(ConnectionLost, match="broke the rules of WebSocket: invalid start byte at position 0"):
                await transport.receive()
            ((opcode, data),) = await server.frames(1)
            assert (Opcode.CLOSE, 1007) == (opcode, int.from_bytes(data[:2]))
    assert [] == [record for record in caplog.records if record.name != "websockets.server"]


async def test_closing_reads_on_to_the_peers_answer() -> None:
    """The close frame goes out at once, what still arrives is dropped, and the peer's answer ends it."""
    async with connected() as (transport, server), trio.open_nursery() as nursery:
        nursery.start_soon(transport.aclose)
        assert [(Opcode.CLOSE, b"\x03\xe8")] == await server.frames(1)
        await server.stream.send_all(frame(Opcode.TEXT, b"too late") + frame(Opcode.CLOSE, b"\x03\xe8"))
        assert b"" == await server.stream.receive_some()
    with pytest.raises(ConnectionLost) as caught:
        await transport.receive()
    assert "closed" == caught.value.detail
