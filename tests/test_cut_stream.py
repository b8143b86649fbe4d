"""What is kept from trio-websocket, held against trio-websocket alone: any frames, cut into any reads."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, cast

import attrs
import pytest
import trio
import trio.testing
import trio_websocket
from hypothesis import example, given
from websockets.frames import Frame, Opcode

from tests.test_frames import LIMIT, conversations, frame, masked_answers
from trio_acp._errors import ConnectionLost, MessageTooLarge
from trio_acp.transports import websocket_over_stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.concurrency


class Reads(trio.abc.Stream):
    """A stream that answers a handshake, and then brings these reads; nothing more comes after them."""

    def __init__(self, reads: list[bytes], *, with_answer: bool) -> None:
        self.sent = b""
        self.brought = 0
        self._reads = reads
        self._with_answer = with_answer
        self._answered = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        if self._answered.is_set():
            self.sent += bytes(data)
            return
        match = re.search(rb"(?i)sec-websocket-key: *([^\r]+)", bytes(data))
        assert match is not None
        digest = hashlib.sha1(match[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
        answer = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
        )
        if self._with_answer and self._reads:
            self._reads = [answer + self._reads[0], *self._reads[1:]]
        else:
            self._reads = [answer, *self._reads]
        self._answered.set()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await self._answered.wait()
        await trio.lowlevel.checkpoint()
        if self.brought == len(self._reads):
            return b""
        self.brought += 1
        return self._reads[self.brought - 1]

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@attrs.define
class Got:
    """What was received, what pings were answered, and whether it ended for being too large."""

    messages: list[str | bytes] = attrs.field(factory=list)
    pongs: list[Frame] = attrs.field(factory=list)
    too_large: bool = False


def pongs(stream: Reads) -> list[Frame]:
    return [each for each in masked_answers(stream.sent) if each.opcode is Opcode.PONG]


async def the_librarys(reads: list[bytes], *, with_answer: bool) -> Got:
    """Receive with the library alone."""
    got, stream = Got(), Reads(reads, with_answer=with_answer)
    try:
        async with trio.open_nursery() as nursery:
            connection = await trio_websocket.wrap_client_stream(
                nursery, cast("trio.SocketStream", stream), "test", "/", message_queue_size=0, max_message_size=LIMIT
            )
            try:
                while True:
                    got.messages.append(await connection.get_message())
            except trio_websocket.ConnectionClosed as closed:
                reason = closed.reason
                got.too_large = reason is not None and reason.code == 1009
            nursery.cancel_scope.cancel(reason="all is received")
    except* Exception:  # noqa: BLE001, S110 - its reader dies of some things: that is an end too
        pass
    got.pongs = pongs(stream)
    return got


async def ours(reads: list[bytes], *, with_answer: bool) -> Got:
    """Receive with what is below the library at work."""
    got, stream = Got(), Reads(reads, with_answer=with_answer)
    async with websocket_over_stream(stream, "test", "/", max_message=LIMIT) as transport:
        try:
            while True:
                got.messages += await transport.receive_many()
        except ConnectionLost:
            pass
        except MessageTooLarge:
            got.too_large = True
        got.pongs = pongs(stream)
    return got


@pytest.mark.parametrize("with_answer", [False, True])
@given(reads=conversations())
@example(reads=[frame(Opcode.TEXT, b"x" * (LIMIT + 1)) + frame(Opcode.TEXT, b"\xff\xff")])
def test_any_conversation_is_received_as_the_library_alone_receives_it(with_answer: bool, reads: list[bytes]) -> None:
    """The same messages in the same order, the same pongs, the same kind of end, wherever the reads were cut."""

    async def both(receive: Callable[..., Awaitable[Got]]) -> Got:
        with trio.fail_after(5):
            return await receive(reads, with_answer=with_answer)

    def run(receive: Callable[..., Awaitable[Got]]) -> Got:
        return trio.run(both, receive, clock=trio.testing.MockClock(autojump_threshold=0))

    expected, got = run(the_librarys), run(ours)
    for _ in range(20):
        if expected.too_large == got.too_large:
            break
        # Of a message that is too large and something wrong in the same read, the library tells now one, now the other.
        expected = run(the_librarys)
    assert expected == got


async def test_nothing_more_is_read_while_texts_wait(autojump_clock: trio.testing.MockClock) -> None:
    """Who receives nothing holds the peer back: one read is kept, and no more is read until it was taken."""
    stream = Reads(
        [frame(Opcode.TEXT, b"a") * 3, frame(Opcode.TEXT, b"b"), frame(Opcode.TEXT, b"c")], with_answer=False
    )
    async with websocket_over_stream(stream, "test", "/") as transport:
        await trio.testing.wait_all_tasks_blocked()
        assert 2 == stream.brought  # the answer is the first
        assert ["a", "a"] == [await transport.receive() for _ in range(2)]
        await trio.testing.wait_all_tasks_blocked()
        assert 2 == stream.brought
        assert ["a", "b", "c"] == [await transport.receive() for _ in range(3)]
        with pytest.raises(ConnectionLost, match="without a close frame"):
            await transport.receive()


async def test_closing_drops_what_waits_and_reads_on(autojump_clock: trio.testing.MockClock) -> None:
    """Texts that nobody took do not keep the peer's close from being read: closing takes no time."""
    stream = Reads(
        [frame(Opcode.TEXT, b"a"), frame(Opcode.TEXT, b"b"), frame(Opcode.CLOSE, b"\x03\xe8")], with_answer=False
    )
    async with websocket_over_stream(stream, "test", "/") as transport:
        await trio.testing.wait_all_tasks_blocked()
        await transport.aclose()
        assert 0.0 == trio.current_time()
    assert 4 == stream.brought
