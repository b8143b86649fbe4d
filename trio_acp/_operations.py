"""The operations of a session other than turns, as its actor runs them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import trio

from ._ensure import ensure_runtime_handle
from ._errors import SessionExists, SessionMissing, StoreError
from ._identity import fits
from ._records import RuntimeOptions
from ._refresh import ask, learn, store_identity
from ._service import shielded
from ._turn_state import TurnState

if TYPE_CHECKING:
    from ._cache import CacheEntry
    from ._context import Context
    from ._records import Identity, Mode, Origin, SessionRecord, SessionState
    from ._requests import Control
    from .abc import RuntimeStatus


@attrs.frozen(kw_only=True)
class SessionStatus:
    """How a session is.

    Attributes:
        state: ``running`` while a turn of this manager runs, else as stored.
        live: Whether a backend session is open.
        suspect: Whether that one still owes an answer.
        queued: Requests that wait.
        options: What its turns run with.
        runtime: What the runtime told, if the session was live and not busy.
        identity: By which ids the backend session is known.
    """

    key: str
    agent: str
    mode: Mode
    state: SessionState
    cwd: str | None
    session_id: str | None
    last_error: str | None
    last_activity: float
    live: bool
    suspect: bool
    queued: int
    options: RuntimeOptions = attrs.field(factory=RuntimeOptions)
    runtime: RuntimeStatus | None = None
    identity: Identity | None = None


@attrs.frozen
class CloseReport:
    """What `Session.close` did.

    Attributes:
        closed: Whether a backend session was open and has been closed properly.
        notice: What went wrong with closing it, if something did.
    """

    closed: bool
    notice: str | None = None


async def start_in_lane(ctx: Context, control: Control, wanted: SessionRecord, *, fresh: bool) -> Origin | None:
    """Open, resume or reuse the session, and store its metadata; return which of these it was.

    If the metadata cannot be written, or the caller gave up, what was opened
    here is closed again.

    Raises:
        SessionExists: the stored session has another agent or mode.
        StoreError: its metadata cannot be read or written.
        AcpError: what `ensure_runtime_handle` raises.
    """
    limits = ctx.settings.limits
    deadline = trio.current_time() + limits.setup
    stored = await control.interruptibly(math.inf, _read, ctx, control.key, deadline)
    if control.stopping:
        return None
    if stored is None or fresh:
        record = wanted
    elif (stored.agent, stored.mode) != (wanted.agent, wanted.mode):
        raise SessionExists(
            f"session {control.key!r} is stored as {stored.mode} of {stored.agent!r}, "
            f"not {wanted.mode} of {wanted.agent!r}; fresh=True discards it"
        )
    else:
        record = stored
        if wanted.cwd is not None:
            record = attrs.evolve(stored, cwd=wanted.cwd, options=attrs.evolve(stored.options, cwd=None))
    before = ctx.cache.get(control.key)
    if before is not None and (
        fresh
        or before.record.agent != record.agent
        or before.record.working_directory != record.working_directory
        or not fits(before.record.identity, record.identity)
    ):
        ctx.cache.take_out(control.key)
        ctx.capacity.keep(control.key)
        await ctx.close_handle(ctx.runtime(before.record.agent), before.handle, "replaced", limits.cleanup, control)
        before = None
    entry = await ensure_runtime_handle(ctx, control, record, deadline, cleanup=limits.cleanup)
    if entry is None:
        return None
    stored = None
    try:
        stored = await _store_started(ctx, control, entry, deadline, own_cwd=wanted.cwd is not None)
    finally:
        # At shutdown somebody else may have taken it out, and closes it.
        if stored is None and entry is not before and ctx.cache.get(control.key) is entry:
            ctx.cache.take_out(control.key)
            with shielded(limits.cleanup + 2 * limits.join):
                await ctx.close_handle(ctx.runtime(record.agent), entry.handle, "init-failed", limits.cleanup)
    return None if stored is None else "reused" if entry is before else entry.origin


async def _store_started(
    ctx: Context, control: Control, entry: CacheEntry, deadline: float, *, own_cwd: bool
) -> SessionRecord | None:
    record = attrs.evolve(entry.record, state="idle", owner=None, last_error=None, last_activity=ctx.wall_clock())
    if own_cwd:
        # A handle that was reused may be there because of an option.
        options = attrs.evolve(record.options, cwd=None)
        record = attrs.evolve(record, cwd=record.working_directory, options=options)
    written = await control.interruptibly(deadline, ctx.store.update, control.key, lambda _: record)
    if written is not None:
        ctx.unsaved.pop(control.key, None)
        entry.record = record
        return record
    if control.stopping:
        return None
    raise StoreError(f"storing the metadata of {control.key!r} took too long", detail="store-timeout")


async def close_in_lane(ctx: Context, control: Control, reason: str, *, forget: bool) -> CloseReport:
    """Close the session's handle, if it has one, and delete its metadata if told so."""
    limits = ctx.settings.limits
    entry = ctx.cache.take_out(control.key)
    closed = False
    if entry is not None:
        closed = await ctx.close_handle(ctx.runtime(entry.record.agent), entry.handle, reason, limits.cleanup)
    if forget:
        ctx.unsaved.pop(control.key, None)
        with trio.move_on_after(limits.cleanup) as scope:
            await ctx.store.update(control.key, lambda _: None)
        if scope.cancelled_caught:
            raise StoreError(f"deleting the metadata of {control.key!r} took too long", detail="store-timeout")
    failed = entry is not None and not closed
    return CloseReport(closed, "the backend did not close the session properly in time" if failed else None)


async def probe_in_lane(ctx: Context, control: Control) -> SessionStatus | None:
    """Ask the runtime how a live session is, within `probe` seconds, and describe the session."""
    entry = ctx.cache.get(control.key)
    answer: RuntimeStatus | None = None
    if entry is not None and not entry.suspect:
        limits = ctx.settings.limits
        call = await ask(ctx, control, entry, trio.current_time() + limits.probe)
        entry.doubtful |= not (call.ok or control.stopping)
        answer = call.value
        if learn(ctx, entry, answer):
            deadline = trio.current_time() + limits.cleanup
            await control.interruptibly(deadline, store_identity, ctx, control, entry, deadline)
    status: SessionStatus | None = await control.interruptibly(math.inf, describe, ctx, control.key, answer)
    return status


async def describe(ctx: Context, key: str, answer: RuntimeStatus | None = None) -> SessionStatus:
    """Describe a session from what the manager and the store know.

    Raises:
        SessionMissing: there is no such session.
        StoreError: its metadata cannot be read in time.
    """
    entry = ctx.cache.get(key)
    record = (
        entry.record if entry is not None else await _read(ctx, key, trio.current_time() + ctx.settings.limits.probe)
    )
    if record is None:
        raise SessionMissing(f"there is no session {key!r}; start it first")
    running = isinstance(ctx.queue.current(key), TurnState)
    return SessionStatus(
        key=key,
        agent=record.agent,
        mode=record.mode,
        state="running" if running else record.state,
        cwd=record.working_directory,
        session_id=record.session_id,
        last_error=record.last_error,
        last_activity=record.last_activity,
        live=entry is not None,
        suspect=entry is not None and entry.suspect,
        queued=len(ctx.queue.waiting(key)),
        options=record.options,
        runtime=answer,
        identity=record.identity,
    )


async def _read(ctx: Context, key: str, deadline: float) -> SessionRecord | None:
    with trio.move_on_at(deadline):
        return await ctx.read(key)
    raise StoreError(f"reading the metadata of {key!r} took too long", detail="store-timeout")
