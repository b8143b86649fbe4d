"""The frames that wait for the writer of a connection, in order, and the room there is for more."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from .pending import Frame

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_QUEUED = 2**20
"""Characters of requests that may wait for the writer; a single larger one fits an empty queue."""

MAX_JOINED = 2**16
"""Characters of waiting frames that are written together; a single larger one is written alone."""


class Outbox:
    """What is to be written.  Whoever puts frames in never waits; who wants to be polite waits for room first.

    Args:
        mixed: Whether frames about different sessions may be written together.
    """

    def __init__(self, *, mixed: bool) -> None:
        self._mixed = mixed
        self._frames: deque[Frame] = deque()
        self._work = trio.Event()
        self._room = trio.Event()
        self.size = 0  # in characters

    def __bool__(self) -> bool:
        return bool(self._frames)

    def put(self, text: str) -> Frame:
        """Add a frame, about whom this task serves, and wake the writer."""
        frame = Frame(text)
        self._frames.append(frame)
        self.size += len(text)
        self._work.set()
        return frame

    def remove(self, frame: Frame) -> None:
        """Take a frame out that the writer has not taken: it was never sent."""
        self._frames.remove(frame)
        self._left(frame)

    def wake(self) -> None:
        """Have everybody who waits for room look whether to wait on."""
        self._room.set()

    async def wait_for_room(self, size: int, usable: Callable[[], bool]) -> None:
        """Wait until so many characters more fit, or it is of no more use; a checkpoint only if it waits.

        If cancelled, nothing happened.
        """
        while self._frames and self.size + size > MAX_QUEUED and usable():
            if self._room.is_set():
                self._room = trio.Event()
            await self._room.wait()

    async def take(self) -> list[Frame]:
        """Wait for frames, and take those that are to be written together.

        From then on they may be on the wire.  If cancelled, none was taken.
        """
        while not self._frames:
            self._work = trio.Event()
            await self._work.wait()
        # Each write costs much more than a small frame does, so those that wait together go together.
        first = self._take_one()
        frames, joined = [first], len(first.text)
        while self._frames:
            following = self._frames[0]
            joined += len(following.text)
            if joined > MAX_JOINED or not (self._mixed or following.served == first.served):
                break
            frames.append(self._take_one())
        return frames

    def _take_one(self) -> Frame:
        frame = self._frames.popleft()
        frame.taken = True
        self._left(frame)
        return frame

    def _left(self, frame: Frame) -> None:
        self.size -= len(frame.text)
        self._room.set()
