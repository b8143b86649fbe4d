"""The session manager: everything a program needs to own agent sessions."""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING, get_args

import trio

from ._actor import admit
from ._backends import Backends, require_kind
from ._calls import Calls
from ._claims import holding_rows
from ._context import Context
from ._errors import InvalidOption, ManagerClosed, StoreError
from ._evictor import Evictor
from ._keys import agent_id, canonical_key
from ._limits import Settings
from ._operations import start_in_lane
from ._options import check_changes
from ._owner import current_owner
from ._permissions import DenyAll
from ._reconcile import ReconcileReport, reconcile_stored
from ._recording import recording
from ._records import Mode, SessionRecord
from ._recovery import RecoveryReport
from ._recovery import recover as recover_store
from ._resolve import resolve
from ._service import ServiceScope
from ._session import Session
from ._shutdown import shut_down
from ._turn_state import TurnState
from ._typed_store import TypedStore
from .abc import AuditLog, Instrument, Ledger, PermissionPolicy, Runtime, SessionStore, Transcript
from .stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from ._events import ContentBlock
    from ._options import OptionChanges
    from ._outcomes import Reply
    from ._resolve import Resolution
    from ._statistics import Statistics


@asynccontextmanager
async def open_session_manager(
    runtimes: Mapping[str, Runtime],
    *,
    store: SessionStore | None = None,
    ledger: Ledger | None = None,
    audit: AuditLog | None = None,
    transcript: Transcript | None = None,
    settings: Settings | None = None,
    permissions: PermissionPolicy | None = None,
    instrument: Instrument | None = None,
    recover: bool = True,
) -> AsyncIterator[SessionManager]:
    """Open a session manager for the block of an ``async with``.

    Entering repairs what managers that died have left in the store, within
    `probe` seconds: see `RecoveryReport`.  It connects to nothing and starts no
    agent; that happens when a session needs it.  If cancelled, it is not entered.

    Leaving, however it happens, admits nothing more, stops running and queued
    turns (`Stopped` by ``shutdown``), closes all sessions in parallel, and ends
    every task, socket and process it started.  This takes at most
    ``2 * cleanup`` seconds for all turns together, `cleanup` for all sessions
    (each plus ``2 * join``), then what each runtime needs to hang up
    (`AcpRuntime`: 5 seconds), `cleanup` for giving the sessions back in the
    store, `cleanup` for audit and transcript together, and what all of these
    need to finish a write; a task that resists
    cancellation is waited for and reported.  The body's exception leaves as it
    is.  If cancelled, leaving does the same, within the same bound, and then
    `trio.Cancelled` goes on.

    Args:
        runtimes: The adapters by the name under which sessions ask for them,
            trimmed and lower-cased.  Their order is that in which they are
            chosen for sessions that ask for none.
        store: Where session metadata is kept; default: in memory.  Not entered yet: the manager enters and leaves it.
        ledger: Where each turn of a session with a requester is recorded, for
            that one to look at; default: nowhere.  Not entered yet, as `store`.
        audit: Where each answer to an agent's request for permission is kept;
            default: nowhere, but the instrument hears it.  Not entered yet, as `store`.
        transcript: Where prompts, the agents' words and outcomes are kept;
            default: nowhere.  Not entered yet, as `store`.
        settings: Deadlines and bounds.
        permissions: Who answers agents' requests for permission; default: `DenyAll`.
        instrument: Hears everything that happens to turns.
        recover: Whether to repair what dead managers left; who only reads the
            store need not.

    Raises:
        InvalidOption: an argument is of another kind.
        UsageError: a runtime's name is blank, or two are the same.
    """
    settings = settings or Settings()
    backends = Backends(runtimes)
    for name, given, kind in (
        ("store", store, SessionStore),
        ("ledger", ledger, Ledger),
        ("audit", audit, AuditLog),
        ("transcript", transcript, Transcript),
        ("settings", settings, Settings),
        ("permissions", permissions, PermissionPolicy),
        ("instrument", instrument, Instrument),
    ):
        if given is not None:
            require_kind(name, given, kind)
    async with AsyncExitStack() as stack:
        entered_store = await stack.enter_async_context(store if store is not None else MemoryStore())
        entered_ledger = None if ledger is None else await stack.enter_async_context(ledger)
        owner = current_owner(uuid.uuid4().hex)
        # Left after the runtimes: a row is ours as long as an agent of it may live.
        held = await stack.enter_async_context(holding_rows(entered_store, owner, settings.limits.cleanup))
        recovered = RecoveryReport()
        if recover:
            recovered = await recover_store(entered_store, entered_ledger, settings.limits)
        # Left after the runtimes too: agents are answered to the last.
        recorder = await stack.enter_async_context(recording(audit, transcript, patience=settings.limits.cleanup))
        backends = Backends({name: await stack.enter_async_context(backends.get(name)) for name in backends})
        nursery = await stack.enter_async_context(ServiceScope("actors"))
        ctx = Context(
            backends=backends,
            store=TypedStore(entered_store),
            ledger=entered_ledger,
            settings=settings,
            permissions=permissions or DenyAll(),
            instrument=instrument,
            nursery=nursery,
            calls=Calls(nursery, settings.limits.join),
            owner=owner,
            held=held,
            admit=admit,
            recorder=recorder,
        )
        for name in backends:
            backends.get(name).on_audit = ctx.audit
        ctx.evictor = Evictor(ctx)
        nursery.start_soon(ctx.evictor.run, name="trio_acp evictor")
        nursery.start_soon(ctx.gates.run, name="trio_acp gates")
        try:
            yield SessionManager(ctx, recovered)
        finally:
            await shut_down(ctx)


