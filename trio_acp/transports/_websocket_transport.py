"""Send, receive, ping and close over an open WebSocket, whichever side opened it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio_websocket
from wsproto.utilities import LocalProtocolError

from trio_acp._errors import ConnectionLost, MessageTooLarge
from trio_acp._service import shielded
from trio_acp.abc import Transport

from ._life import CLOSED_HERE, SEND_CANCELLED, Life, require_text

if TYPE_CHECKING:
    from ._handshake import WatchedStream

_FORCE_SECONDS = 1.0
_ABNORMAL = 1006
_NO_STATUS = 1005
_TOO_BIG = 1009


class _Below(trio.abc.AsyncResource):
    """What a transport closes by force: the library's connection, then the stream, whatever the library left of it."""

    def __init__(self, connection: trio_websocket.WebSocketConnection, stream: trio.abc.AsyncResource | None) -> None:
        self._connection = connection
        self._stream = stream

    async def aclose(self) -> None:
        """Close both; cancelled, by force."""
        try:
            await self._connection.aclose()
        finally:
            if self._stream is not None:
                await self._stream.aclose()


class WebSocketTransport(Transport):
    """One WebSocket connection (RFC 6455); a message is a text frame.  Closing takes `close_timeout` seconds at most.

    Attributes:
        connection_id: What the server called this connection (``Acp-Connection-Id``), if it did.
    """

    def __init__(
        self,
        connection: trio_websocket.WebSocketConnection,
        *,
        stream: trio.abc.AsyncResource | None = None,
        close_timeout: float,
        max_message: int | None = None,
        connection_id: str | None = None,
    ) -> None:
        self._connection = connection
        self._below = _Below(connection, stream)
        self._close_timeout = close_timeout
        self._max_message = max_message
        self.connection_id = connection_id
        self._life = Life()
        self._longest_sent = 0
        self._parked_since: float | None = None
        self._closing = False
        self._closed = trio.Event()

    async def send(self, message: str) -> None:
        """Send one message as a text frame.  If cancelled in the middle, the connection is gone.

        Raises:
            ConnectionLost: the connection has ended, or an earlier send was cancelled.
            InvalidMessage: the text has a lone surrogate.
        """
        require_text(message)
        with self._life.sole("send"):
            await self._life.require()
            self._longest_sent = max(self._longest_sent, len(message))
            try:
                await self._connection.send_message(message)
            except trio.Cancelled:
                # Half a frame may be out.  The next message would be read as the rest of it, so there is no next one.
                self._life.end(SEND_CANCELLED)
                with shielded(_FORCE_SECONDS):
                    await trio.aclose_forcefully(self._below)
                raise
            except (trio_websocket.ConnectionClosed, LocalProtocolError):
                # Not noted as this side's end: what arrived before can still be received.
                why, detail = self._life.reason or self._describe_end()
                raise ConnectionLost(why, detail=detail) from None

    async def receive(self) -> str | bytes:
        """Wait for the next message; bytes for a binary one.  If cancelled, no message was taken.

        Raises:
            ConnectionLost: the connection has ended; the message has the close code and reason.
            MessageTooLarge: a message exceeded the limit; the connection is gone.
        """
        with self._life.sole("receive"):
            await self._life.require()
            self._parked_since = trio.current_time()
            try:
                return await self._connection.get_message()
            except trio_websocket.ConnectionClosed:
                pass
            finally:
                self._parked_since = None
            raise await self._end()

    async def aclose(self) -> None:
        """Close with a close frame, within the close timeout and else by force.

        If cancelled, it closes by force.  A second caller waits for the first.
        """
        first, self._closing = not self._closing, True
        alive = not self._life.ended
        self._life.end(CLOSED_HERE, detail="closed")
        try:
            if first and alive:
                with trio.move_on_after(self._close_timeout):
                    await self._connection.aclose()
            elif not first:
                await self._closed.wait()
        finally:
            with shielded(_FORCE_SECONDS):
                await trio.aclose_forcefully(self._below)
            self._closed.set()
        await trio.lowlevel.checkpoint()

    async def _end(self) -> ConnectionLost | MessageTooLarge:
        already, (message, detail) = self._life.ended, self._describe_end()
        self._life.end(message, detail=detail)
        await trio.lowlevel.checkpoint()
        if not already and detail == MessageTooLarge.default_detail:
            return MessageTooLarge(message)
        return self._life.lost()

    def _describe_end(self) -> tuple[str, str]:
        reason = self._connection.closed
        if reason is None or reason.code == _ABNORMAL:
            return "the connection broke off without a close frame", ConnectionLost.default_detail
        if self._exceeded_our_limit(reason):
            limit = f"{self._max_message} characters or bytes"
            return f"a message exceeded the limit of {limit}", MessageTooLarge.default_detail
        words = "without a code" if reason.code == _NO_STATUS else f"with code {reason.code} ({reason.name})"
        because = f": {reason.reason}" if reason.reason else ""
        return f"the connection was closed by the peer {words}{because}", ConnectionLost.default_detail

    def _exceeded_our_limit(self, reason: trio_websocket.CloseReason) -> bool:
        # The library uses code 1009 for its own limit and for the peer's.  A peer of the same make and the same limit
        # would even say the same words, but only about a message of ours that was longer than this.
        return (
            self._max_message is not None
            and reason.code == _TOO_BIG
            and reason.reason == f"Exceeded maximum message size: {self._max_message} bytes"
            and self._longest_sent <= self._max_message
        )

    async def keep_alive(self, interval: float, stream: WatchedStream) -> None:
        """Ping every `interval` seconds; break a connection that is silent although it is being read.

        A missing pong is held against the peer only if, for the whole interval
        after the ping, one `receive` was waiting and not a byte arrived: when
        nobody receives, pongs are not read either, and bytes prove life.
        If cancelled, it stops pinging.
        """
        async with trio.open_nursery() as nursery:
            while not self._life.ended:
                await trio.sleep(interval)
                asked, answered = trio.current_time(), trio.Event()
                # A task of its own: cancelling the ping itself could leave half a frame on the wire.
                nursery.start_soon(self._ping, answered)
                while not answered.is_set():
                    with trio.move_on_after(interval):
                        await answered.wait()
                    silent = not answered.is_set() and stream.heard_at < asked
                    if silent and self._parked_since is not None and self._parked_since <= asked:
                        self._life.end(f"the peer did not answer a ping within {interval:g} seconds")
                        await trio.aclose_forcefully(self._below)
                        nursery.cancel_scope.cancel(reason="ping: no answer")
                        break
                    asked = trio.current_time()

    async def _ping(self, answered: trio.Event) -> None:
        try:
            await self._connection.ping()
        except (trio_websocket.ConnectionClosed, LocalProtocolError):
            await trio.lowlevel.checkpoint()
        answered.set()
