"""The lanes: first come, first served, one request of a session at a time.

Synchronous and without I/O.  A session with nothing to do costs nothing here.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import attrs

from ._errors import QueueFull

R = TypeVar("R")


@attrs.define(eq=False)
class _Lane(Generic[R]):
    current: R | None = None
    waiting: deque[R] = attrs.field(factory=deque)


class SessionActorQueue(Generic[R]):
    """The requests of all sessions: for each key one that runs, and those that wait."""

    def __init__(self, max_queued: int) -> None:
        self._max_queued = max_queued
        self._lanes: dict[str, _Lane[R]] = {}

    def __repr__(self) -> str:
        running = sum(lane.current is not None for lane in self._lanes.values())
        return f"<SessionActorQueue: {running} running, {self.depth() - running} waiting>"

    def admit(self, key: str, request: R) -> bool:
        """Put a request at the end of its lane.

        Returns:
            True if the lane was idle: the caller must start an actor for it.

        Raises:
            QueueFull: as many requests as allowed wait already; nothing changed.
        """
        lane = self._lanes.get(key)
        if lane is None:
            self._lanes[key] = _Lane(waiting=deque([request]))
            return True
        # The head of the lane has a place of its own, whether its actor has taken it yet or not.
        if self.depth(key) > self._max_queued:
            raise QueueFull(f"session {key!r} already has {self._max_queued} waiting requests")
        lane.waiting.append(request)
        return False

    def take(self, key: str) -> R | None:
        """End the running request and start the next one; None ends the lane.

        Only the lane's actor calls this.
        """
        lane = self._lanes[key]
        if not lane.waiting:
            del self._lanes[key]
            return None
        lane.current = lane.waiting.popleft()
        return lane.current

    def follow(self, key: str, request: R) -> None:
        """Put a request in the place of the running one, which is over.

        Only the lane's actor calls this.
        """
        self._lanes[key].current = request

    def withdraw(self, key: str, request: R) -> bool:
        """Remove a request that still waits; False if it does not wait (any more)."""
        lane = self._lanes.get(key)
        if lane is None or request not in lane.waiting:
            return False
        lane.waiting.remove(request)
        return True

    def current(self, key: str) -> R | None:
        """Return the running request of a lane, if any."""
        lane = self._lanes.get(key)
        return None if lane is None else lane.current

    def waiting(self, key: str) -> tuple[R, ...]:
        """Return the waiting requests of a lane, in order."""
        lane = self._lanes.get(key)
        return () if lane is None else tuple(lane.waiting)

    def busy(self) -> tuple[str, ...]:
        """Return the keys of the busy lanes."""
        return tuple(self._lanes)

    def is_idle(self, key: str) -> bool:
        """Whether nothing of this session runs or waits."""
        return key not in self._lanes

    def depth(self, key: str | None = None) -> int:
        """Count the requests that run or wait, of one session or of all."""
        lanes = self._lanes.values() if key is None else filter(None, [self._lanes.get(key)])
        return sum(len(lane.waiting) + (lane.current is not None) for lane in lanes)
