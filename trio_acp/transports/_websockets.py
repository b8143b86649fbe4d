"""A client's WebSocket over the sans-I/O protocol of websockets: fewer steps a message, the same laws.

There is no task that reads: `receive` does it.  So control frames of the peer,
a ping or the close, are seen while somebody receives, as a connection of ACP
always does.  Answers to them are written by a task of their own, so that no
caller's cancellation can tear one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidState
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from trio_acp._errors import ConnectionLost
from trio_acp._service import shielded

from ._frames import Incoming
from ._handshake import RECEIVE_SIZE, refused, too_slow
from ._life import SEND_CANCELLED
from ._websocket_transport import BROKE_OFF, FORCE_SECONDS, WebSocketTransport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._handshake import WatchedStream

_log = logging.getLogger(__name__)

_MAX_ANSWERS: Final = 2**16
"""Bytes of answers to control frames that may wait; with more, nothing is read until they are written."""

_NORMAL: Final = 1000
_SWITCHING_PROTOCOLS: Final = 101
_HEADERS_END: Final = b"\r\n\r\n"

# The library's own would log headers, and so tokens, at DEBUG level; and nobody shall switch it on.
_SILENT: Final = logging.Logger("trio_acp.websockets", logging.CRITICAL + 1)  # noqa: LOG001 - not in the tree


class WebsocketsTransport(WebSocketTransport):
    """One connection, the client's end of it.

    Args:
        stream: What is below.
        protocol: Open.
        rest: What came after the handshake's answer in the same read.
        limit: The longest message to receive, in bytes.
        close_timeout: Seconds for the closing handshake.
    """

    def __init__(
        self,
        stream: WatchedStream,
        protocol: ClientProtocol,
        rest: bytes,
        *,
        limit: int,
        close_timeout: float,
    ) -> None:
        super().__init__(stream, close_timeout=close_timeout)
        self._stream = stream
        self._protocol = protocol
        self._in = Incoming(protocol, limit, self._pong)
        self._receiving = False
        self._write_lock = trio.Lock()
        self._answers = bytearray()
        self._to_answer = trio.Event()
        self._answered = trio.Event()
        self._stopped_receiving = trio.Event()
        self._pings: dict[bytes, trio.Event] = {}
        self._next_ping = 0
        self._take_in(rest)

    # -- sending ----------------------------------------------------------------------

    async def _send(self, messages: Sequence[str]) -> None:
        try:
            self._write_lock.acquire_nowait()
        except trio.WouldBlock:
            await self._write_lock.acquire()
        lost = False
        try:
            for message in messages:
                self._protocol.send_text(message.encode())
            await self._stream.send_all(b"".join(self._protocol.data_to_send()))
        except trio.Cancelled:
            # Half a frame may be out.  The next message would be read as the rest of it, so there is no next one.
            self._life.end(SEND_CANCELLED)
            with shielded(FORCE_SECONDS):
                await trio.aclose_forcefully(self._stream)
            raise
        except (InvalidState, trio.BrokenResourceError, trio.ClosedResourceError):
            lost = True
        finally:
            self._write_lock.release()
        if lost:
            # Not noted as this side's end: what arrived before can still be received.
            await trio.lowlevel.checkpoint()
            why, detail = self._life.reason or self._describe_end()
            raise ConnectionLost(why, detail=detail)

    # -- receiving --------------------------------------------------------------------

    async def _next(self, most: int) -> Sequence[str | bytes] | None:
        waiting = self._in.messages
        if waiting:
            await trio.lowlevel.checkpoint()
        else:
            self._parked_since = trio.current_time()
            self._receiving = True
            try:
                while not waiting and await self._read():
                    pass
            finally:
                self._parked_since = None
                self._receiving = False
                self._stopped_receiving.set()
            if not waiting or self._life.ended:
                return None
        if len(waiting) <= most:
            taken = list(waiting)
            waiting.clear()
            return taken
        return [waiting.popleft() for _ in range(most)]

    async def _read(self) -> bool:
        """Read once, and sort out what came; False if nothing more will come.  If cancelled, nothing is lost."""
        if self._in.end is not None:
            return False
        if len(self._answers) > _MAX_ANSWERS:
            await self._answered.wait()
        try:
            if data := await self._stream.receive_some(RECEIVE_SIZE):
                self._take_in(data)
                return True
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except Exception as error:  # noqa: BLE001 - foreign code: whatever it raises ends this connection, nothing else
            _log.debug("a WebSocket could not be read: %s", type(error).__name__)
        self._in.end = BROKE_OFF
        self._nothing_more()
        return True

    def _take_in(self, data: bytes) -> None:
        self._in.feed(data)
        if answers := self._protocol.data_to_send():
            self._answers += b"".join(answers)
            self._answered = trio.Event()
            self._to_answer.set()
        if self._in.end is not None:
            self._nothing_more()

    def _describe_end(self) -> tuple[str, str]:
        return self._in.end or BROKE_OFF

    # -- control frames ---------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def answer(self) -> None:
        """Write what control frames are answered with, for as long as the connection lasts.

        Cancelled, it may leave half a frame: that happens only as the connection is closed.
        """
        while True:
            await self._to_answer.wait()
            self._to_answer = trio.Event()
            await self._write_answers()

    async def _write_answers(self) -> None:
        async with self._write_lock:
            answers, self._answers = self._answers, bytearray()
            try:
                if answers:
                    await self._stream.send_all(answers)
            except Exception as error:  # noqa: BLE001 - foreign code, in a task: the receiver finds out by itself
                _log.debug("an answer could not be written: %s", type(error).__name__)
                self._answers.clear()  # nor can any other, and a receiver may wait for them to be gone
            if not self._answers:
                self._answered.set()

    @trio.lowlevel.enable_ki_protection
    async def _ping(self, answered: trio.Event) -> None:
        payload = self._next_ping.to_bytes(8)
        self._next_ping += 1
        try:
            self._protocol.send_ping(payload)
        except InvalidState:
            await trio.lowlevel.checkpoint()
            answered.set()
            return
        self._pings[payload] = answered
        self._answers += b"".join(self._protocol.data_to_send())
        await self._write_answers()

    def _pong(self, payload: bytes) -> None:
        if payload in self._pings:
            self._pings.pop(payload).set()

    def _nothing_more(self) -> None:
        for answered in self._pings.values():
            answered.set()
        self._pings.clear()

    # -- closing ----------------------------------------------------------------------

    async def _close_politely(self, *, alive: bool) -> None:
        self._nothing_more()
        if alive and self._protocol.state is State.OPEN:
            self._protocol.send_close(_NORMAL)
            self._answers += b"".join(self._protocol.data_to_send())
        await self._write_answers()
        if alive and self._receiving:  # in another task, which goes on until something comes
            self._stopped_receiving = trio.Event()
            await self._stopped_receiving.wait()
        while alive and await self._read():
            self._in.messages.clear()


async def open_client(
    stream: WatchedStream,
    host: str,
    resource: str,
    *,
    headers: Sequence[tuple[bytes, bytes]],
    subprotocols: Sequence[str],
    shown: str,
    deadline: float,
    limit: int,
    close_timeout: float,
) -> tuple[WebsocketsTransport, list[tuple[bytes, bytes]]]:
    """Do the opening handshake; return the connection and the headers of the answer.

    If cancelled, the caller must close the stream.  `WebsocketsTransport.answer` is to be run in a task.

    Args:
        stream: Fresh.
        host: The Host header.
        resource: The path and the query.
        headers: Added to the request.
        subprotocols: Offered to the server.
        shown: The address, for messages.
        deadline: By Trio's clock.
        limit: The longest message to receive, in bytes.
        close_timeout: Seconds for the closing handshake.

    Raises:
        BackendUnavailable: it was rejected, the stream ended, or the deadline passed.
    """
    path, _, query = resource.partition("?")
    protocol = ClientProtocol(
        WebSocketURI(secure=False, host="localhost", port=80, path=path, query=query),
        subprotocols=[Subprotocol(each) for each in subprotocols] or None,
        max_size=limit,
        logger=_SILENT,
    )
    request = protocol.connect()
    del request.headers["Host"]
    request.headers["Host"] = host  # as our URL writes it
    for name, value in headers:
        request.headers[name.decode("ascii")] = value.decode("ascii")
    protocol.send_request(request)
    answer: Response | None = None
    rest = b""
    with trio.move_on_at(deadline):
        try:
            await stream.send_all(b"".join(protocol.data_to_send()))
            answer, rest = await _read_answer(stream, protocol)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise refused(shown, stream.status) from None
    if answer is None and stream.status in (None, _SWITCHING_PROTOCOLS) and not protocol.handshake_exc:
        raise too_slow(shown, "the WebSocket handshake was not answered")
    if answer is None or protocol.state is not State.OPEN:
        raise refused(shown, stream.status)
    received = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.raw_items()]
    return WebsocketsTransport(stream, protocol, rest, limit=limit, close_timeout=close_timeout), received


async def _read_answer(stream: WatchedStream, protocol: ClientProtocol) -> tuple[Response | None, bytes]:
    """Read up to the end of the answer's headers; return None if the handshake failed, and what came behind them."""
    head = b""
    while True:
        data = await stream.receive_some(RECEIVE_SIZE)
        if not data:
            raise trio.BrokenResourceError("the stream ended within the handshake")
        before, head = len(head), head + data
        end = head.find(_HEADERS_END, max(0, before - len(_HEADERS_END)))
        # What is behind the headers is not for the library: see `Incoming`.
        length = len(data) if end < 0 else end + len(_HEADERS_END) - before
        protocol.receive_data(data[:length])
        for event in protocol.events_received():
            if isinstance(event, Response):
                return event, data[length:]
        if protocol.handshake_exc is not None or stream.status not in (None, _SWITCHING_PROTOCOLS):
            return None, b""
