"""What is below trio-websocket on the client's side: it keeps whole text messages, and passes on all else.

The library hands each message from its reader to the receiver, which costs both
two steps of the scheduler, and takes its time to read a frame.  Its public
interface has no other way, but the stream below it is ours.  The order is kept:
where the library has a message to tell, or the end, a mark stands among those
that were cut out, and the receiver asks the library when it gets there.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from ._splitter import Splitter

if TYPE_CHECKING:
    from ._handshake import WatchedStream

_HEADERS_END = b"\r\n\r\n"


class CutStream(trio.abc.Stream):
    """The stream that the library reads and writes.

    Args:
        stream: The one below.
        limit: The longest text to keep, in bytes.
    """

    def __init__(self, stream: WatchedStream, limit: int) -> None:
        self._stream = stream
        self._splitter = Splitter(limit)
        self._head: bytes | None = b""  # of the handshake's answer; None behind it
        self._behind = b""  # what came with it
        self._kept: deque[str | None] = deque()
        self._texts = 0
        self._news = trio.Event()
        self._taken = trio.Event()
        self._over = False

    # -- the receiver's side ------------------------------------------------------------

    async def wait(self) -> bool:
        """Wait for something to receive; whether it is text, or the library has to be asked.

        A checkpoint.  If cancelled, nothing was taken.
        """
        if self._kept or self._over or self._splitter.done:
            await trio.lowlevel.checkpoint()
        while not (self._kept or self._over or self._splitter.done):
            self._news = trio.Event()
            await self._news.wait()
        return bool(self._kept) and self._kept[0] is not None

    def take(self, most: int) -> list[str]:
        """Take the texts that come next."""
        taken: list[str] = []
        while self._kept and len(taken) < most and (text := self._kept[0]) is not None:
            taken.append(text)
            self._kept.popleft()
        self._texts -= len(taken)
        if not self._texts:
            self._taken.set()
        return taken

    def told(self) -> None:
        """Go on behind what the library has told."""
        if self._kept and self._kept[0] is None:
            self._kept.popleft()

    def end(self) -> None:
        """Keep nothing any more, and let whoever waits ask the library."""
        self._over = True
        self._kept.clear()
        self._texts = 0
        self._news.set()
        self._taken.set()

    # -- the library's side -------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what is for the library; cancelled, nothing was taken.

        Reads no further while texts wait for the receiver: that holds the peer back.
        """
        while True:
            while self._texts:
                self._taken = trio.Event()
                await self._taken.wait()
            data, self._behind = self._behind, b""
            if not data:
                try:
                    data = await self._stream.receive_some(max_bytes)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self.ended()
                    raise
            if not data:
                self.ended()
                return b""
            if self._head is not None:
                return self._split_head(data)
            if passed := self._keep(data):
                return passed

    def _split_head(self, data: bytes) -> bytes:
        """Return what of `data` belongs to the handshake's answer; the library must not see what is behind it yet."""
        assert self._head is not None
        before = len(self._head)
        self._head += data
        end = self._head.find(_HEADERS_END, max(0, before - len(_HEADERS_END)))
        if end < 0:
            return data
        length = end + len(_HEADERS_END) - before
        self._head, self._behind = None, data[length:]
        return data[:length]

    def _keep(self, data: bytes) -> bytes:
        passed: list[bytes] = []
        for piece in self._splitter.feed(data):
            if isinstance(piece, bytes):
                passed.append(piece)
            elif not self._over:
                self._kept.append(piece)
                self._texts += piece is not None
        self._news.set()
        return b"".join(passed)

    def ended(self) -> None:
        """Let whoever waits ask the library, once what was kept is taken: it came before the end."""
        self._over = True
        self._news.set()

    @trio.lowlevel.enable_ki_protection
    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; cancelled, a part may have been sent."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a send might proceed; cancelled, nothing happened."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close; cancelled, it closes by force."""
        self.ended()
        await self._stream.aclose()
