"""A wire of bytes in memory that can be cut after any byte, or hand over what it carries in pieces of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs
import trio
import trio.testing

if TYPE_CHECKING:
    from collections.abc import Mapping

Direction: TypeAlias = Literal["to-agent", "to-client"]
How: TypeAlias = Literal["eof", "reset"]

DIRECTIONS: Final[tuple[Direction, ...]] = ("to-agent", "to-client")
WAYS: Final[tuple[How, ...]] = ("eof", "reset")


@attrs.frozen
class Cut:
    """Where a wire ends.

    Attributes:
        direction: Whose bytes are counted.
        after: How many of them still arrive.
        how: ``eof``: nothing more comes this way, and whoever receives it learns that in order; what goes the
            other way still arrives.  ``reset``: both ways break at once, with what is under way.
    """

    direction: Direction
    after: int
    how: How


class ByteWire:
    """Two ends of one connection.

    Args:
        cut: Where it ends; None for a wire that holds.
        pieces: For each direction, the bytes after which a read ends early; ``"each"`` for each byte.

    Attributes:
        arrived: How many bytes have arrived, for each direction.
        sends: How many bytes had been sent as each send ended, for each direction.
        cut_at: When the cut was felt, in seconds; None before.
    """

    def __init__(
        self, cut: Cut | None = None, pieces: Mapping[Direction, frozenset[int] | Literal["each"]] | None = None
    ) -> None:
        self.arrived: dict[Direction, int] = dict.fromkeys(DIRECTIONS, 0)
        self.sends: dict[Direction, list[int]] = {direction: [] for direction in DIRECTIONS}
        self.cut_at: float | None = None
        self._cut = cut
        self._pieces = pieces or {}
        client, agent = trio.testing.memory_stream_pair()
        self._inner = (client, agent)
        self.client = End(self, client, "to-client")
        self.agent = End(self, agent, "to-agent")

    @property
    def closed(self) -> bool:
        """Whether both ends were closed by those who held them."""
        return self.client.closed and self.agent.closed

    @property
    def was_reset(self) -> bool:
        """Whether it was cut, both ways."""
        return self.cut_at is not None and self._cut is not None and self._cut.how == "reset"

    def room(self, direction: Direction) -> int | None:
        """Return how many bytes the next read may take at most: None for any number, 0 if the wire ends here."""
        arrived, pieces = self.arrived[direction], self._pieces.get(direction, frozenset())
        ends = [1] if pieces == "each" else [piece - arrived for piece in pieces if piece > arrived]
        if self._cut is not None and self._cut.direction == direction:
            ends.append(max(0, self._cut.after - arrived))
        return min(ends, default=None)

    def end(self) -> None:
        """Let the cut be felt."""
        if self.cut_at is None:
            self.cut_at = trio.current_time()
            if self.was_reset:
                for stream in self._inner:
                    stream.send_stream.close()
                    stream.receive_stream.close()


class End(trio.abc.Stream):
    """One end, which receives what goes in its direction."""

    def __init__(
        self,
        wire: ByteWire,
        inner: trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream],
        direction: Direction,
    ) -> None:
        self.closed = False
        self._wire = wire
        self._inner = inner
        self._direction: Direction = direction

    def _require(self) -> None:
        if self._wire.was_reset and not self.closed:
            raise trio.BrokenResourceError("reset by the test")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; never waits for room."""
        self._require()
        sends = self._wire.sends["to-client" if self._direction == "to-agent" else "to-agent"]
        sends.append(len(data) + (sends[-1] if sends else 0))
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once."""
        self._require()
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive up to the next place where the wire is cut or a piece ends."""
        self._require()
        room = self._wire.room(self._direction)
        if room == 0:
            await trio.lowlevel.checkpoint()
            self._wire.end()
            self._require()
            return b""
        limits = [limit for limit in (room, max_bytes) if limit is not None]
        try:
            data = bytes(await self._inner.receive_some(min(limits, default=None)))
        except trio.ClosedResourceError:
            self._require()
            raise
        self._wire.arrived[self._direction] += len(data)
        return data

    async def aclose(self) -> None:
        """Close it; whoever holds the other end receives its end."""
        self.closed = True
        await self._inner.aclose()
