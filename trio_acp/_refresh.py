"""What a session's runtime tells between turns: whether the handle is well, and by which ids it is known.

Ids are learned in three ways, and none of them can change a turn's outcome:

* from the handle, without asking anybody, in time for the turn's last write;
* from the runtime, after the turn's caller went on: an operation of its own
  that holds the lane for at most ``settle`` seconds and gives way at once to
  whoever comes next;
* from the runtime, before a oneshot is closed: in the part of the turn's
  cleanup that it did not need, for it ended by itself.

A handle is *doubtful* after something failed on it.  Whoever uses it next asks
first how it is, for at most ``probe`` seconds.
"""

from __future__ import annotations

import logging
import re
from secrets import token_hex
from typing import TYPE_CHECKING

import attrs
import trio

from ._identity import from_event, from_status, ids_of, is_pending, merge, tells_more
from ._outcomes import TimedOut
from ._requests import Control
from .abc import Runtime

if TYPE_CHECKING:
    from ._cache import CacheEntry
    from ._calls import Call
    from ._context import Context
    from ._requests import Request
    from ._turn_state import TurnState
    from .abc import RuntimeStatus

_log = logging.getLogger(__name__)

_SAID = re.compile(r"\bstatus=(\S+)", re.IGNORECASE)
_LOST = frozenset({"dead", "no-session"})


def is_unavailable(status: RuntimeStatus | None) -> bool:
    """Whether a runtime's answer says that the backend session is lost; no answer does not say so."""
    if status is None:
        return False
    told = status.details.get("status")
    if isinstance(told, str) and told.strip():
        return told.strip().lower() in _LOST
    said = _SAID.search(status.summary)
    return said is not None and said[1].lower() in _LOST


# -- asking -------------------------------------------------------------------


async def is_well(ctx: Context, request: Request, entry: CacheEntry, deadline: float) -> bool:
    """Whether a doubtful handle can be used: ask the runtime, within ``probe`` seconds.

    If the request is to stop, or cancelled, the question is given up and the handle stays doubtful.

    Args:
        deadline: When to give up, on Trio's clock, if that is sooner.
    """
    if request.stopping:
        return True
    call = await ask(ctx, request, entry, min(deadline, trio.current_time() + ctx.settings.limits.probe))
    well = call.ok and not is_unavailable(call.value)
    if not well and not request.stopping:
        problem = repr(call.error) if call.error is not None else "it is lost" if call.ok else "no answer in time"
        _log.warning("the backend session of %s is not well: %s", request.key, problem)
    return well


async def ask(ctx: Context, request: Request, entry: CacheEntry, deadline: float) -> Call[RuntimeStatus | None]:
    """Ask the runtime how a handle is; the entry is doubtful or not, as it answers.

    The question is given up at `deadline`, when the request is to stop, and if cancelled.
    """
    runtime = ctx.runtime(entry.record.agent)
    call: Call[RuntimeStatus | None] = ctx.calls.start("status", runtime.status, entry.handle, on_end=request.poke)
    if not await request.wait_for(call, deadline):
        await ctx.calls.stop(call, reason="nobody waits for the status any more")
    if call.ok:
        entry.doubtful = is_unavailable(call.value)
    return call


# -- learning -----------------------------------------------------------------


def listen(ctx: Context, entry: CacheEntry) -> None:
    """Take in the ids on a handle, if they have changed or none was confirmed yet; the next write stores them."""
    ids = ids_of(entry.handle)
    if ids != entry.heard or is_pending(entry.record.identity):
        entry.heard = ids
        now = ctx.wall_clock()
        identity = merge(entry.record.identity, from_event(entry.handle, now), now)
        entry.record = attrs.evolve(entry.record, identity=identity)


def learn(ctx: Context, entry: CacheEntry, answer: RuntimeStatus | None) -> bool:
    """Take in the ids of a runtime's answer; say whether they are news; the next write stores them."""
    now = ctx.wall_clock()
    before = entry.record.identity
    identity = merge(before, from_status(answer, now), now)
    entry.record = attrs.evolve(entry.record, identity=identity)
    if not tells_more(before, identity):
        return False
    # Remembered now: whoever comes before the write stops it, and may take the entry away.
    ctx.remember(entry.record.key, {"identity": identity})
    return True


async def store_identity(ctx: Context, request: Request, entry: CacheEntry, deadline: float) -> None:
    """Write what was learned, best effort; if cancelled, or not done by `deadline`, the next write does it."""
    if entry.record.identity is not None:
        _log.debug("session %s is known by %s", request.key, entry.record.identity)
    await ctx.save(request, {"identity": entry.record.identity}, deadline)


def after_turn(ctx: Context, turn: TurnState) -> Control | None:
    """Return what is still to be done in the lane after a turn's caller went on, if anything is."""
    entry = ctx.cache.get(turn.key)
    if entry is None or ctx.closing or not turn.submitted or isinstance(turn.outcome, TimedOut):
        return None
    if entry.suspect or not _may_tell_more(ctx, entry):
        return None
    ctx.cache.touch(turn.key, trio.current_time())  # for the evictor the session is idle from now on

    async def refresh(control: Control) -> None:
        now, limits = trio.current_time(), ctx.settings.limits
        # Requests that wait already are not kept waiting for an answer that does not come at once.
        deadline = now + (limits.join if ctx.queue.waiting(turn.key) else limits.settle)
        call = await ask(ctx, control, entry, deadline)
        entry.asked = not control.stopping
        if call.ok and learn(ctx, entry, call.value):
            await control.interruptibly(deadline, store_identity, ctx, control, entry, deadline)

    return Control(turn.key, token_hex(16), refresh, internal=True, gives_way=True)


async def before_closing(ctx: Context, turn: TurnState, entry: CacheEntry) -> None:
    """Learn by which ids the handle of a oneshot is known, within ``cleanup`` seconds, before it is gone.

    If cancelled, the question is given up.
    """
    if turn.ephemeral_record is not None or not _may_tell_more(ctx, entry):
        return  # nothing of it is stored, or nothing would be learned
    limits = turn.limits
    call = ctx.calls.start("status", ctx.runtime(entry.record.agent).status, entry.handle)
    if not await call.wait(trio.current_time() + min(limits.settle, limits.cleanup)):
        await ctx.calls.stop(call, reason="the status request took too long")
    if call.ok:
        learn(ctx, entry, call.value)


def tells_ids(runtime: Runtime) -> bool:
    """Whether something can be learned by asking a runtime for ids."""
    return runtime.tells_ids and type(runtime).status is not Runtime.status


def _may_tell_more(ctx: Context, entry: CacheEntry) -> bool:
    runtime = ctx.runtime(entry.record.agent)
    if not tells_ids(runtime) or not runtime.is_alive(entry.handle):
        return False
    return not entry.asked or is_pending(entry.record.identity)
