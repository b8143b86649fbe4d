"""What the actors of one manager share: adapters, store, queue, cache, counters, trace."""

from __future__ import annotations

import logging
import math
import time
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import attrs
import trio

from ._backends import backend_name
from ._background import Bookkeeper
from ._cache import RuntimeCache
from ._calls import failure_of
from ._capacity import Capacity
from ._errors import TurnFailed
from ._gates import Gates
from ._keys import agent_id, agent_of
from ._ownership import are_due, changed, opened
from ._queue import SessionActorQueue
from ._recording import Recorder
from ._requests import GAVE_UP, Control
from ._serving import serving
from ._statistics import CapacityUse, Statistics, TurnCounters
from ._trace import TraceRecord

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ._audit import AuditEvent
    from ._backends import Backends
    from ._calls import Calls
    from ._errors import AcpError
    from ._evictor import Evictor
    from ._limits import Settings
    from ._records import Owner, SessionRecord
    from ._requests import Request
    from ._trace import TraceName
    from .abc import Handle, Instrument, Ledger, PermissionPolicy, Runtime, SessionStore

_log = logging.getLogger(__name__)


@attrs.define(eq=False, kw_only=True)
class Context:
    """Everything that belongs to one open manager.

    Attributes:
        unsaved: Changes of metadata that could not be written, by key, as
            attributes and their new values; the next write of that session,
            or the manager's exit, tries again.
        admit: Puts a request into its session's lane.
        book: Writes into the ledger; None if there is none.
        recorder: Writes the audit log and the transcript, as far as there are any.
        held: The keys whose stored rows name us as their owner, or may do so.
        wall_clock: Seconds since the epoch; only for stored time stamps.
    """

    backends: Backends
    store: SessionStore
    settings: Settings
    permissions: PermissionPolicy
    instrument: Instrument | None
    nursery: trio.Nursery
    calls: Calls
    admit: Callable[[Context, Request], None]
    owner: Owner
    held: set[str]
    ledger: Ledger | None = None
    recorder: Recorder = attrs.field(factory=Recorder)
    wall_clock: Callable[[], float] = time.time
    closing: bool = attrs.field(default=False, init=False)
    queue: SessionActorQueue[Request] = attrs.field(init=False)
    cache: RuntimeCache = attrs.field(factory=RuntimeCache, init=False)
    capacity: Capacity = attrs.field(init=False)
    evictor: Evictor = attrs.field(init=False)
    gates: Gates = attrs.field(factory=Gates, init=False)
    counters: TurnCounters = attrs.field(factory=TurnCounters, init=False)
    unsaved: dict[str, dict[str, Any]] = attrs.field(factory=dict, init=False)
    book: Bookkeeper | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.queue = SessionActorQueue(self.settings.max_queued)
        self.capacity = Capacity(self.settings.max_sessions)
        if self.ledger is not None:
            self.book = Bookkeeper(self.ledger, self.counters)

    def runtime(self, name: str) -> Runtime:
        """Return the runtime registered under `name`.

        Raises:
            BackendMissing: there is none.
        """
        return self.backends.get(name)

    def is_idle(self, key: str) -> bool:
        """Whether nothing of a session runs or waits, except for what gives way to whoever comes."""
        current = self.queue.current(key)
        gives_way = isinstance(current, Control) and current.gives_way and not self.queue.waiting(key)
        return gives_way or self.queue.is_idle(key)

    def is_closed(self, key: str) -> bool:
        """Whether no agent of ours can be at work on a session; at the exit there are agents until its very end."""
        return not self.closing and self.cache.get(key) is None and not self.capacity.is_used(key)

    def start_in_lane(self, key: str, run: Callable[[Control], Awaitable[Any]]) -> None:
        """Do something in the lane of a session, which is idle, that nobody asked for."""
        self.admit(self, Control(key, token_hex(16), run, internal=True))

    def trace(self, name: TraceName, request: Request, **data: Any) -> None:
        """Tell the instrument, if there is one, what happened."""
        if self.instrument is None:
            return
        record = TraceRecord(name=name, time=trio.current_time(), session=request.key, turn=request.id, data=data)
        try:
            self.instrument.record(record)
        except Exception:  # noqa: BLE001 - an instrument only listens
            with serving(request.key, request.id):
                _log.exception("the instrument failed on %s", name)

    def audit(self, event: AuditEvent) -> None:
        """Put a decision of a runtime on record, and tell the instrument."""
        self.recorder.audit(event, self.owner, self.instrument, self.wall_clock())

    # -- metadata -------------------------------------------------------------

    async def read(self, key: str) -> SessionRecord | None:
        """Read a session's record, with the changes to it that could not be written yet.

        If cancelled, nothing was read.
        """
        stored = await self.store.read(key)
        if stored is None:
            return None
        unsaved = self.unsaved.get(key, {})
        return self.with_agent(attrs.evolve(stored, **unsaved) if are_due(stored, self.owner, unsaved) else stored)

    def with_agent(self, stored: SessionRecord) -> SessionRecord:
        """Return a stored record with its agent as runtimes are named; without one, it has that of its key."""
        agent = backend_name(stored.agent) or agent_of(stored.key) or agent_id(self.settings.default_agent)
        return stored if agent == stored.agent else attrs.evolve(stored, agent=agent)

    async def save(
        self, request: Request, changes: dict[str, Any], until: float = math.inf, *, interruptible: bool = False
    ) -> None:
        """Write changes of a session's record, best effort, within `cleanup` seconds and not after `until`.

        If `interruptible`, only until the request is to stop.  A record that
        is no longer stored, or has become another manager's, stays so.  A
        failure, or its time passing, is logged, counted and remembered in
        `unsaved`; it never decides how a turn ends.  If cancelled, the changes are remembered.
        """
        key = request.key
        entry = self.cache.get(key)
        if entry is not None and entry.unstored:
            # Whatever is written first of an open session says also what to end after a crash.
            changes = {**opened(entry.record), **changes}
            entry.unstored = False
        # Remembered first: whatever interrupts the write, the changes are not lost.
        self.remember(key, changes)
        budget = 0.0
        try:
            if self._write_nowait(key):
                return
            now = trio.current_time()
            budget = min(self.settings.limits.cleanup, max(0.0, until - now))
            if interruptible:
                if await request.interruptibly(now + budget, self._write, key) is not GAVE_UP or request.stopping:
                    return
            else:
                with trio.move_on_at(now + budget):
                    await self._write(key)
                    return
        except Exception as error:  # noqa: BLE001 - whatever a store raises, it decides no turn's outcome
            problem = str(error) or repr(error)
        else:
            problem = f"no answer within {budget:g} s"
        self.counters.store_failures += 1
        _log.warning("could not store the state of %s: %s", key, problem)
        self.trace("store_failed", request, error=problem)

    def remember(self, key: str, changes: Mapping[str, Any]) -> None:
        """Have changes made by the session's next write, or at the exit; a row that they free is held no longer."""
        if changes.get("owner", self.owner) is None:
            self.held.discard(key)  # nobody has to free it again
        self.unsaved[key] = {**self.unsaved.get(key, {}), **changes}

    async def _write(self, key: str) -> None:
        changes = self.unsaved[key]
        self._wrote(key, changes, await self.store.update(key, partial(changed, us=self.owner, changes=changes)))

    def _write_nowait(self, key: str) -> bool:
        """Do what `_write` does, if the store has nothing to wait for; False if it has."""
        changes = self.unsaved[key]
        try:
            self._wrote(key, changes, self.store.update_nowait(key, partial(changed, us=self.owner, changes=changes)))
        except trio.WouldBlock:
            return False
        return True

    def _wrote(self, key: str, changes: Mapping[str, Any], stored: SessionRecord | None) -> None:
        if self.unsaved.get(key) is changes:
            del self.unsaved[key]
        entry = self.cache.get(key)
        if stored is not None and entry is not None:
            entry.record = stored if stored.agent == entry.record.agent else self.with_agent(stored)

    async def save_unsaved(self, deadline: float) -> None:
        """Try once more to write what could not be written.  If cancelled, or at `deadline`, the rest stays unsaved."""
        with trio.move_on_at(deadline):
            for key in list(self.unsaved):
                if key not in self.unsaved:
                    continue  # a write that was under way has done it meanwhile
                try:
                    await self._write(key)
                except Exception:  # noqa: BLE001 - whatever a store raises, the exit goes on
                    with serving(key):
                        _log.exception("the state of %s was not stored", key)

    # -- handles --------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def close_handle(
        self, runtime: Runtime, handle: Handle, reason: str, budget: float, request: Request | None = None
    ) -> bool:
        """Ask a runtime to close a handle, within `budget` seconds (plus `join`).

        Given a request, it gives up as soon as that is to stop.  The handle's
        slot is free once the call has ended, were it as a straggler.

        Returns:
            False if the call failed, or had to be cancelled, which is logged.
        """
        error = await self.try_close(runtime, handle, reason, budget, request)
        if error is not None:
            _log.warning("closing the session of %s (%s) failed: %s", handle.key, reason, error)
        return error is None

    async def try_close(
        self, runtime: Runtime, handle: Handle, reason: str, budget: float, request: Request | None = None
    ) -> AcpError | None:
        """Do what `close_handle` does, and return why it did not work: ``"close-timeout"``, or what was raised.

        If cancelled, the call goes on within its own task.
        """

        def ended() -> None:
            self.capacity.closed(handle)
            self.gone(handle.key)
            if request is not None:
                request.poke()

        self.capacity.closing(handle)
        call = self.calls.start("close", runtime.close, handle, reason, on_end=ended)
        deadline = trio.current_time() + budget
        if not await (call.wait(deadline) if request is None else request.wait_for(call, deadline)):
            if not await self.calls.stop(call, reason="close exceeded its budget"):
                self.capacity.straggles(handle)
            return TurnFailed(f"the backend did not close session {handle.key!r} in time", detail="close-timeout")
        return None if call.ok else failure_of(call)

    def gone(self, key: str) -> None:
        """A handle of a session is closed, or will never come: if that was the last one, the row is freed."""
        if key in self.held and self.is_closed(key) and self.queue.is_idle(key):
            self.start_in_lane(key, _nothing)  # after which the lane frees the row, as after anything else

    def close_late(self, runtime: Runtime, handle: Handle) -> None:
        """Close a handle that arrived after nobody wanted it any more."""
        self.capacity.closing(handle)
        self.nursery.start_soon(
            self.close_handle, runtime, handle, "late", self.settings.limits.cleanup, name="trio_acp close late"
        )

    def statistics(self) -> Statistics:
        """Return a copy of all counts."""
        c = self.counters
        return Statistics(
            submitted=c.submitted,
            queued=c.queued,
            active=c.active,
            completed=c.completed,
            failed=c.failed,
            timed_out=c.timed_out,
            stopped=c.stopped,
            depth=c.queued + c.active,
            latency_total=c.latency_total,
            latency_average=c.latency_total / c.measured if c.measured else 0.0,
            latency_max=c.latency_max,
            errors_by_code=dict(sorted(c.errors_by_code.items())),
            controls=c.controls,
            stragglers=self.calls.straggled,
            stragglers_now=self.calls.stragglers_now,
            suspects=self.cache.suspects(),
            store_failures=c.store_failures,
            ledger_failures=c.ledger_failures,
            audit_failures=self.recorder.audit_failures,
            transcript_failures=self.recorder.transcript_failures,
            open_handles=len(self.cache),
            idle_ttl=self.settings.idle_ttl,
            evicted=c.evicted,
            last_evicted=c.last_evicted,
            capacity=CapacityUse(self.capacity.taken, self.capacity.limit),
        )


async def _nothing(control: Control) -> None:
    """Do nothing: what was to be done is what follows every operation."""
