"""The slots for open handles against an oracle that only counts."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_acp._capacity import Capacity, Claim
from trio_acp.abc import Handle

KEYS = "abcd"


class CapacityMachine(RuleBasedStateMachine):
    """Sessions open, replace and close handles in any order; closes may straggle.

    The oracle knows slots as entries of lists, by key; it has no slot objects and no handles.
    """

    @initialize(limit=st.sampled_from([None, 1, 2, 3]))
    def start(self, limit: int | None) -> None:
        self.limit = limit
        self.capacity = Capacity(limit)
        self.claims: dict[str, Claim] = {}
        self.open: dict[str, Handle] = {}
        self.closing: list[Handle] = []
        self.straggling: list[Handle] = []
        self.poked: list[str] = []
        # The oracle:
        self.line: list[str] = []
        self.opening: set[str] = set()
        self.keepers: set[str] = set()
        self.kept: set[str] = set()

    def _taken(self) -> int:
        handles = (*self.open, *self.closing, *self.straggling)
        return len(self.opening) + len(self.kept) + len(handles)

    def _freed(self, key: str) -> None:
        """The oracle's rule for who gets a slot of `key` that has become free."""
        if key in self.keepers and key not in self.line:
            self.keepers.discard(key)
            self.kept.add(key)
        elif key in self.keepers or self.line:
            heir = key if key in self.keepers else self.line[0]
            self.line.remove(heir)
            self.keepers.discard(heir)
            self.opening.add(heir)

    @rule(key=st.sampled_from(KEYS))
    def claim(self, key: str) -> None:
        if key in self.claims or key in self.open:
            return
        room = self.limit is None or self._taken() < self.limit
        if key in self.kept or room:
            self.kept.discard(key)
            self.keepers.discard(key)
            self.opening.add(key)
        else:
            self.line.append(key)
        self.claims[key] = self.capacity.claim(key, lambda: self.poked.append(key))

    @rule(key=st.sampled_from(KEYS))
    def withdraw(self, key: str) -> None:
        """Given up, or opening failed."""
        if key not in self.claims:
            return
        claim = self.claims.pop(key)
        if key in self.line:
            self.line.remove(key)
        else:
            self.opening.remove(key)
            self._freed(key)
        self.capacity.withdraw(claim)
        self.capacity.withdraw(claim)  # a second time changes nothing

    @rule(key=st.sampled_from(KEYS))
    def opened(self, key: str) -> None:
        if key not in self.opening:
            return
        self.opening.remove(key)
        slot = self.claims.pop(key).slot
        assert slot is not None
        self.open[key] = Handle(key=key)
        self.capacity.opened(slot, self.open[key])

    @rule(key=st.sampled_from(KEYS), keep=st.booleans())
    def close(self, key: str, keep: bool) -> None:
        if key not in self.open:
            return
        if keep:
            self.capacity.keep(key)
            self.keepers |= {key} - self.kept
        self.closing.append(handle := self.open.pop(key))
        self.capacity.closing(handle)

    @precondition(lambda self: self.closing)
    @rule(data=st.data())
    def stay(self, data: st.DataObject) -> None:
        """Not closed after all."""
        handle = data.draw(st.sampled_from(self.closing))
        if handle.key in {*self.open, *self.claims, *self.keepers, *self.kept}:
            return
        self.closing.remove(handle)
        self.open[handle.key] = handle
        self.poked.clear()
        self.capacity.stays(handle)
        assert self.line == self.poked, "everybody in line looks again"
        self.capacity.stays(handle)
        assert self.line == self.poked, "once"

    @precondition(lambda self: self.closing)
    @rule(data=st.data())
    def straggle(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from(self.closing))
        self.closing.remove(handle)
        self.straggling.append(handle)
        self.poked.clear()
        self.capacity.straggles(handle)
        assert self.line == self.poked, "everybody in line looks again"

    @precondition(lambda self: self.closing or self.straggling)
    @rule(data=st.data())
    def closed(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from([*self.closing, *self.straggling]))
        (self.closing if handle in self.closing else self.straggling).remove(handle)
        self._freed(handle.key)
        self.capacity.closed(handle)
        self.capacity.closed(handle)  # a second time changes nothing
        self.capacity.closing(handle)
        self.capacity.straggles(handle)

    @rule(key=st.sampled_from(KEYS))
    def let_go(self, key: str) -> None:
        self.keepers.discard(key)
        if key in self.kept:
            self.kept.remove(key)
            self._freed(key)
        self.capacity.let_go(key)

    @invariant()
    def never_more_than_the_limit(self) -> None:
        if hasattr(self, "capacity"):
            assert self._taken() == self.capacity.taken
            assert self.limit is None or self.capacity.taken <= self.limit
            assert f"{self.capacity.taken} of {self.limit} taken, {len(self.line)} waiting" in repr(self.capacity)

    @invariant()
    def a_session_is_used_while_a_handle_may_be_open(self) -> None:
        if hasattr(self, "capacity"):
            used = {*self.opening, *self.open, *(handle.key for handle in [*self.closing, *self.straggling])}
            assert used == {key for key in KEYS if self.capacity.is_used(key)}

    @invariant()
    def who_waits_waits_for_something(self) -> None:
        """Nobody is in line while there is room; who is served has a close to wait for, of his own or by his place."""
        if not hasattr(self, "capacity"):
            return
        assert not self.line or self._taken() == self.limit
        own = {handle.key for handle in self.closing} & self.keepers
        others = sum(handle.key not in self.keepers for handle in self.closing)
        rest = [key for key in self.line if key not in own]
        for key, claim in self.claims.items():
            assert (claim.slot is not None) == (key in self.opening)
            assert claim.finished == (key in self.opening or not (key in own or key in rest[:others]))


