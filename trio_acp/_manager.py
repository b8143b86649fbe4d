"""The session manager: everything a program needs to own agent sessions."""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import trio

from ._actor import admit
from ._calls import Calls
from ._context import Context
from ._errors import InvalidOption, ManagerClosed, StoreError
from ._evictor import Evictor
from ._keys import canonical_key
from ._limits import Settings
from ._operations import start_in_lane
from ._outcomes import Stopped
from ._owner import current_owner
from ._permissions import DenyAll
from ._reconcile import ReconcileReport, reconcile_stored
from ._records import SessionRecord
from ._requests import Control
from ._service import ServiceScope, shielded
from ._session import Session
from ._turn import settle
from ._turn_state import TurnState
from .stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from ._calls import Call
    from ._events import ContentBlock
    from ._outcomes import Reply
    from ._records import Mode
    from ._requests import Request
    from ._statistics import Statistics
    from .abc import Instrument, PermissionPolicy, Runtime, SessionStore


@asynccontextmanager
async def open_session_manager(
    runtimes: Mapping[str, Runtime],
    *,
    store: SessionStore | None = None,
    settings: Settings | None = None,
    permissions: PermissionPolicy | None = None,
    instrument: Instrument | None = None,
) -> AsyncIterator[SessionManager]:
    """Open a session manager for the block of an ``async with``.

    Entering connects to nothing and starts no agent; that happens when a
    session needs it.  Leaving, however it happens, admits nothing more, stops
    running and queued turns (`Stopped` by ``shutdown``), closes all sessions
    in parallel, and ends every task, socket and process it started.  This takes
    at most ``2 * cleanup`` seconds for all turns together, `cleanup` for all
    sessions (each plus ``2 * join``), then what each runtime needs to hang up
    (`AcpRuntime`: 5 seconds) and the store to finish a write; a task that
    resists cancellation is waited for and reported.  The body's exception
    leaves as it is.  If cancelled, leaving does the same, within the same
    bound, and then `trio.Cancelled` goes on.

    Args:
        runtimes: The adapters by the name under which sessions ask for them.
        store: Where session metadata is kept; default: in memory.
        settings: Deadlines and bounds.
        permissions: Who answers agents' requests for permission; default: `DenyAll`.
        instrument: Hears everything that happens to turns.
    """
    settings = settings or Settings()
    async with AsyncExitStack() as stack:
        entered_store = await stack.enter_async_context(store if store is not None else MemoryStore())
        entered = {name: await stack.enter_async_context(runtime) for name, runtime in runtimes.items()}
        nursery = await stack.enter_async_context(ServiceScope("actors"))
        ctx = Context(
            runtimes=entered,
            store=entered_store,
            settings=settings,
            permissions=permissions or DenyAll(),
            instrument=instrument,
            nursery=nursery,
            calls=Calls(nursery, settings.limits.join),
            owner=current_owner(uuid.uuid4().hex),
        )
        ctx.evictor = Evictor(ctx, admit)
        nursery.start_soon(ctx.evictor.run, name="trio_acp evictor")
        try:
            yield SessionManager(ctx)
        finally:
            await _shut_down(ctx)


