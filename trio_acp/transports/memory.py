"""Two connected transports inside one program, for tests: they work under a mock clock."""

from __future__ import annotations

import math

import trio

from trio_acp._errors import ConnectionLost, InvalidOption
from trio_acp.abc import Transport

from ._life import CLOSED_HERE, SEND_CANCELLED, Life, require_text

__all__ = ["MemoryTransport", "memory_transport_pair"]

_PEER_CLOSED = "the peer closed the connection"


class MemoryTransport(Transport):
    """One end of a `memory_transport_pair`.

    Like the transports that use a network, it is broken by a send that was
    cancelled while it waited for room, although in memory nothing is ever half
    sent: what relies on more would fail on a real connection.
    """

    def __init__(
        self, outgoing: trio.MemorySendChannel[str | bytes], incoming: trio.MemoryReceiveChannel[str | bytes]
    ) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._life = Life()

    async def send(self, message: str) -> None:
        """Send one message.  If cancelled while it waits for room, the connection is gone.

        Raises:
            ConnectionLost: the connection has ended, or an earlier send was cancelled.
            InvalidMessage: the text has a lone surrogate.
        """
        require_text(message)
        await self._put(message)

    async def send_bytes(self, message: bytes) -> None:
        """Send one binary message, which ACP peers ignore.  Cancellation is as in `send`.

        Raises:
            ConnectionLost: the connection has ended, or an earlier send was cancelled.
        """
        await self._put(message)

    async def _put(self, message: str | bytes) -> None:
        with self._life.sending:
            await self._life.require()
            try:
                await self._outgoing.send(message)
            except trio.Cancelled:
                self._drop(SEND_CANCELLED)
                raise
            except trio.BrokenResourceError:
                # Not noted as the end of this side: what the peer sent before it closed can still be received.
                raise ConnectionLost(_PEER_CLOSED) from None
            except trio.ClosedResourceError:
                raise self._life.lost() from None

    async def receive(self) -> str | bytes:
        """Wait for the next message.  If cancelled, no message was taken.

        Raises:
            ConnectionLost: the connection has ended, and everything sent before was received.
        """
        with self._life.receiving:
            await self._life.require()
            try:
                return await self._incoming.receive()
            except trio.EndOfChannel:
                self._life.end(_PEER_CLOSED)
            except trio.ClosedResourceError:
                pass
            await trio.lowlevel.checkpoint()
            raise self._life.lost()

    def _drop(self, why: str, *, detail: str = "disconnected") -> None:
        self._life.end(why, detail=detail)
        self._outgoing.close()
        self._incoming.close()

    async def aclose(self) -> None:
        """Close this end at once.  If cancelled, it has closed all the same."""
        self._drop(CLOSED_HERE, detail="closed")
        await trio.lowlevel.checkpoint()


def memory_transport_pair(capacity: float = math.inf) -> tuple[MemoryTransport, MemoryTransport]:
    """Make two transports, each of which receives what the other sends.

    Args:
        capacity: How many messages may wait in each direction before `send`
            waits; without a bound unless given.

    Raises:
        InvalidOption: the capacity is neither a whole number of at least 0 nor ``math.inf``.
    """
    if isinstance(capacity, bool) or not capacity >= 0 or (capacity != math.inf and capacity != int(capacity)):
        raise InvalidOption(f"capacity must be a whole number or math.inf, not {capacity!r}", detail="invalid-capacity")
    room = capacity if capacity == math.inf else int(capacity)
    left_out, right_in = trio.open_memory_channel[str | bytes](room)
    right_out, left_in = trio.open_memory_channel[str | bytes](room)
    return MemoryTransport(left_out, left_in), MemoryTransport(right_out, right_in)
