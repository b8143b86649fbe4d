"""Options in a session's lane: changing them, and telling the backend before a turn.

What is stored is the truth, and a handle remembers the options that its
backend was told.  So one rule covers everything that can go wrong between the
two: **the intent is stored first, and what was told forgotten; then the
backend is told**.

* The store fails: nothing changed.
* The store does not answer in time, or the caller gives up meanwhile: the
  change is taken back by the next write, and is not seen until then.
* The backend refuses: the change is taken back.
* Nobody knows what the backend did (its deadline passed, its connection was
  lost, the caller gave up, the process died): the change stands, and the next
  turn tells the backend again before anything else.

What a backend cannot be told, to be elsewhere or to forget an option, needs
another backend session: the handle is closed and the next operation reopens.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import trio

from ._calls import failure_of
from ._claims import require_free
from ._ensure import ensure_runtime_handle, known_record
from ._errors import (
    AcpError,
    ConnectionLost,
    RequestFailed,
    SessionMissing,
    StoreError,
    TurnFailed,
    UnsupportedControl,
)
from ._options import ConfigPair, config_pairs, merge, must_reopen, normalise, signature
from ._ownership import are_due
from ._records import RuntimeOptions
from ._requests import GAVE_UP

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ._cache import CacheEntry
    from ._context import Context
    from ._records import SessionRecord
    from ._requests import Control, Request
    from .abc import Capabilities

T = TypeVar("T")


async def apply_controls(ctx: Context, request: Request, entry: CacheEntry, deadline: float) -> None:
    """Tell the backend the session's options, unless it knows them as they are, within `controls` seconds.

    If the request is to stop, it returns at once, and what was told is not known.

    Raises:
        UnsupportedControl: the backend does not have one of them.
        TurnFailed: with detail ``"controls-timeout"``: that time is over, or the clock showed `deadline`.
        AcpError: the runtime's own error.
    """
    stored = entry.record.options
    deadline = min(deadline, trio.current_time() + ctx.settings.limits.controls)
    options = normalise(stored)
    wanted = signature(options)
    knows = entry.applied is not None and signature(normalise(entry.applied)) == wanted
    entry.applied = None
    if not knows and wanted != signature(RuntimeOptions()):
        offered = await _capabilities(ctx, request, entry, deadline)
        if offered is None:
            return
        if options.mode is not None:
            _check_mode(offered)
            if not await _tell(ctx, request, entry, deadline, options.mode):
                return
        for pair in config_pairs(options, offered.config_keys):
            if not pair.required and "session/set_config_option" not in offered.controls:
                continue
            _check_pair(offered, pair)
            try:
                if not await _tell(ctx, request, entry, deadline, pair):
                    return
            except UnsupportedControl:
                if pair.required:
                    raise
    entry.applied = stored


async def set_in_lane(
    ctx: Context, control: Control, what: str | ConfigPair, changes: Mapping[str, Any]
) -> RuntimeOptions | None:
    """Open the session if need be, store the changed options and tell the backend this one: a mode or a pair.

    Raises:
        UnsupportedControl: the backend does not have it; nothing changed.
        TurnFailed: with detail ``"setup-timeout"`` or ``"controls-timeout"``.
        AcpError: what `ensure_runtime_handle`, the store or the runtime raised.
    """
    limits = ctx.settings.limits
    opened_by = trio.current_time() + limits.setup
    record = await _read(ctx, control, opened_by, to_open=True)
    if record is None:
        return None
    entry = await ensure_runtime_handle(ctx, control, record, opened_by, cleanup=limits.cleanup)
    if entry is None:
        return None
    deadline = trio.current_time() + limits.controls
    before = entry.record.options
    wanted = merge(before, changes)
    offered = await _capabilities(ctx, control, entry, deadline)
    if offered is None:
        return None
    if isinstance(what, ConfigPair):
        _check_pair(offered, what)
    else:
        _check_mode(offered)
    if await _store(ctx, control, entry.record, wanted, deadline) is None:
        return None
    try:
        return wanted if await _tell(ctx, control, entry, deadline, what) else None
    except AcpError as error:
        if isinstance(error, ConnectionLost) or error.detail == "controls-timeout":
            raise  # nobody knows what the backend did
        refused = error
    await _take_back(ctx, control, entry, before)
    raise refused


async def update_in_lane(ctx: Context, control: Control, changes: Mapping[str, Any]) -> RuntimeOptions | None:
    """Store changed options; close the handle if the backend session cannot follow.

    Raises:
        InvalidOption: there would be too many extras.
        SessionMissing: there is no such session.
        StoreError: its metadata cannot be read or written.
    """
    deadline = trio.current_time() + ctx.settings.limits.controls
    record = await _read(ctx, control, deadline)
    if record is None:
        return None
    wanted = merge(record.options, changes)
    reason = "options-changed" if must_reopen(normalise(record.options), wanted) else None
    return await _replace(ctx, control, record, wanted, deadline, reason)


async def reset_in_lane(ctx: Context, control: Control) -> RuntimeOptions | None:
    """Store that there are no options, and close the handle, if there is one.

    Raises:
        SessionMissing: there is no such session.
        StoreError: its metadata cannot be read or written.
    """
    deadline = trio.current_time() + ctx.settings.limits.controls
    record = await _read(ctx, control, deadline)
    if record is None:
        return None
    return await _replace(ctx, control, record, RuntimeOptions(), deadline, "reset-runtime-options")


# -- the store ----------------------------------------------------------------


async def _read(ctx: Context, control: Control, deadline: float, *, to_open: bool = False) -> SessionRecord | None:
    late = partial(StoreError, detail="store-timeout")
    return await known_record(ctx, control, deadline, late=late, to_open=to_open)


async def _store(
    ctx: Context, control: Control, record: SessionRecord, options: RuntimeOptions, deadline: float
) -> SessionRecord | None:
    """Write other options, and what opening the session brought; None if the control is to stop."""
    key = control.key
    entry = ctx.cache.get(key)
    if entry is not None:
        entry.applied = None
    pending = ctx.unsaved.get(key, {})
    changes = {"options": options, "last_activity": ctx.wall_clock()}
    if entry is not None:
        # Without one the row may have been another's since it was read.
        changes |= {"identity": record.identity, "cwd": record.cwd, "processes": record.processes}

    def change(old: SessionRecord | None) -> SessionRecord | None:
        require_free(ctx, old)
        if old is None:
            return None
        return attrs.evolve(old, **{**(pending if are_due(old, ctx.owner, pending) else {}), **changes})

    stored = await control.interruptibly(deadline, ctx.store.update, key, change)
    if stored is GAVE_UP:
        ctx.remember(key, {"options": record.options})  # it may still be written: taken back by the next
        if control.stopping:
            return None
        raise StoreError(f"storing the options of {key!r} took too long", detail="store-timeout")
    if stored is None:
        raise SessionMissing(f"the metadata of {key!r} was deleted meanwhile")
    ctx.unsaved.pop(key, None)
    if entry is not None:
        entry.record = ctx.with_agent(stored)
        entry.unstored = False
    return stored


async def _replace(
    ctx: Context,
    control: Control,
    record: SessionRecord,
    options: RuntimeOptions,
    deadline: float,
    reason_to_close: str | None,
) -> RuntimeOptions | None:
    if await _store(ctx, control, record, options, deadline) is None:
        return None
    if reason_to_close is not None and (entry := ctx.cache.take_out(control.key)) is not None:
        runtime = ctx.runtime(entry.record.agent)
        await ctx.close_handle(runtime, entry.handle, reason_to_close, ctx.settings.limits.cleanup)
    return options


async def _take_back(ctx: Context, control: Control, entry: CacheEntry, before: RuntimeOptions) -> None:
    """Store the old options again; if that fails, the next write does it."""
    entry.record = attrs.evolve(entry.record, options=before)
    await ctx.save(control, {"options": before})


# -- the backend --------------------------------------------------------------


def _check_mode(offered: Capabilities) -> None:
    if "session/set_mode" not in offered.controls:
        raise UnsupportedControl("the agent has no modes that could be set")


def _check_pair(offered: Capabilities, pair: ConfigPair) -> None:
    if "session/set_config_option" not in offered.controls:
        raise UnsupportedControl(f"the agent has no configuration options, so {pair.key!r} cannot be set")
    if offered.config_keys and pair.key not in offered.config_keys:
        known = ", ".join(offered.config_keys)
        raise UnsupportedControl(f"the agent has no configuration option {pair.key!r} (it has: {known})")


async def _capabilities(ctx: Context, request: Request, entry: CacheEntry, deadline: float) -> Capabilities | None:
    runtime = ctx.runtime(entry.record.agent)
    found = await _call(ctx, request, entry, deadline, "capabilities", runtime.capabilities, entry.handle)
    return None if found is None else found[0]


async def _tell(
    ctx: Context, request: Request, entry: CacheEntry, deadline: float, what: str | ConfigPair
) -> tuple[None] | None:
    if request.stopping:  # since the moment in which the call before was answered
        return None
    runtime = ctx.runtime(entry.record.agent)
    if isinstance(what, str):
        return await _call(ctx, request, entry, deadline, "set_mode", runtime.set_mode, entry.handle, what)
    name, call = "set_config_option", runtime.set_config_option
    return await _call(ctx, request, entry, deadline, name, call, entry.handle, what.key, what.value)


async def _call(
    ctx: Context,
    request: Request,
    entry: CacheEntry,
    deadline: float,
    name: str,
    async_fn: Callable[..., Awaitable[T]],
    *args: object,
) -> tuple[T] | None:
    """Call the runtime in a task of its own; None if the request was to stop before the call ended.

    A call that does not end although it was cancelled makes the handle suspect.
    """
    call = ctx.calls.start(name, async_fn, *args, on_end=request.poke)
    if not await request.wait_for(call, deadline):
        if not await ctx.calls.stop(call, reason=f"nobody waits for {name} any more"):
            entry.suspect = True
        if request.stopping:
            return None
        entry.doubtful = True
        raise TurnFailed(f"{name} of session {request.key!r} took too long", detail="controls-timeout")
    if not call.ok:
        # A refusal is an answer; anything else may mean that nobody is there any more.
        entry.doubtful |= not isinstance(call.error, UnsupportedControl | RequestFailed)
        raise failure_of(call)
    result: Any = call.value
    return (result,)
