"""Getting a usable backend handle for a session: reuse, replace, resume, open."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import trio

from ._cache import CacheEntry
from ._calls import as_acp_error
from ._claims import claim_row
from ._errors import AcpError, SessionInitFailed, TurnFailed
from ._identity import from_ensure, ids_of, merge, resume_id
from ._keys import missing
from ._refresh import is_well, listen
from ._requests import GAVE_UP
from .abc import EnsureRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._capacity import Slot
    from ._context import Context
    from ._records import Origin, SessionRecord
    from ._requests import Request
    from .abc import Handle, Runtime

_log = logging.getLogger(__name__)

SETUP_TIMED_OUT: Final = partial(TurnFailed, detail="setup-timeout")


async def known_record(
    ctx: Context,
    request: Request,
    deadline: float,
    *,
    late: Callable[[str], AcpError] = SETUP_TIMED_OUT,
    to_open: bool = False,
) -> SessionRecord | None:
    """Return the record of a live session, or read that of a stored one, and claim it if it is `to_open`.

    If cancelled, or at `deadline`, the law is that of `claim_row`.

    Returns:
        None if the request is to stop.

    Raises:
        SessionMissing: there is no such session.
        SessionInUse: it is `to_open`, and another manager has it open.
        StoreError: its metadata cannot be read.
        AcpError: what `late` makes of the words for it, if the clock showed `deadline` first.
    """
    entry = ctx.cache.get(request.key)
    if entry is not None:
        return entry.record

    row = await (
        request.interruptibly(deadline, claim_row, ctx, request.key)
        if to_open
        else request.interruptibly(deadline, ctx.read, request.key)
    )
    if request.stopping:
        return None
    if row is GAVE_UP:
        raise late(f"reading the metadata of {request.key!r} took too long")
    if row is None:
        raise missing(request.key)
    return row


async def ensure_runtime_handle(
    ctx: Context,
    request: Request,
    record: SessionRecord,
    deadline: float,
    *,
    cleanup: float,
    begin_anew: bool = True,
) -> CacheEntry | None:
    """Return the session's live entry, opening or resuming a backend session if need be.

    A handle that is suspect and has not become quiet meanwhile, whose
    connection is gone, or that is not well since something failed on it, is
    closed first.  The new entry's record has the new ids, and none that a
    failed resume proved stale; it is not stored yet.

    Args:
        deadline: When to give up, on Trio's clock.
        cleanup: Seconds for closing an old handle.
        begin_anew: Whether another conversation is opened if the stored one is lost.

    Returns:
        None if the request is to stop: nothing was opened, or it is being closed.

    Raises:
        TooManySessions: there is no room for another handle.
        BackendUnavailable: the runtime says that it is not healthy; it was asked for nothing.
        AcpError: what the runtime raised, or a `TurnFailed` with detail
            ``"setup-timeout"``.
    """
    runtime = ctx.runtime(record.agent)
    entry = ctx.cache.get(request.key)
    if entry is not None:
        if entry.suspect and runtime.is_quiet(entry.handle):
            entry.suspect = False
        usable = not entry.suspect and runtime.is_alive(entry.handle)
        if usable and (not entry.doubtful or await is_well(ctx, request, entry, deadline)):
            return entry
        if request.stopping:
            return None
        record = await _close_unusable(ctx, request, entry, runtime, min(cleanup, deadline - trio.current_time()))
    if request.stopping:
        return None
    ctx.backends.require(record.agent)
    resume = resume_id(record.identity) if record.mode == "persistent" else None
    slot = await ctx.evictor.slot_for(request, deadline)
    if slot is None:
        return None
    opened = await _open(ctx, request, runtime, record, resume, deadline, slot, begin_anew=begin_anew)
    if opened is None:
        return None
    handle, lost = opened
    origin: Origin = "replaced" if lost is not None else "new" if resume is None else "resumed"
    now = ctx.wall_clock()
    record = attrs.evolve(
        record,
        # The ids of a conversation that goes on are still good; all those of one that is lost are stale.
        identity=merge(record.identity if origin == "resumed" else None, from_ensure(handle, now), now),
        # An option stands in front of it: it comes back when that is unset.
        cwd=record.cwd if record.options.cwd else handle.cwd or record.cwd,
        owner=ctx.owner,
        processes=handle.processes,
    )
    entry = CacheEntry(handle=handle, record=record, origin=origin, lost=lost, heard=ids_of(handle), unstored=True)
    ctx.cache.put(request.key, entry)
    return entry


async def _close_unusable(
    ctx: Context, request: Request, entry: CacheEntry, runtime: Runtime, budget: float
) -> SessionRecord:
    ctx.cache.take_out(request.key)
    ctx.capacity.keep(request.key)
    reason = "suspect" if entry.suspect else "unhealthy" if runtime.is_alive(entry.handle) else "connection-lost"
    await ctx.close_handle(runtime, entry.handle, reason, max(0.0, budget), request)
    listen(ctx, entry)
    return entry.record


async def _open(
    ctx: Context,
    request: Request,
    runtime: Runtime,
    record: SessionRecord,
    resume: str | None,
    deadline: float,
    slot: Slot,
    *,
    begin_anew: bool,
) -> tuple[Handle, str | None] | None:
    """Open a handle for a slot, and tell why it is not what was to be resumed, if it is not.

    If it fails the slot is given back, as soon as nothing can be open any more.
    """

    def ended() -> None:
        request.poke()
        if call.abandoned:
            nothing_came()

    def nothing_came() -> None:
        if call.finished and call.value is None:
            ctx.capacity.release(slot)
            ctx.gone(request.key)

    def close_late(handle: Handle) -> None:
        ctx.capacity.opened(slot, handle)
        ctx.close_late(runtime, handle)

    lost: str | None = None
    while True:
        ctx.trace("setup", request, agent=record.agent, resume=resume)
        wanted = EnsureRequest(key=request.key, mode=record.mode, cwd=record.working_directory, resume=resume)
        call = ctx.calls.start("ensure_session", runtime.ensure_session, wanted, on_end=ended, discard=close_late)
        await request.wait_for(call, deadline)
        if request.stopping or not call.finished:
            await ctx.calls.stop(call, reason="nobody waits for this session any more")
            nothing_came()
            if request.stopping:
                return None
            raise TurnFailed(f"opening session {request.key!r} took too long", detail="setup-timeout")
        handle: Handle | None = call.value
        if call.ok and handle is not None:
            ctx.capacity.opened(slot, handle)
            return handle, lost
        nothing = RuntimeError("it returned no handle")
        error = as_acp_error(call.error or nothing, SessionInitFailed)
        if resume is None or error.detail != "resume-failed" or not begin_anew:
            ctx.capacity.release(slot)
            raise error
        # The agent does not know the conversation any more: the stored id is stale and is replaced by the new one.
        ctx.trace("resume_failed", request, resume=resume, error=str(error))
        _log.warning("session %s (%s) could not be resumed and begins anew: %s", request.key, resume, error)
        resume, lost = None, str(error)
