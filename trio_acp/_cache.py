"""The open handles, one for each live session.

Two rules.  Everything here is synchronous and without I/O, and time is passed
in.  An entry owns its handle: whoever takes an entry out has to close the
handle, and there is no other way out.

States of an entry
------------------
``clean``    its backend session owes nothing: the next operation uses it.
``doubtful`` something failed on it: the next operation asks its runtime first, and
             closes and resumes it if it is not well.  It may be suspect too.
``suspect``  it owes an answer, or it is not known what it did: the next
             operation finds it quiet (it is clean then), or closes it and resumes.
``out``      not in the cache any more: its handle is being closed, or is closed.

In use or idle is a state of its session's lane, not of the entry: only while
the lane is idle does the entry have an age, counted from the lane's last release.

Guarantees, each with the test that shows it
--------------------------------------------
G1 One owner.  A session has at most one entry; it is not replaced, and comes
   out once, for whoever then owns its handle.
   (test_cache.py::test_an_open_handle_is_not_replaced)
G2 Idle only.  No entry whose lane is busy is ever offered for eviction; those
   that are come longest idle first.
   (test_cache.py::test_only_what_is_idle_is_offered_longest_first)
G3 Age.  An entry's age counts from the end of its last use.
   (test_cache.py::test_a_touch_makes_an_entry_young_again)
G4 The same as a dict, under any order of operations.
   (test_cache.py::TestCache)

Bounds
------
A clean entry expires ``idle_ttl`` seconds after its last use, a suspect one
after that or `SUSPECT_TTL`, whichever is less.
(test_evictor.py::test_a_suspect_expires_sooner)  How many there may be is the
matter of `_capacity.py`.

Not promised: that a handle in the cache still works, for only its runtime can
tell; that an expired entry is out (an evictor that crashed, or a conversation
that could not be resumed, leaves it in); that whoever took an entry out closes
its handle: that is shown for each who does, not here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._records import Origin, RuntimeOptions, SessionRecord
    from .abc import Handle

SUSPECT_TTL: Final = 60.0
"""Seconds after which a suspect handle expires, if idle handles do not expire sooner."""


@attrs.define(eq=False, kw_only=True)
class CacheEntry:
    """One live session.

    Attributes:
        handle: The open backend session; compared by identity.
        record: Its metadata; ids learned last, and what a store did not take, are not stored yet.
        origin: Whether it was opened anew, resumed, or opened anew because
            what was stored could not be resumed.
        lost: Why that could not be resumed.
        suspect: True while the handle owes an answer: it must be found quiet
            or closed before it is used again.
        doubtful: True since something failed on the handle: the runtime is
            asked how it is before it is used again.
        heard: The handle's ids when they were last looked at.
        unstored: Whether nobody has tried yet to store what opening it brought.
        asked: Whether the runtime was asked, after a turn or to reconcile, which ids it knows.
        last_used: Trio's clock when its lane was last released.
        applied: The options, as stored, that the backend is known to have;
            None while that is not known.
    """

    handle: Handle
    record: SessionRecord
    origin: Origin = "new"
    lost: str | None = None
    suspect: bool = False
    doubtful: bool = False
    heard: tuple[str | None, ...] = ()
    unstored: bool = False
    asked: bool = False
    last_used: float = 0.0
    applied: RuntimeOptions | None = None

    def idle_for(self, now: float) -> float:
        """Return for how many seconds it has been idle; only an entry whose lane is idle has an idle age."""
        return max(0.0, now - self.last_used)

    def expires(self, idle_ttl: float) -> float:
        """Return when it expires, unless it is used before; infinite if never."""
        return self.last_used + (min(idle_ttl, SUSPECT_TTL) if self.suspect else idle_ttl)


class RuntimeCache:
    """Session key → `CacheEntry`."""

    def __init__(self) -> None:
        self._entries: dict[str, CacheEntry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._entries))

    def __repr__(self) -> str:
        return f"<RuntimeCache: {len(self)} open, {self.suspects()} suspect>"

    def get(self, key: str) -> CacheEntry | None:
        """Return the live entry of a session, if it has one."""
        return self._entries.get(key)

    def put(self, key: str, entry: CacheEntry) -> None:
        """Enter a session that has no entry.

        Raises:
            ValueError: it has one already; replacing it would leak its handle.
        """
        if key in self._entries:
            raise ValueError(f"session {key!r} already has an open handle")
        self._entries[key] = entry

    def take_out(self, key: str) -> CacheEntry | None:
        """Remove and return an entry: the caller now owns the handle and closes it."""
        return self._entries.pop(key, None)

    def touch(self, key: str, now: float) -> CacheEntry | None:
        """Note that the session was in use until `now`; return its entry, if it has one."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.last_used = now
        return entry

    def idle(self, is_idle: Callable[[str], bool]) -> list[tuple[str, CacheEntry]]:
        """Return the entries whose lanes are idle, as `is_idle` says, the longest idle first."""
        idle = [(key, entry) for key, entry in self._entries.items() if is_idle(key)]
        return sorted(idle, key=lambda item: item[1].last_used)

    def suspects(self) -> int:
        """Count the entries that are suspect."""
        return sum(entry.suspect for entry in self._entries.values())
