"""A WebSocket that trio-websocket frames, whichever side opened it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import trio
import trio_websocket
from wsproto.utilities import LocalProtocolError

from trio_acp._errors import ConnectionLost, MessageTooLarge
from trio_acp._service import shielded

from ._handshake import WatchedStream
from ._life import SEND_CANCELLED, require_text
from ._websocket_transport import BROKE_OFF, FORCE_SECONDS, MAX_TAKEN, WebSocketTransport, closed_by_peer, too_long

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._cut_stream import CutStream

_ABNORMAL = 1006
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


class TrioWebSocketTransport(WebSocketTransport):
    """One connection of trio-websocket."""

    def __init__(
        self,
        connection: trio_websocket.WebSocketConnection,
        *,
        stream: trio.abc.AsyncResource | None = None,
        cut: CutStream | None = None,
        close_timeout: float,
        max_message: int | None = None,
    ) -> None:
        super().__init__(_Below(connection, stream), close_timeout=close_timeout)
        self._connection = connection
        self._max_message = max_message
        self._longest_sent = 0
        self._cut = cut
        self._watched = stream if isinstance(stream, WatchedStream) else None

    async def send(self, message: str) -> None:
        """Send one message as a text frame.  If cancelled in the middle, the connection is gone.

        Raises:
            ConnectionLost: the connection has ended, or an earlier send was cancelled.
            InvalidMessage: the text has a lone surrogate.
        """
        await self.send_many((message,))

    async def send_many(self, messages: Sequence[str]) -> None:
        """Send each as a text frame, all in one write if the stream was given.  If cancelled, as for `send`.

        Raises:
            ConnectionLost: the connection has ended, or an earlier send was cancelled.
            InvalidMessage: a text has a lone surrogate; none was sent.
        """
        for message in messages:
            require_text(message)
        with self._life.sole("send"):
            await self._life.require()
            self._longest_sent = max(self._longest_sent, *map(len, messages))
            try:
                with nullcontext() if self._watched is None else self._watched.holding():
                    for message in messages[:-1]:
                        await self._connection.send_message(message)
                # With it goes what was held: the library's lock, which we have no key to, keeps its pongs apart.
                await self._connection.send_message(messages[-1])
            except trio.Cancelled:
                # Half a frame may be out.  The next message would be read as the rest of it, so there is no next one.
                self._life.end(SEND_CANCELLED)
                with shielded(FORCE_SECONDS):
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
        (message,) = await self._receive(1)
        return message

    async def receive_many(self) -> Sequence[str | bytes]:
        """Wait for the next message, and take up to 256 that one read brought; see `receive`."""
        return await self._receive(MAX_TAKEN)

    async def _receive(self, most: int) -> Sequence[str | bytes]:
        with self._life.sole("receive"):
            await self._life.require()
            self._parked_since = trio.current_time()
            try:
                if self._cut is not None and await self._cut.wait():
                    return self._cut.take(most)
                message = await self._connection.get_message()
                if self._cut is not None:
                    self._cut.told()
                return (message,)
            except trio_websocket.ConnectionClosed:
                pass
            finally:
                self._parked_since = None
            raise await self._end()

    async def _close_politely(self, *, alive: bool) -> None:
        if self._cut is not None:
            self._cut.end()
        if alive:
            await self._connection.aclose()

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
            return BROKE_OFF
        if self._exceeded_our_limit(reason):
            return too_long(self._max_message), MessageTooLarge.default_detail
        return closed_by_peer(reason)

    def _exceeded_our_limit(self, reason: trio_websocket.CloseReason) -> bool:
        # The library uses code 1009 for its own limit and for the peer's.  A peer of the same make and the same limit
        # would even say the same words, but only about a message of ours that was longer than this.
        return (
            self._max_message is not None
            and reason.code == _TOO_BIG
            and reason.reason == f"Exceeded maximum message size: {self._max_message} bytes"
            and self._longest_sent <= self._max_message
        )

    @trio.lowlevel.enable_ki_protection
    async def _ping(self, answered: trio.Event) -> None:
        try:
            await self._connection.ping()
        except (trio_websocket.ConnectionClosed, LocalProtocolError):
            await trio.lowlevel.checkpoint()
        answered.set()
