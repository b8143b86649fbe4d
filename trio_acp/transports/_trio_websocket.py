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
from ._life import SEND_CANCELLED
from ._websocket_transport import BROKE_OFF, FORCE_SECONDS, WebSocketTransport, closed_by_peer, too_long

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

    async def _send(self, messages: Sequence[str]) -> None:
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

    async def _next(self, most: int) -> Sequence[str | bytes] | None:
        self._parked_since = trio.current_time()
        try:
            if self._cut is not None and await self._cut.wait():
                return self._cut.take(most)
            message = await self._connection.get_message()
            if self._cut is not None:
                self._cut.told()
            return (message,)
        except trio_websocket.ConnectionClosed:
            return None
        finally:
            self._parked_since = None

    async def _close_politely(self, *, alive: bool) -> None:
        if self._cut is not None:
            self._cut.end()
        if alive:
            await self._connection.aclose()

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