class SessionManager:
    """Owns sessions; made by `open_session_manager`.

    Attributes:
        recovered: What was found and repaired when it was opened.
    """

    def __init__(self, ctx: Context, recovered: RecoveryReport) -> None:
        self._ctx = ctx
        self.recovered = recovered

    def __repr__(self) -> str:
        return f"<SessionManager: {self._ctx.cache!r} {self._ctx.queue!r}>"

    async def start_session(
        self,
        key: str,
        *,
        agent: str | None = None,
        cwd: str | None = None,
        mode: Mode = "persistent",
        fresh: bool = False,
        options: OptionChanges | None = None,
        requester: str | None = None,
        label: str | None = None,
    ) -> Session:
        """Open a session, or resume the stored one, and store its metadata.

        ACP: ``session/new``, ``session/resume`` or ``session/load``.  If the agent
        cannot resume what is stored, the conversation begins anew; `Session.origin`
        tells, and a warning is logged.

        If cancelled, what was opened here is closed again; metadata may have
        been stored.

        Args:
            key: The session's name; trimmed and lower-cased.  ``main`` is the
                default agent's main session.
            agent: The name of a registered runtime.  None: that of the stored
                session, or the agent of the key if it is registered
                (``agent:<name>:…``), or else the first healthy one.
            cwd: The agent's working directory, absolute.
            mode: ``persistent`` sessions live until closed; a ``oneshot`` is
                closed after each turn and never resumed.
            fresh: Discard what is stored under the key.
            options: Changes of its options, stored with it and told to the
                agent before the first turn; see `Session.update_options`.
            requester: The key of the session on whose behalf this one works;
                its turns are then recorded in the manager's ledger.  None
                leaves what is stored.
            label: A name for people.  None leaves what is stored.

        Raises:
            SessionExists: the key is stored with another agent or mode.
            SessionInUse: another manager that is alive has the session open.
            BackendMissing: there is no such runtime.
            BackendUnavailable: the agent cannot be reached, or the runtime says that it is not healthy.
            InvalidOption: an option cannot have that value.
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
        ctx = self._ctx
        changes = check_changes(options or {})
        if mode not in get_args(Mode):
            raise InvalidOption(f"a session is persistent or oneshot, not {mode!r}", detail="invalid-mode")
        record = SessionRecord(
            key=canonical_key(key, ctx.settings),
            agent="" if agent is None else ctx.backends.require(agent),
            mode=mode,
            cwd=_absolute(cwd),
            requester=None if requester is None else canonical_key(requester, ctx.settings),
            label=(label or "").strip() or None,
        )
        session = Session(ctx, record.key)
        started = await session._operate(lambda control: start_in_lane(ctx, control, record, changes, fresh=fresh))
        session.origin, session.lost = started or (None, None)
        return session

    def session(self, key: str) -> Session:
        """Return the address of a session; whether it exists shows when it is used.

        Raises:
            UsageError: there is nothing in the key.
        """
        return Session(self._ctx, canonical_key(key, self._ctx.settings))

    async def ask(
        self,
        text: str,
        *,
        agent: str | None = None,
        cwd: str | None = None,
        attachments: Sequence[ContentBlock] = (),
        timeout: float | None = None,
    ) -> Reply:
        """Open a session of its own, run one turn on it, close it, return the reply.

        Nothing is stored.  The law of cancellation and the errors are those of
        `Session.prompt`: an agent that cannot be reached is a `TurnFailed` from
        `BackendUnavailable`.  Closing adds at most `cleanup` seconds.

        Args:
            agent: The name of a registered runtime; None: the first healthy one.

        Raises:
            BackendMissing: there is no such runtime.
            BackendUnavailable: it says that it is not healthy.
            InvalidOption: the directory is not absolute.
        """
        backends = self._ctx.backends
        name = backends.choose() if agent is None else backends.require(agent)
        key = f"agent:{agent_id(name)}:acp:oneshot:{uuid.uuid4().hex}"
        record = SessionRecord(key=key, agent=name, mode="oneshot", cwd=_absolute(cwd))
        session = Session(self._ctx, key, record=record)
        return await session.prompt(text, attachments=attachments, timeout=timeout)

    def is_live(self, key: str) -> bool:
        """Whether a backend session is open under this key; `UsageError` for an empty key."""
        return self._ctx.cache.get(canonical_key(key, self._ctx.settings)) is not None

    def is_busy(self, key: str) -> bool:
        """Whether a turn of this session waits or runs; `UsageError` for an empty key."""
        key = canonical_key(key, self._ctx.settings)
        return any(isinstance(request, TurnState) for request in self._ctx.queue.requests(key))

    async def resolve(self, key: str) -> Resolution:
        """Tell whether there is a session under a key: `Ready`, `Stale` or `Missing`.

        It changes nothing and asks no agent.  If cancelled, nothing happened.

        Raises:
            StoreError: the store cannot be read within `probe` seconds.
        """
        return await resolve(self._ctx, key)

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


def _absolute(cwd: object) -> str | None:
    if cwd is None or (isinstance(cwd, str) and PurePath(cwd).is_absolute()):
        return cwd
    raise InvalidOption(f"cwd must be an absolute path, not {cwd!r}", detail="invalid-cwd")
