"""Closing a session: its handle, and if told so its metadata or what it would be resumed by."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs
import trio

from ._claims import require_free, succeed
from ._errors import BackendMissing, StoreError
from ._keys import missing
from ._ownership import FREE
from ._requests import GAVE_UP
from ._resolve import read_by
from ._retry import backend_is_gone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._cache import CacheEntry
    from ._context import Context
    from ._records import SessionRecord
    from ._requests import Control
    from .abc import Mutate


@attrs.frozen
class CloseReport:
    """What `Session.close` did.

    Attributes:
        closed: Whether a backend session was open and has been closed properly.
        notice: What went wrong with closing it, if something did that was to be tolerated.
        forgotten: Whether the stored metadata was deleted.
    """

    closed: bool
    notice: str | None = None
    forgotten: bool = False


@attrs.frozen(kw_only=True)
class CloseWish:
    """What `Session.close` was asked for besides closing; see there."""

    forget: bool = False
    discard: bool = False
    allow_backend_unavailable: bool = False
    require_session: bool = True


async def close_in_lane(ctx: Context, control: Control, reason: str, wish: CloseWish) -> CloseReport | None:
    """Close the session's handle, if it has one, then change its metadata as wished.

    The handle is out of the cache from the first step on, and its slot free
    once the runtime's `close` has ended, however that ended.  No backend is
    opened in order to be closed.

    Raises:
        SessionMissing: there is no such session.
        StoreError: its metadata cannot be read, or written as wished.
        SessionInUse: nor may it be: another manager has the session open.
        AcpError: the runtime did not close it; the metadata is untouched.
    """
    entry = ctx.cache.take_out(control.key)
    closed, notice = False, None
    if entry is not None:
        notice = await _close(ctx, entry, reason, wish)
        closed = notice is None
    else:
        record = await control.interruptibly(math.inf, _look_up, ctx, control.key, wish)
        if record is GAVE_UP or control.stopping:
            return None
        if record is None:
            if wish.require_session:
                raise missing(control.key)
            return CloseReport(closed=False)
        notice = _unregistered(ctx, record)
    if wish.forget:
        await _write(ctx, control.key, lambda _: None, {})
    elif wish.discard:
        changes = _begin_anew(ctx, control.key)
        await _write(ctx, control.key, lambda old: None if old is None else attrs.evolve(old, **changes), changes)
    return CloseReport(closed, notice, forgotten=wish.forget)


async def _look_up(ctx: Context, key: str, wish: CloseWish) -> SessionRecord | None:
    record = await read_by(ctx, key, trio.current_time() + ctx.settings.limits.cleanup)
    if record is not None and (wish.forget or wish.discard):
        await succeed(ctx, record)  # afterwards nothing says what a dead manager left
    return record


async def _close(ctx: Context, entry: CacheEntry, reason: str, wish: CloseWish) -> str | None:
    runtime = ctx.runtime(entry.record.agent)
    error = await ctx.try_close(runtime, entry.handle, reason, ctx.settings.limits.cleanup)
    if error is None:
        return None
    if wish.allow_backend_unavailable and backend_is_gone(error, discarding=wish.discard):
        return str(error)
    raise error


def _unregistered(ctx: Context, record: SessionRecord) -> str | None:
    """Return why whatever its backend still has of the session will stay there."""
    try:
        ctx.runtime(record.agent)
    except BackendMissing as error:
        return str(error)
    return None


def _begin_anew(ctx: Context, key: str) -> dict[str, Any]:
    """Return the changes after which nothing can be resumed; what could not be written earlier goes with them."""
    return {
        **ctx.unsaved.get(key, {}),
        "identity": None,
        "state": "idle",
        "last_error": None,
        "last_activity": ctx.wall_clock(),
        **(FREE if ctx.is_closed(key) else {}),
    }


async def _write(ctx: Context, key: str, mutate: Mutate, pending: Mapping[str, Any]) -> None:
    """Change the metadata within `cleanup` seconds; if that is too long, the next write makes the `pending` changes.

    Raises:
        SessionInUse: another manager has the session open.
        StoreError: it cannot be written, or not in time.
    """

    def ours(row: SessionRecord | None) -> SessionRecord | None:
        require_free(ctx, row)
        return mutate(row)

    with trio.move_on_after(ctx.settings.limits.cleanup):
        await ctx.store.update(key, ours)
        ctx.unsaved.pop(key, None)
        if ctx.is_closed(key):
            ctx.held.discard(key)
        return
    # It may still happen.  Who frees the row, should it not, is the next write or the exit: waiting has had its time.
    pending = {name: value for name, value in pending.items() if name not in FREE}
    if key in ctx.held and ctx.is_closed(key):  # what is not ours is not to be freed
        pending |= FREE
    ctx.remember(key, pending)
    raise StoreError(f"changing the metadata of {key!r} took too long", detail="store-timeout")
