"""What a WebSocket keeps whichever library frames its messages: its end, its closing, and its pulse."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import trio

from trio_acp._errors import ConnectionLost, MessageTooLarge
from trio_acp._service import shielded
from trio_acp.abc import Transport

from ._life import CLOSED_HERE, Life, require_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    import trio_websocket

    from ._handshake import WatchedStream

FORCE_SECONDS = 1.0
MAX_TAKEN = 256
"""Messages that are handed out together: whoever handles them does so without a checkpoint."""

_NO_STATUS = 1005


class WebSocketTransport(Transport):
    """One WebSocket connection (RFC 6455); a message is a text frame.  Closing takes `close_timeout` seconds at most.

    Args:
        below: What is closed by force.
        close_timeout: Seconds for the closing handshake.

    Attributes:
        connection_id: What the server called this connection (``Acp-Connection-Id``), if it did.
    """

    def __init__(self, below: trio.abc.AsyncResource, *, close_timeout: float) -> None:
        self.connection_id: str | None = None
        self._below = below
        self._close_timeout = close_timeout
        self._life = Life()
        self._parked_since: float | None = None
        self._closing = False
        self._closed = trio.Event()

    async def send(self, message: str) -> None:
        """Send one message as a text frame.  If cancelled in the middle, the connection is gone.

        Raises:
            ConnectionLost: the connection has ended, or an earlier send was cancelled.
            InvalidMessage: the text has a lone surrogate.
        """
        await self.send_many((message,))

    async def send_many(self, messages: Sequence[str]) -> None:
        """Send each as a text frame, all in one write if what is below is known.  If cancelled, as for `send`.

        Raises:
            ConnectionLost: the connection has ended, or an earlier send was cancelled.
            InvalidMessage: a text has a lone surrogate; none was sent.
        """
        for message in messages:
            require_text(message)
        with self._life.sending:
            await self._life.require()
            await self._send(messages)

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
        with self._life.receiving:
            await self._life.require()
            messages = await self._next(most)
            if messages is None:
                raise await self._end()
            return messages

    async def _end(self) -> ConnectionLost | MessageTooLarge:
        """Note that nothing more will come; return the error for whoever waits for it."""
        already, (message, detail) = self._life.ended, self._describe_end()
        self._life.end(message, detail=detail)
        await trio.lowlevel.checkpoint()
        if not already and detail == MessageTooLarge.default_detail:
            return MessageTooLarge(message)
        return self._life.lost()

    # -- what the libraries do differently ----------------------------------------------

    @abstractmethod
    async def _send(self, messages: Sequence[str]) -> None:
        """Send each as a text frame, as `send_many` says; nobody else is sending."""

    @abstractmethod
    async def _next(self, most: int) -> Sequence[str | bytes] | None:
        """Wait for the next message, and take up to `most`; None once there will be no more.

        If cancelled, none was taken.
        """

    @abstractmethod
    def _describe_end(self) -> tuple[str, str]:
        """Say how the connection ended on the other side, as message and detail."""

    @abstractmethod
    async def _close_politely(self, *, alive: bool) -> None:
        """Do the closing handshake if it is `alive`; cancelled, it is left as it is."""

    @abstractmethod
    async def _ping(self, answered: trio.Event) -> None:
        """Send a ping, and set `answered` once that is of no more interest.  Runs in a task of its own.

        Cancelled, it may leave half a frame: that happens only as the connection is closed.
        """

    # -- the end, and the pulse -----------------------------------------------------------

    async def aclose(self) -> None:
        """Close with a close frame, within the close timeout and else by force.

        If cancelled, it closes by force.  A second caller waits for the first.
        """
        first, self._closing = not self._closing, True
        alive = not self._life.ended
        self._life.end(CLOSED_HERE, detail="closed")
        try:
            if first:
                with trio.move_on_after(self._close_timeout):
                    await self._close_politely(alive=alive)
            else:
                await self._closed.wait()
        finally:
            with shielded(FORCE_SECONDS):
                await trio.aclose_forcefully(self._below)
            self._closed.set()
        await trio.lowlevel.checkpoint()

    @trio.lowlevel.enable_ki_protection
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


BROKE_OFF = "the connection broke off without a close frame", ConnectionLost.default_detail


def closed_by_peer(reason: trio_websocket.CloseReason) -> tuple[str, str]:
    """Say how the peer closed, as message and detail."""
    words = "without a code" if reason.code == _NO_STATUS else f"with code {reason.code} ({reason.name})"
    because = f": {reason.reason}" if reason.reason else ""
    return f"the connection was closed by the peer {words}{because}", ConnectionLost.default_detail


def too_long(limit: int | None) -> str:
    """Say that a message exceeded the limit."""
    return f"a message exceeded the limit of {limit} characters or bytes"
