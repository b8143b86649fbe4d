"""The open handles, one for each live session.

Synchronous and without I/O.  An entry owns its handle: whoever takes an entry
out has to close the handle, and there is no other way out.  Its idle age counts
from the last release of its session's lane; while the lane is busy it has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._records import Origin, SessionRecord
    from .abc import Handle

SUSPECT_TTL: Final = 60.0
"""Seconds after which a suspect handle expires, if idle handles do not expire sooner."""


@attrs.define(eq=False, kw_only=True)
class CacheEntry:
    """One live session.

    Attributes:
        handle: The open backend session; compared by identity.
        record: Its metadata as last stored.
        origin: Whether it was opened anew, resumed, or opened anew because
            what was stored could not be resumed.
        suspect: True while the handle owes an answer: it must be found quiet
            or closed before it is used again.
        doubtful: True since something failed on the handle: the runtime is
            asked how it is before it is used again.
        heard: The handle's ids when they were last looked at.
        asked: Whether the runtime was asked, after a turn, which ids it knows.
        last_used: Trio's clock when its lane was last released.
        applied: The signature of the options that the backend is known to
            have; None while that is not known.
    """

    handle: Handle
    record: SessionRecord
    origin: Origin = "new"
    suspect: bool = False
    doubtful: bool = False
    heard: tuple[str | None, ...] = ()
    asked: bool = False
    last_used: float = 0.0
    applied: str | None = None

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
