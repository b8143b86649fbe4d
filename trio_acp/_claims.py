"""Holding sessions in the store: a row is claimed before its session is opened, and freed once it is closed.

A turn on a live handle has nothing to claim, and what is not stored cannot be
claimed.  `release_if_closed` runs at the end of every operation of a lane:
whichever way a handle went, or failed to come, the row is free afterwards.
Only a handle that is still being closed then, or that may still come, keeps the
row; when it is gone, the lane runs once more (`Context.gone`).  What is held
when the manager is left is freed after the last agent has gone.
"""

from __future__ import annotations

import logging
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from ._ledger import interrupted
from ._owner import alive, is_alive
from ._ownership import FREE, changed, claimed, free_for
from ._reaper import end_groups
from ._service import shielded
from ._serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ._context import Context
    from ._records import Owner, SessionRecord
    from ._requests import Request
    from .abc import Ledger, SessionStore

_log = logging.getLogger(__name__)


@asynccontextmanager
async def holding_rows(store: SessionStore, owner: Owner, seconds: float) -> AsyncIterator[set[str]]:
    """Yield the set for the keys whose rows name `owner`; on leaving, free these rows, within `seconds`.

    If cancelled, it does the same.
    """
    held: set[str] = set()
    with alive(owner):
        try:
            yield held
        finally:
            with shielded(seconds) as scope:
                for key in sorted(held):
                    try:
                        await store.update(key, lambda row: changed(row, owner, FREE))
                    except Exception:  # noqa: BLE001 - whatever a store raises, the exit goes on
                        with serving(key):
                            _log.exception("the row of %s was not freed", key)
            if scope.cancelled_caught:
                _log.warning("the rows of %s may not have been freed: the store took too long", ", ".join(sorted(held)))


async def claim_row(ctx: Context, key: str) -> SessionRecord | None:
    """Return the session's row, which names us from now on; None if there is no such session.

    If its owner is dead, the processes of its agent are ended first, and what
    that one left is repaired.  If cancelled, the row may be ours until the
    lane is released.

    Raises:
        SessionInUse: a live manager has the session open; nothing changed.
        StoreError: the row cannot be read or written; nothing changed.
    """
    found = await ctx.read(key)
    if found is None or (key in ctx.held and found.owner == ctx.owner):
        return found  # what is held may have been deleted, and begun anew by another
    # Before the row is ours: should we be interrupted in between, it still says what was left.
    await succeed(ctx, found)
    changes = ctx.unsaved.get(key, {})
    before: SessionRecord | None = None

    def take(row: SessionRecord | None) -> SessionRecord | None:
        nonlocal before
        before = row
        return claimed(row, ctx.owner, is_alive, changes)

    ctx.held.add(key)  # now: an update that is interrupted may still be made
    try:
        row = await ctx.store.update(key, take)
    except Exception:
        ctx.held.discard(key)
        raise
    if ctx.unsaved.get(key) is changes:
        del ctx.unsaved[key]
    if row is None:
        ctx.held.discard(key)
    elif before is not None and before.owner != found.owner:
        await succeed(ctx, before)  # it came and died since the row was read
    return None if row is None else ctx.with_agent(row)


async def succeed(ctx: Context, row: SessionRecord) -> None:
    """If the row's owner is dead, end the processes of its agent and settle its tasks; the row is left as it is.

    It takes three times `cleanup` seconds at most.  If cancelled, the processes are killed at once.
    """
    if row.owner is None or row.owner == ctx.owner or is_alive(row.owner):
        return
    patience = ctx.settings.limits.cleanup
    _log.warning("session %s was left by the process %d, which is gone", row.key, row.owner.pid)
    # Before the session is opened: two agents at work on one conversation would spoil it.
    await end_groups([(group, row.owner) for group in row.processes], patience=patience)
    if ctx.ledger is not None:
        await settle_tasks(ctx.ledger, patience, ctx.wall_clock)


async def settle_tasks(ledger: Ledger, seconds: float, wall_clock: Callable[[], float]) -> None:
    """Settle the tasks whose owners died, within `seconds`; what fails is logged, and left to the next one.

    Several managers may do it at once.  If cancelled, each task is settled or as it was.

    Args:
        wall_clock: Tells when they ended, as far as anybody knows, in seconds since the epoch.
    """
    with trio.move_on_after(seconds) as scope:
        try:
            for task in await ledger.list(open_only=True):
                if task.owner is not None and not is_alive(task.owner):
                    await ledger.put(interrupted(task, wall_clock()))
        except Exception:  # noqa: BLE001 - a ledger decides nothing
            _log.exception("the tasks that dead managers left could not be settled")
    if scope.cancelled_caught:
        _log.warning("settling the tasks that dead managers left took more than %g s", seconds)


def require_free(ctx: Context, row: SessionRecord | None) -> None:
    """Have an update that calls this change nothing if the session is another's.

    Raises:
        SessionInUse: a live manager that is not this one has the session open.
    """
    free_for(row, ctx.owner, is_alive)


async def store_opening(ctx: Context, request: Request) -> None:
    """Write what opening a session brought, if its operation went wrong before it did; at most `cleanup` seconds.

    Without it, a crash would leave an agent that no row names.  If that fails,
    or it is cancelled, the next write of the session does it.
    """
    entry = ctx.cache.get(request.key)
    if entry is not None and entry.unstored and request.key in ctx.held and not ctx.closing:
        await ctx.save(request, {})


async def release_if_closed(ctx: Context, request: Request, deadline: float = math.inf) -> None:
    """Free the row of a session if no agent of ours can be at work on it any more; at most `cleanup` seconds.

    If that fails, the next write of the session does it, or the manager's
    exit; if cancelled, the end of the lane does it once more.
    """
    if request.key in ctx.held and ctx.is_closed(request.key) and trio.current_time() < deadline:
        try:
            await ctx.save(request, dict(FREE), deadline)
        except trio.Cancelled:
            ctx.held.add(request.key)
            raise
