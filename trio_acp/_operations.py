"""The operations of a session other than turns, as its actor runs them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs
import trio

from ._claims import claim_row, require_free
from ._ensure import ensure_runtime_handle
from ._errors import StoreError
from ._keys import missing
from ._records import RuntimeOptions
from ._refresh import ask, learn, store_identity
from ._requests import GAVE_UP
from ._resolve import read_by
from ._service import shielded
from ._starting import can_stay_open, record_to_start
from ._turn_state import TurnState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._cache import CacheEntry
    from ._context import Context
    from ._records import Identity, Mode, Origin, SessionRecord, SessionState
    from ._requests import Control
    from .abc import Capabilities, RuntimeStatus


@attrs.frozen(kw_only=True)
class SessionStatus:
    """How a session is.

    Attributes:
        key: The session's key.
        mode: ``persistent`` or ``oneshot``.
        state: ``running`` while a turn of this manager runs, else as stored.
        cwd: The working directory in force; None if nobody has chosen one yet.
        session_id: The ACP session id, if known.
        last_error: Why the last turn failed, if `state` is ``error``.
        last_activity: Wall-clock time of the last write, seconds since the epoch.
        live: Whether a backend session is open.
        suspect: Whether that one still owes an answer.
        queued: Requests that wait.
        options: What its turns run with.
        agent: The name of the runtime that serves it: its backend.
        runtime: What the runtime told, if the session was live and not busy.
        capabilities: What it said that the session can be told, likewise.
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
    capabilities: Capabilities | None = None
    identity: Identity | None = None


async def start_in_lane(
    ctx: Context, control: Control, wanted: SessionRecord, changes: Mapping[str, Any], *, fresh: bool
) -> tuple[Origin, str | None] | None:
    """Open, resume or reuse the session, and store its metadata; return which of these it was, and what was lost why.

    A session wanted of no agent in particular is that of its stored agent, or
    of the one that `Backends.choose` finds.

    If the metadata cannot be written, or the caller gave up, what was opened
    here is closed again.

    Raises:
        SessionExists: the stored session has another agent or mode.
        StoreError: its metadata cannot be read or written.
        AcpError: what `ensure_runtime_handle` raises.
    """
    limits = ctx.settings.limits
    deadline = trio.current_time() + limits.setup
    stored = await control.interruptibly(math.inf, _claim, ctx, control.key, deadline)
    if stored is GAVE_UP or control.stopping:
        return None
    if fresh:
        stored = None
    if not wanted.agent:
        wanted = attrs.evolve(wanted, agent=ctx.backends.choose(control.key) if stored is None else stored.agent)
    record = record_to_start(stored, wanted, changes)
    before = ctx.cache.get(control.key)
    if before is not None and (fresh or not can_stay_open(before.record, record)):
        ctx.cache.take_out(control.key)
        ctx.capacity.keep(control.key)
        await ctx.close_handle(ctx.runtime(before.record.agent), before.handle, "replaced", limits.cleanup, control)
        before = None
    entry = await ensure_runtime_handle(ctx, control, record, deadline, cleanup=limits.cleanup)
    if entry is None:
        return None
    written: SessionRecord | None = None
    try:
        written = await _store_started(ctx, control, entry, record, deadline, own_cwd=wanted.cwd is not None)
    finally:
        # At shutdown somebody else may have taken it out, and closes it.
        if written is None and entry is not before and ctx.cache.get(control.key) is entry:
            ctx.cache.take_out(control.key)
            with shielded(limits.cleanup + 2 * limits.join):
                await ctx.close_handle(ctx.runtime(record.agent), entry.handle, "init-meta-failed", limits.cleanup)
    if written is None:
        return None
    return ("reused", None) if entry is before else (entry.origin, entry.lost)


async def _store_started(
    ctx: Context, control: Control, entry: CacheEntry, wanted: SessionRecord, deadline: float, *, own_cwd: bool
) -> SessionRecord | None:
    record = attrs.evolve(entry.record, state="idle", last_error=None, last_activity=ctx.wall_clock())
    if own_cwd:
        # A handle that was reused may be there because of an option.
        record = attrs.evolve(record, cwd=wanted.cwd if wanted.options.cwd else record.working_directory)
    record = attrs.evolve(record, options=wanted.options, requester=wanted.requester, label=wanted.label)

    def start(old: SessionRecord | None) -> SessionRecord:
        require_free(ctx, old)  # a session that was not stored yet may have been started elsewhere meanwhile
        return record

    unheld = control.key not in ctx.held
    ctx.held.add(control.key)  # now: an update that is interrupted may still be made
    try:
        written = await control.interruptibly(deadline, ctx.store.update, control.key, start)
    except Exception:
        if unheld:
            ctx.held.discard(control.key)
        raise
    if written is not GAVE_UP:
        ctx.unsaved.pop(control.key, None)
        entry.record = record
        entry.unstored = False
        return record
    if control.stopping:
        return None
    raise StoreError(f"storing the metadata of {control.key!r} took too long", detail="store-timeout")


async def probe_in_lane(ctx: Context, control: Control) -> SessionStatus | None:
    """Ask the runtime how a live session is, within `probe` seconds, and describe the session.

    Ids that the answer tells are stored, best effort.  If the control is to stop, the questions are given up.

    Raises:
        SessionMissing: there is no such session.
        StoreError: its metadata cannot be read in time.
    """
    entry = ctx.cache.get(control.key)
    answer: RuntimeStatus | None = None
    offered: Capabilities | None = None
    if entry is not None and not entry.suspect:
        limits = ctx.settings.limits
        deadline = trio.current_time() + limits.probe
        runtime = ctx.runtime(entry.record.agent)
        asking = ctx.calls.start("capabilities", runtime.capabilities, entry.handle, on_end=control.poke)
        call = await ask(ctx, control, entry, deadline)
        if not await control.wait_for(asking, deadline):
            await ctx.calls.stop(asking, reason="the status request took too long")
        entry.doubtful |= not (call.ok or control.stopping)
        answer, offered = call.value, asking.value
        if learn(ctx, entry, answer):
            deadline = trio.current_time() + limits.cleanup
            await control.interruptibly(deadline, store_identity, ctx, control, entry, deadline)
    status = await control.interruptibly(math.inf, describe, ctx, control.key, answer, offered)
    return None if status is GAVE_UP else status


async def describe(
    ctx: Context, key: str, answer: RuntimeStatus | None = None, offered: Capabilities | None = None
) -> SessionStatus:
    """Describe a session from what the manager and the store know.  If cancelled, nothing happened.

    Raises:
        SessionMissing: there is no such session.
        StoreError: its metadata cannot be read in time.
    """
    entry = ctx.cache.get(key)
    record = (
        entry.record if entry is not None else await read_by(ctx, key, trio.current_time() + ctx.settings.limits.probe)
    )
    if record is None:
        raise missing(key)
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
        capabilities=offered,
        identity=record.identity,
    )


async def _claim(ctx: Context, key: str, deadline: float) -> SessionRecord | None:
    with trio.move_on_at(deadline):
        return await claim_row(ctx, key)
    raise StoreError(f"claiming the metadata of {key!r} took too long", detail="store-timeout")