class SessionManager:
    """Owns sessions; made by `open_session_manager`."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def __repr__(self) -> str:
        return f"<SessionManager: {self._ctx.cache!r} {self._ctx.queue!r}>"

    async def start_session(
        self,
        key: str,
        *,
        agent: str,
        cwd: str | None = None,
        mode: Mode = "persistent",
        fresh: bool = False,
    ) -> Session:
        """Open a session, or resume the stored one, and store its metadata.

        If the agent cannot resume what is stored, the conversation begins anew;
        `Session.origin` tells, and a warning is logged.

        If cancelled, what was opened here is closed again; metadata may have
        been stored.

        Args:
            key: The session's name; trimmed and lower-cased.
            agent: The name of a registered runtime.
            cwd: The agent's working directory, absolute.
            mode: ``persistent`` sessions live until closed; a ``oneshot`` is
                closed after each turn and never resumed.
            fresh: Discard what is stored under the key.

        Raises:
            SessionExists: the key is stored with another agent or mode.
            BackendMissing: there is no such runtime.
            BackendUnavailable: the agent cannot be reached.
            AuthenticationRequired: the agent wants to be authenticated first.
            SessionInitFailed: the agent refused.
            WireError: the connection was lost, or the agent's answer makes no sense.
            TooManySessions: `max_sessions` are open, and none of them is idle and clean.
            TurnFailed: with detail ``setup-timeout``: it took more than `setup` seconds.
            StoreError: metadata cannot be read or written; nothing stays open.
            ManagerClosed: the manager is closing.
            UsageError: there is nothing in the key, the directory is not
                absolute, or too many requests wait.
        """
        self._ctx.runtime(agent)
        record = SessionRecord(key=canonical_key(key), agent=agent, mode=mode, cwd=_absolute(cwd))
        session = Session(self._ctx, record.key)
        session.origin = await session._operate(lambda control: start_in_lane(self._ctx, control, record, fresh=fresh))
        return session

    def session(self, key: str) -> Session:
        """Return the address of a session; whether it exists shows when it is used."""
        return Session(self._ctx, canonical_key(key))

    async def ask(
        self,
        text: str,
        *,
        agent: str,
        cwd: str | None = None,
        attachments: Sequence[ContentBlock] = (),
        timeout: float | None = None,
    ) -> Reply:
        """Open a session of its own, run one turn on it, close it, return the reply.

        Nothing is stored.  The law of cancellation and the errors are those of
        `Session.prompt`; closing adds at most `cleanup` seconds.

        Raises:
            BackendMissing: there is no such runtime.
        """
        self._ctx.runtime(agent)
        key = f"agent:{canonical_key(agent)}:acp:oneshot:{uuid.uuid4().hex}"
        record = SessionRecord(key=key, agent=agent, mode="oneshot", cwd=_absolute(cwd))
        session = Session(self._ctx, key, record=record)
        return await session.prompt(text, attachments=attachments, timeout=timeout)

    def is_live(self, key: str) -> bool:
        """Whether a backend session is open under this key."""
        return self._ctx.cache.get(canonical_key(key)) is not None

    def statistics(self) -> Statistics:
        """Return a copy of all counts."""
        return self._ctx.statistics()

    async def stored_sessions(self) -> tuple[SessionRecord, ...]:
        """Return the metadata of all stored sessions, ordered by key.

        If cancelled, nothing happened.

        Raises:
            StoreError: it cannot be read within `probe` seconds.
        """
        with trio.move_on_after(self._ctx.settings.limits.probe):
            return await self._ctx.store.list()
        raise StoreError("listing the stored sessions took too long", detail="store-timeout")

    async def reconcile_identities(self, *, concurrency: int = 4) -> ReconcileReport:
        """Confirm the ids of stored sessions that were never confirmed; run it after the start, or never.

        Such sessions are resumed if they are not open, as far as there is
        room, and stay open until they are idle for too long.  A session that
        cannot be resumed is left as it is, for its next turn to decide.  If
        cancelled, the sessions that are being asked are given up, within
        `cleanup` seconds; the ids that were confirmed stay so.

        Args:
            concurrency: How many sessions are asked at once, each for at most
                `setup` seconds.

        Raises:
            InvalidOption: `concurrency` is no number of at least 1.
            ManagerClosed: the manager is closing.
        """
        if type(concurrency) is not int or concurrency < 1:
            raise InvalidOption("concurrency must be a whole number of at least 1", detail="invalid-concurrency")
        if self._ctx.closing:
            raise ManagerClosed("the session manager is closed")
        return await reconcile_stored(self._ctx, concurrency)


async def _shut_down(ctx: Context) -> None:
    """Stop everything, in parallel; bounded, whatever the adapters do."""
    ctx.closing = True
    limits = ctx.settings.limits
    running: list[Request] = []
    for key in ctx.queue.busy():
        for request in (*ctx.queue.waiting(key), ctx.queue.current(key)):
            waiting = request is not None and ctx.queue.withdraw(key, request)
            closed = ManagerClosed("the session manager was closed")
            match request:
                case TurnState() if waiting:
                    ctx.trace("withdrawn", request)
                    settle(ctx, request, Stopped(by="shutdown"))
                case TurnState():
                    request.stop("shutdown", trio.current_time())
                    running.append(request)
                case Control() if waiting:
                    request.settle(error=closed)
                case Control():
                    request.stop(closed)
                    running.append(request)
                case _:
                    pass
    with shielded(2 * limits.cleanup + 2 * limits.join):
        for request in running:
            await request.settled.wait()
    with shielded(limits.cleanup + 2 * limits.join):
        closing: list[Call[Any]] = [ctx.calls.start("save", ctx.save_unsaved, trio.current_time() + limits.cleanup)]
        for key in ctx.cache:
            entry = ctx.cache.take_out(key)
            assert entry is not None
            runtime = ctx.runtime(entry.record.agent)
            closing.append(
                ctx.calls.start("close", ctx.close_handle, runtime, entry.handle, "shutdown", limits.cleanup)
            )
        for call in closing:
            await call.wait(trio.current_time() + limits.cleanup + limits.join)


def _absolute(cwd: str | None) -> str | None:
    if cwd is not None and not PurePath(cwd).is_absolute():
        raise InvalidOption(f"cwd must be an absolute path, not {cwd!r}", detail="invalid-cwd")
    return cwd
