"""The evictor: closes handles that nobody uses, when they are old or when their room is needed.

An eviction is an operation in its session's own lane, admitted only if that
lane is idle.  So it waits for nothing, no other session waits for it, and a
request that arrives for the same session waits for that one close, at most
`cleanup` (plus `join`) seconds, and then resumes the session.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import trio

from ._alarm import Alarm
from ._errors import TooManySessions, TurnFailed
from ._serving import serving

if TYPE_CHECKING:
    from ._cache import CacheEntry
    from ._capacity import Slot
    from ._context import Context
    from ._requests import Control, Request

_log = logging.getLogger(__name__)


class Evictor:
    """Finds idle handles; one for each manager, with one task for all sessions."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._alarm = Alarm(self._next_expiry, self.evict_expired)

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Evict each handle at the instant it expires; between two of them, sleep.

        Ends when cancelled.
        """
        try:
            await self._alarm.run()
        except Exception:  # noqa: BLE001 - our fault: handles stay open until the manager is left, turns go on
            _log.exception("the evictor failed; idle sessions are not closed any more")

    def lane_released(self, key: str) -> None:
        """A session's lane is idle from now on; if it has a handle, that begins to age."""
        entry = self._ctx.cache.touch(key, trio.current_time())
        if entry is not None:
            self._ctx.capacity.stays(entry.handle)  # its eviction may have been withdrawn, for a close that was too
            # Moving the alarm wakes nobody.  A turn therefore costs the evictor no step.
            self._alarm.not_after(entry.expires(self._ctx.settings.idle_ttl))

    def evict_expired(self) -> None:
        """Start closing every idle handle that has expired, in parallel."""
        ctx, now = self._ctx, trio.current_time()
        if ctx.closing:
            return
        for key, entry in self._candidates():
            self._look_again(key, entry)
            if entry.expires(ctx.settings.idle_ttl) <= now:
                self._evict(key, entry)

    def make_room(self) -> bool:
        """Start closing a dead handle, else the clean one that is idle for longest; False if there is none."""
        candidates = self._candidates()
        # One whose connection is gone is of no use to anybody.
        for key, entry in sorted(candidates, key=lambda candidate: self._is_alive(*candidate)):
            self._look_again(key, entry)
            if not entry.suspect or not self._is_alive(key, entry):
                self._evict(key, entry)
                return True
        return False

    async def slot_for(self, request: Request, deadline: float) -> Slot | None:
        """Get room for a handle of the request's session; on a full house, make some.

        It waits only for handles that are being closed.  If the request is to
        stop, or cancelled, it waits no longer.

        Args:
            deadline: When to give up, on Trio's clock.

        Returns:
            None if the request is to stop.

        Raises:
            TooManySessions: all slots are taken, and nobody's handle is idle and clean.
            TurnFailed: with detail ``"setup-timeout"``: no slot was free in time.
        """
        capacity = self._ctx.capacity
        claim = capacity.claim(request.key, request.poke)
        while claim.slot is None and not request.stopping:
            if trio.current_time() >= deadline:
                capacity.withdraw(claim)
                raise TurnFailed(f"no slot was free for session {request.key!r} in time", detail="setup-timeout")
            if claim.finished and not self.make_room():
                capacity.withdraw(claim)
                raise TooManySessions(
                    f"{capacity.taken} of {capacity.limit} sessions are open, and none of them is idle and clean"
                )
            await request.wait_for(claim, deadline)
        if request.stopping:
            capacity.withdraw(claim)
            return None
        return claim.slot

    # -- helpers --------------------------------------------------------------

    def _next_expiry(self) -> float:
        if self._ctx.closing:
            return math.inf
        ttl = self._ctx.settings.idle_ttl
        return min((entry.expires(ttl) for _, entry in self._candidates()), default=math.inf)

    def _candidates(self) -> list[tuple[str, CacheEntry]]:
        """Return the idle entries that lose nothing by being closed, the longest idle first."""
        idle = self._ctx.cache.idle(self._ctx.is_idle)
        return [(key, entry) for key, entry in idle if self._loses_nothing(key, entry)]

    def _loses_nothing(self, key: str, entry: CacheEntry) -> bool:
        if entry.record.mode == "oneshot" or not self._is_alive(key, entry):
            return True
        try:
            return self._ctx.runtime(entry.record.agent).can_resume(entry.handle)
        except Exception:  # noqa: BLE001 - an adapter's fault: its session stays open, the others are not concerned
            with serving(key):
                _log.exception("the runtime could not tell whether the session of %s can be resumed", key)
            return False

    def _is_alive(self, key: str, entry: CacheEntry) -> bool:
        try:
            return self._ctx.runtime(entry.record.agent).is_alive(entry.handle)
        except Exception:  # noqa: BLE001 - an adapter's fault: its session stays open, the others are not concerned
            with serving(key):
                _log.exception("the runtime could not tell whether the session of %s is alive", key)
            return True

    def _look_again(self, key: str, entry: CacheEntry) -> None:
        """A suspect handle whose late answer has come is clean."""
        if not entry.suspect:
            return
        try:
            entry.suspect = not self._ctx.runtime(entry.record.agent).is_quiet(entry.handle)
        except Exception:  # noqa: BLE001 - an adapter's fault: its session stays suspect, the others are not concerned
            with serving(key):
                _log.exception("the runtime could not tell whether the session of %s is quiet", key)

    def _evict(self, key: str, entry: CacheEntry) -> None:
        # Noted at once: whoever needs room knows that this slot is on its way.
        self._ctx.capacity.closing(entry.handle)
        self._ctx.start_in_lane(key, self._close_in_lane)

    async def _close_in_lane(self, control: Control) -> None:
        ctx, now = self._ctx, trio.current_time()
        entry = ctx.cache.take_out(control.key)
        assert entry is not None, "only the owner of the lane takes an entry out"
        ctx.counters.evicted += 1
        ctx.counters.last_evicted = now
        _log.debug("closing the session of %s, idle for %g s", control.key, entry.idle_for(now))
        runtime = ctx.runtime(entry.record.agent)
        await ctx.close_handle(runtime, entry.handle, "idle-evicted", ctx.settings.limits.cleanup)
