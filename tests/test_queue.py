"""The lanes against an oracle: one list per key."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trio_acp import QueueFull
from trio_acp._queue import SessionActorQueue

KEYS = st.sampled_from(["a", "b"])
LIMIT = 2


class QueueMachine(RuleBasedStateMachine):
    """For each key a list: its head runs if an actor took it, the others wait."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: SessionActorQueue[int] = SessionActorQueue(LIMIT)
        self.lanes: dict[str, list[int]] = {}
        self.taken: dict[str, int | None] = {}
        self.next = 0

    def running(self, key: str) -> int | None:
        return self.taken.get(key)

    @rule(key=KEYS)
    def admit(self, key: str) -> None:
        """A new lane needs an actor; a full one refuses."""
        self.next += 1
        waiting = self.lanes.get(key)
        if waiting is None:
            assert self.queue.admit(key, self.next)
            self.lanes[key], self.taken[key] = [self.next], None
        elif len(waiting) + (self.running(key) is not None) > LIMIT:
            with pytest.raises(QueueFull):
                self.queue.admit(key, self.next)
        else:
            assert not self.queue.admit(key, self.next)
            waiting.append(self.next)

    @rule(key=KEYS)
    def take(self, key: str) -> None:
        """The actor ends what runs and gets the head; nothing left ends the lane."""
        if key not in self.lanes:
            return
        expected = self.lanes[key].pop(0) if self.lanes[key] else None
        assert expected == self.queue.take(key)
        self.taken[key] = expected
        if expected is None:
            del self.lanes[key]

    @rule(key=KEYS)
    def follow(self, key: str) -> None:
        """Another request takes the place of the one that runs, and nobody else's."""
        if self.running(key) is not None:
            self.next += 1
            self.queue.follow(key, self.next)
            self.taken[key] = self.next

    @rule(key=KEYS, data=st.data())
    def withdraw(self, key: str, data: st.DataObject) -> None:
        """Only what waits can be withdrawn."""
        request = data.draw(st.integers(1, max(1, self.next)))
        waiting = self.lanes.get(key, [])
        assert (request in waiting) == self.queue.withdraw(key, request)
        if request in waiting:
            waiting.remove(request)

    @invariant()
    def same_as_the_lists(self) -> None:
        assert tuple(self.lanes) == self.queue.busy()
        total = 0
        for key in ("a", "b"):
            waiting = tuple(self.lanes.get(key, ()))
            assert waiting == self.queue.waiting(key)
            assert self.running(key) == self.queue.current(key)
            assert (key not in self.lanes) == self.queue.is_idle(key)
            running = self.running(key)
            assert (waiting if running is None else (*waiting, running)) == self.queue.requests(key)
            depth = len(waiting) + (self.running(key) is not None)
            assert depth == self.queue.depth(key)
            total += depth
        assert total == self.queue.depth()
        waits = sum(map(len, self.lanes.values()))
        assert f"<SessionActorQueue: {total - waits} running, {waits} waiting>" == repr(self.queue)


TestQueue = QueueMachine.TestCase


def test_first_come_first_served() -> None:
    """Requests of one lane are taken in order of admission; only the first needs an actor."""
    queue: SessionActorQueue[int] = SessionActorQueue(2)
    assert [True, False, False] == [queue.admit("k", n) for n in range(3)]
    assert [0, 1, 2, None] == [queue.take("k") for _ in range(4)]


def test_lanes_do_not_know_each_other() -> None:
    """A full lane refuses its own requests only, and refusing changes nothing."""
    queue: SessionActorQueue[int] = SessionActorQueue(1)
    for n in (1, 2):
        queue.admit("full", n)
    with pytest.raises(QueueFull):
        queue.admit("full", 3)
    assert queue.admit("other", 4)
    assert ((1, 2), 2, 3) == (queue.waiting("full"), queue.depth("full"), queue.depth())


def test_a_withdrawn_request_is_gone() -> None:
    """It is not counted, not taken, and its place is free; what was taken cannot be withdrawn."""
    queue: SessionActorQueue[int] = SessionActorQueue(1)
    for n in (1, 2):
        queue.admit("k", n)
    assert [True, False] == [queue.withdraw("k", 2) for _ in range(2)]
    assert 1 == queue.depth()
    queue.admit("k", 3)
    assert 1 == queue.take("k")
    assert not queue.withdraw("k", 1)
    assert 3 == queue.take("k")


def test_a_lane_with_nothing_to_do_leaves_nothing() -> None:
    """Once its last request has ended the lane is idle, and its next request needs an actor again."""
    queue: SessionActorQueue[int] = SessionActorQueue(1)
    queue.admit("k", 1)
    assert [1, None] == [queue.take("k") for _ in range(2)]
    assert (True, (), 0) == (queue.is_idle("k"), queue.busy(), queue.depth())
    assert queue.admit("k", 2)