TestCapacity = CapacityMachine.TestCase


def test_a_slot_is_given_back_once() -> None:
    """Whoever gives it back first; the place does not become two."""
    capacity = Capacity(2)
    first, second = (capacity.claim(key, lambda: None).slot for key in "ab")
    assert first is not None
    assert second is not None
    capacity.opened(first, handle := Handle(key="a"))
    capacity.release(first)
    capacity.closed(handle)
    capacity.release(first)
    assert 1 == capacity.taken
    capacity.claim("c", lambda: None)
    served, waits = (capacity.claim(key, lambda: None) for key in "de")
    capacity.release(second)
    capacity.release(second)
    assert (2, True, False) == (capacity.taken, served.finished, waits.slot is not None)


class Equal:
    """All objects of this class are equal."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1


def test_handles_are_told_apart_by_identity() -> None:
    """Equal handles have a slot each."""
    capacity = Capacity(2)
    handles = [Equal(), Equal()]
    for handle in handles:
        slot = capacity.claim("k", lambda: None).slot
        assert slot is not None
        capacity.opened(slot, handle)
    capacity.closed(handles[0])
    capacity.closed(handles[0])
    assert 1 == capacity.taken


def test_keeping_twice_keeps_one() -> None:
    """A session that has a kept slot already does not keep a second one."""
    capacity = Capacity(1)
    slot = capacity.claim("k", lambda: None).slot
    assert slot is not None
    capacity.keep("k")
    capacity.release(slot)
    capacity.keep("k")
    assert 1 == capacity.taken
    capacity.let_go("k")
    assert 0 == capacity.taken


def test_a_kept_slot_is_no_open_handle() -> None:
    """It is taken, but nothing of its session is open until its next handle is."""
    capacity = Capacity(1)
    slot = capacity.claim("k", lambda: None).slot
    assert slot is not None
    capacity.keep("k")
    assert capacity.is_used("k")
    capacity.release(slot)
    assert not capacity.is_used("k")
    assert 1 == capacity.taken
    capacity.claim("k", lambda: None)
    assert capacity.is_used("k")
