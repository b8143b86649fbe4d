"""The lanes: first come, first served, one request of a session at a time.

Two rules.  Everything here is synchronous and without I/O, so each method is
one atomic step.  A request is in exactly one place: it waits, or it runs, or
the queue does not know it.

States of a lane
----------------
``idle``      there is no lane: a session with nothing to do costs nothing.
``admitted``  requests wait and none runs: the actor was started by whoever
              admitted the first of them, and has not taken it yet.
``busy``      one request runs, any number up to the bound wait.

Guarantees, each with the test that shows it
--------------------------------------------
G1 Order.  Requests of a lane are taken in order of admission, one at a time.
   (test_queue.py::test_first_come_first_served)
G2 One actor.  Exactly the admission that finds a lane idle asks for an actor;
   the lane ends when that actor finds nothing more to take.
   (test_queue.py::test_a_lane_with_nothing_to_do_leaves_nothing)
G3 Withdrawal.  A request that waits is removed at once and leaves no trace; one
   that was taken cannot be removed.
   (test_queue.py::test_a_withdrawn_request_is_gone)
G4 Independence.  What happens in a lane changes nothing in another one.
   (test_queue.py::test_lanes_do_not_know_each_other)
G5 Counting.  The depth is that of the requests that wait or run, at any time.
   (test_queue.py::TestQueue)

Bounds
------
At most ``max_queued`` requests of a session wait behind the head of its lane,
which has a place of its own whether its actor has taken it or not; one more is
refused and changes nothing.  (test_turn_queue.py::test_a_full_queue_refuses)
Looking for a request to withdraw takes time in proportion to them.

Not promised: a bound on how long a request waits, for that is the sum of what
the requests before it may take; any order between lanes; that a request which
was taken ends.
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

    def requests(self, key: str) -> tuple[R, ...]:
        """Return all requests of a lane: those that wait, in order, and then the running one."""
        current = self.current(key)
        return self.waiting(key) if current is None else (*self.waiting(key), current)

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
