"""The opening of a WebSocket over a stream we own, so that every way it can fail ends and says why.

trio-websocket's reader ends silently when the peer hangs up before it has
answered, and the opening then waits for ever.  So the stream is watched: its
end, and the status line that came over it, are known whatever the library does.
"""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import trio
import trio_websocket

from trio_acp._errors import BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ._cut_stream import CutStream

_log = logging.getLogger(__name__)

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])[ \r\n]")
_LONGEST_STATUS_LINE = 1024
_LONGEST_REJECTION = 65536
_SWITCHING_PROTOCOLS = 101
_NOT_HTTP = 0
RECEIVE_SIZE = 65536


def _tell_nobody() -> None:
    pass


class WatchedStream(trio.abc.Stream):
    """Passes everything through, tells when it can bring nothing more, and notes what the library keeps to itself.

    Attributes:
        heard_at: When bytes last arrived, by Trio's clock, in seconds.
        status: The HTTP status of the handshake's answer; 0 if it was not HTTP, None if none came.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._head = bytearray()
        self._rejection = 0
        self._holds = False
        self._held = bytearray()
        self._on_end: Callable[[], None] = _tell_nobody
        self.heard_at = trio.current_time()
        self.status: int | None = None

    def when_ended(self, callback: Callable[[], None]) -> None:
        """Have `callback` called whenever the stream is found to have ended."""
        self._on_end = callback

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Keep what is sent within the block, so that it goes with the next that is sent after it, in one write."""
        self._holds = True
        try:
            yield
        finally:
            self._holds = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; cancelled, a part may have been sent."""
        if self._holds:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._held += data
            return
        if self._held:
            data, self._held = self._held + data, bytearray()
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._on_end()  # the library's reader may end of this, and nobody would receive the end any more
            raise

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a send might proceed; cancelled, nothing happened."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive; cancelled, nothing was taken.  A rejection's body is cut at 64 KiB."""
        try:
            data = bytes(await self._stream.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._on_end()
            raise
        self.heard_at = trio.current_time()
        if self.status is None:
            self._read_status(data)
        if self.status not in (None, _SWITCHING_PROTOCOLS):
            self._rejection += len(data)
            if self._rejection > _LONGEST_REJECTION:
                data = b""
        if not data:
            self._on_end()
        return data

    def _read_status(self, data: bytes) -> None:
        self._head += data
        match = _STATUS_LINE.match(self._head)
        if match is not None:
            self.status = int(match[1])
        elif b"\n" in self._head or len(self._head) > _LONGEST_STATUS_LINE:
            self.status = _NOT_HTTP
        if self.status is not None:
            self._head.clear()

    async def aclose(self) -> None:
        """Close; cancelled, it closes by force."""
        self._on_end()
        await self._stream.aclose()


class Handshake:
    """Opens one client connection and then keeps its reader alive.

    `run` is the task in which trio-websocket's reader lives.  It never raises
    `Exception`: whatever the reader dies of, a protocol error of the peer or a
    fault of the library, ends this connection and not the program.
    """

    def __init__(self, stream: WatchedStream, cut: CutStream) -> None:
        self._stream = stream
        self._cut = cut
        self._settled = trio.Event()
        self._connection: trio_websocket.WebSocketConnection | None = None
        stream.when_ended(self._settled.set)

    @trio.lowlevel.enable_ki_protection
    async def run(
        self, host: str, resource: str, headers: Sequence[tuple[bytes, bytes]], subprotocols: Sequence[str], limit: int
    ) -> None:
        """Open the connection and read from it until it ends; cancelled, it stops reading."""
        try:
            async with trio.open_nursery() as nursery:
                self._connection = await trio_websocket.wrap_client_stream(
                    nursery,
                    # Annotated for sockets only; in fact any stream will do.
                    cast("trio.SocketStream", self._cut),
                    host,
                    resource,
                    subprotocols=subprotocols,
                    extra_headers=list(headers),
                    # The reader hands each message over: none is dropped when a later one breaks the connection.
                    message_queue_size=0,
                    max_message_size=limit,
                    receive_buffer_size=RECEIVE_SIZE,
                )
                self._settled.set()
        except* Exception as errors:  # noqa: BLE001 - the reader is foreign code: see the class
            # Their words may quote what the server sent.
            _log.debug("a WebSocket reader ended: %s", ", ".join(type(each).__name__ for each in errors.exceptions))
        finally:
            self._settled.set()
            self._cut.ended()

    async def result(self, shown: str, deadline: float) -> trio_websocket.WebSocketConnection:
        """Wait for the open connection; cancelled, the caller must end `run`.

        Args:
            shown: The address, for messages.
            deadline: By Trio's clock.

        Raises:
            BackendUnavailable: it was rejected, it ended, or the deadline passed.
        """
        with trio.move_on_at(deadline):
            await self._settled.wait()
        if self._connection is not None:
            return self._connection
        if not self._settled.is_set() and self._stream.status in (None, _NOT_HTTP, _SWITCHING_PROTOCOLS):
            raise too_slow(shown, "the WebSocket handshake was not answered")
        raise refused(shown, self._stream.status)


def refused(shown: str, status: int | None) -> BackendUnavailable:
    """Make the error for a handshake that was answered with this HTTP status, with no HTTP (0), or not at all."""
    if status not in (None, _NOT_HTTP, _SWITCHING_PROTOCOLS):
        return BackendUnavailable(
            f"{shown}: the server rejected the WebSocket handshake with HTTP status {status}",
            detail="handshake-rejected",
            status=status,
        )
    what = "the server hung up before it answered" if status is None else "the server's answer was not a valid one"
    return BackendUnavailable(f"{shown}: the WebSocket handshake failed: {what}", detail="handshake-failed")


def too_slow(shown: str, what: str) -> BackendUnavailable:
    """Make the error for a connection that was not open in time."""
    return BackendUnavailable(f"{shown}: {what} in time", detail="connect-timeout")
