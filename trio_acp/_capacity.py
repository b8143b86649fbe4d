"""How many backend sessions may be open at once.

Synchronous and without I/O.  A slot is taken before a handle is opened and
given back only when that handle is closed: while it is being opened, while it
is open, suspect or not, and while it is being closed, however long that takes,
it counts.  So the limit cannot be exceeded, whatever runs at the same time.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable


class _Use(enum.Enum):
    KEPT = "nothing is open: it waits for its session's next handle"
    OPEN = "opening or open"
    CLOSING = "will be free soon: its handle is being closed, within a deadline"
    STRAGGLING = "nobody knows when it will be free: closing its handle did not end in time"


@attrs.define(eq=False)
class Slot:
    """Room for one open handle; `Capacity` makes and changes it."""

    key: str
    use: _Use = _Use.OPEN
    handle: object = None


@attrs.define(eq=False)
class Claim:
    """Somebody's wish for a slot.

    Attributes:
        slot: The slot, once there is one.
        on_change: Called when `finished` may have changed.
    """

    key: str
    on_change: Callable[[], None]
    capacity: Capacity
    slot: Slot | None = None

    @property
    def finished(self) -> bool:
        """Whether waiting is over: it has its slot, or none is on its way to it."""
        return self.slot is not None or not self.capacity.serves(self)


class Capacity:
    """The slots of one manager: first come, first served.

    A session that replaces its handle keeps its slot: see `keep`.

    Args:
        limit: How many there are; None for no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._slots: set[Slot] = set()
        self._of: dict[str, set[Slot]] = {}
        # By identity: whether two handles are equal is up to the runtime that made them.
        self._by_handle: dict[int, Slot] = {}
        self._waiting: deque[Claim] = deque()
        self._keepers: set[str] = set()
        self._kept: dict[str, Slot] = {}

    def __repr__(self) -> str:
        return f"<Capacity: {self.taken} of {self.limit} taken, {len(self._waiting)} waiting>"

    @property
    def taken(self) -> int:
        """How many slots are taken; never more than `limit`."""
        return len(self._slots)

    def is_used(self, key: str) -> bool:
        """Whether a handle of a session is being opened, is open, or is being closed, however long that takes."""
        return any(slot.use is not _Use.KEPT for slot in self._of.get(key, ()))

    # -- getting a slot -------------------------------------------------------

    def claim(self, key: str, on_change: Callable[[], None]) -> Claim:
        """Ask for a slot for a new handle of a session; without a free one, wait in line."""
        claim = Claim(key, on_change, self)
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._keepers.discard(key)
            kept.use = _Use.OPEN
            claim.slot = kept
        elif self.limit is None or self.taken < self.limit:
            self._grant(claim)
        else:
            self._waiting.append(claim)
        return claim

    def serves(self, claim: Claim) -> bool:
        """Whether a waiting claim will get its slot from a handle that is being closed now."""
        own, anyones = set[str](), 0
        for slot in self._slots:
            if slot.use is _Use.CLOSING:
                if slot.key in self._keepers:
                    own.add(slot.key)
                else:
                    anyones += 1
        if claim.key in own:
            return True
        in_line = [waiting for waiting in self._waiting if waiting.key not in own]
        return claim in in_line[:anyones]

    def withdraw(self, claim: Claim) -> None:
        """Give up a claim, and the slot that it may have got."""
        if claim.slot is not None:
            self.release(claim.slot)
        elif claim in self._waiting:
            self._waiting.remove(claim)

    # -- the life of a slot ---------------------------------------------------

    def opened(self, slot: Slot, handle: object) -> None:
        """The slot's handle is there; from now on the slot is known by it."""
        slot.handle = handle
        self._by_handle[id(handle)] = slot

    def closing(self, handle: object) -> None:
        """The handle is being closed, or is about to be: its slot will be free soon."""
        slot = self._by_handle.get(id(handle))
        if slot is not None:
            slot.use = _Use.CLOSING

    def stays(self, handle: object) -> None:
        """The handle is in use, or idle: if it was about to be closed, it is not any more."""
        slot = self._by_handle.get(id(handle))
        if slot is not None and slot.use is _Use.CLOSING:
            slot.use = _Use.OPEN
            self._tell_all()

    def straggles(self, handle: object) -> None:
        """Closing the handle did not end in time: nobody may wait for its slot."""
        slot = self._by_handle.get(id(handle))
        if slot is not None:
            slot.use = _Use.STRAGGLING
            self._tell_all()

    def closed(self, handle: object) -> None:
        """The handle is closed: its session's or the next claim gets the slot."""
        slot = self._by_handle.get(id(handle))
        if slot is not None:
            self.release(slot)

    def release(self, slot: Slot) -> None:
        """Give a slot back; only the first call counts."""
        if slot not in self._slots:
            return
        self._slots.remove(slot)
        self._of[slot.key].remove(slot)
        if not self._of[slot.key]:
            del self._of[slot.key]
        self._by_handle.pop(id(slot.handle), None)
        if slot.key in self._keepers:
            waiting = next((claim for claim in self._waiting if claim.key == slot.key), None)
            if waiting is not None:
                self._waiting.remove(waiting)
                self._grant(waiting)
            else:
                self._kept[slot.key] = self._add(Slot(slot.key, _Use.KEPT))
                self._keepers.discard(slot.key)
        elif self._waiting:
            self._grant(self._waiting.popleft())

    # -- keeping a slot -------------------------------------------------------

    def keep(self, key: str) -> None:
        """The session is about to close its handle in order to open another: its slot is not for others.

        Until its next claim gets a slot, or `let_go`.
        """
        if key not in self._kept:
            self._keepers.add(key)
            self._tell_all()

    def let_go(self, key: str) -> None:
        """The session opens no other handle now: a slot that was kept for it and not used is free."""
        self._keepers.discard(key)
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.release(kept)

    def _grant(self, claim: Claim) -> None:
        self._keepers.discard(claim.key)
        claim.slot = self._add(Slot(claim.key))
        claim.on_change()

    def _add(self, slot: Slot) -> Slot:
        self._slots.add(slot)
        self._of.setdefault(slot.key, set()).add(slot)
        return slot

    def _tell_all(self) -> None:
        for claim in tuple(self._waiting):
            claim.on_change()
