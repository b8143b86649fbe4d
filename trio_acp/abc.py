"""What you may implement: runtimes, transports, stores, ledgers, permission policies, instruments.

Everything the session manager knows about an agent goes through `Runtime`;
everything `AcpRuntime` knows about a network goes through `Transport`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Literal, Protocol, TypeAlias

import attrs
import trio

from ._audit import AuditDecision, AuditEvent, AuditRecord
from ._errors import UnsupportedControl
from ._events import ContentBlock, Event, ToolCall, Usage
from ._records import Identity, Mode, Owner, ProcessGroup, RuntimeOptions, SessionRecord, SessionState
from ._tasks import TaskOutcome, TaskRecord, TaskStatus
from ._trace import TraceRecord
from ._transcript import EntryKind, TranscriptEntry

__all__ = [
    "AuditDecision",
    "AuditEvent",
    "AuditLog",
    "AuditRecord",
    "Capabilities",
    "ControlName",
    "Decision",
    "Dial",
    "Done",
    "EnsureRequest",
    "EntryKind",
    "EventSink",
    "Handle",
    "Identity",
    "Instrument",
    "Ledger",
    "Mode",
    "Mutate",
    "Owner",
    "PermissionOption",
    "PermissionPolicy",
    "PermissionRequest",
    "ProcessGroup",
    "PromptMode",
    "Runtime",
    "RuntimeOptions",
    "RuntimeStatus",
    "SessionRecord",
    "SessionState",
    "SessionStore",
    "TaskOutcome",
    "TaskRecord",
    "TaskStatus",
    "TraceRecord",
    "Transcript",
    "TranscriptEntry",
    "Transport",
    "TurnRequest",
    "Verdict",
]

# -- transports ---------------------------------------------------------------


class Transport(ABC):
    """A stream of whole messages, each one JSON text.

    One task may send while another receives; two of a kind at once raise
    `trio.BusyResourceError`.  `receive` loses nothing when it is cancelled.
    A cancelled `send` may have sent a part: the transport is then broken, and
    every later call raises `ConnectionLost`.

    Attributes:
        processes: Groups of local processes that were started for it and end with it.
    """

    processes: tuple[ProcessGroup, ...] = ()

    @abstractmethod
    async def send(self, message: str) -> None:
        """Send one message.

        Raises:
            ConnectionLost: the connection has ended, or an earlier send was cancelled.
        """

    @abstractmethod
    async def receive(self) -> str | bytes:
        """Wait for the next message; bytes if the peer sent a binary one.

        If cancelled, no message was taken.

        Raises:
            ConnectionLost: the connection has ended; the message says how.
            MessageTooLarge: a message exceeded the limit; the connection is gone.
        """

    async def send_many(self, messages: Sequence[str]) -> None:
        """Send messages, in this order; a transport that can joins them in one write.

        If cancelled, it is as for `send`.

        Raises:
            ConnectionLost: as for `send`; a part of them may have been sent.
        """
        for message in messages:
            await self.send(message)

    async def receive_many(self) -> Sequence[str | bytes]:
        """Wait for the next message and take with it what has come already: at least one, in order.

        A transport bounds how much that is, so that whoever handles them without
        waiting keeps nobody else waiting for long.  If cancelled, none was taken.

        Raises:
            ConnectionLost: as for `receive`, once everything before was taken.
            MessageTooLarge: as for `receive`.
        """
        return (await self.receive(),)

    @abstractmethod
    async def aclose(self) -> None:
        """Close, gracefully within the transport's own deadline and else by force.

        If cancelled, it closes by force and raises `trio.Cancelled`.  Idempotent.
        """


Dial: TypeAlias = Callable[[], AbstractAsyncContextManager[Transport]]
"""Opens one connection: ``async with dial() as transport``."""

# -- runtimes -----------------------------------------------------------------


@attrs.define(eq=False, kw_only=True)
class Handle:
    """An open backend session, as a runtime's `ensure_session` returned it.

    Compared by identity: two handles are the same only if they are one object.
    Runtimes subclass it to keep what they need.  An id that the backend tells
    only later, in its first turn for instance, is assigned when it is known:
    the manager looks after each turn, and stores it.

    Attributes:
        key: The session key it was opened for.
        session_id: The ACP session id, if the backend has one.
        agent_session_id: The agent's own id, if it told one.
        record_id: The adapter's id of what it keeps about the session, if it has one.
        cwd: The working directory in force, if known.
        processes: Local processes that serve it and must not outlive it.
    """

    key: str = attrs.field(on_setattr=attrs.setters.frozen)
    session_id: str | None = None
    agent_session_id: str | None = None
    record_id: str | None = None
    cwd: str | None = attrs.field(default=None, on_setattr=attrs.setters.frozen)
    processes: tuple[ProcessGroup, ...] = attrs.field(default=(), on_setattr=attrs.setters.frozen)


@attrs.frozen(kw_only=True)
class EnsureRequest:
    """What `Runtime.ensure_session` is asked for.

    Attributes:
        key: The session's key.
        mode: Whether the session is to be resumed one day; a ``oneshot`` is not.
        cwd: The agent's working directory; None lets the runtime choose.
        resume: The backend session to continue; None opens a new one.
    """

    key: str
    mode: Mode
    cwd: str | None = None
    resume: str | None = None


class EventSink(Protocol):
    """Where a runtime puts the events of one turn."""

    def send(self, event: Event, size: int | None = None) -> bool:
        """Hand over one event; never blocks.

        Args:
            size: Its characters on the wire, for the limit on what may wait; estimated if None.

        Returns:
            False if the turn takes nothing more: it is over, or its consumer is too slow.
        """


PromptMode: TypeAlias = Literal["prompt", "steer"]
"""What a prompt is for; ``steer`` corrects the work of the turn before."""


@attrs.frozen(kw_only=True)
class TurnRequest:
    """What `Runtime.run_turn` is asked for.

    Attributes:
        handle: Where.
        prompt: The user's message: its text, then its attachments.
        request_id: Unique for each turn.
        permissions: Who answers the agent's requests for permission.
        mode: What the prompt is for.
    """

    handle: Handle
    prompt: tuple[ContentBlock, ...]
    request_id: str
    permissions: PermissionPolicy
    mode: PromptMode = "prompt"


@attrs.frozen(kw_only=True)
class Done:
    """A turn's normal end.

    Attributes:
        stop_reason: The backend's word; ``cancelled`` means it was stopped.  ACP: ``StopReason``.
        usage: What it used, if the backend tells it only now.
    """

    stop_reason: str = "end_turn"
    usage: Usage | None = None


@attrs.frozen(kw_only=True)
class RuntimeStatus:
    """What a runtime knows about a handle.

    The session is lost, and its handle replaced, if `details` has a ``status``
    of ``dead`` or ``no-session``, or else the summary says so: ``status=dead``.

    Attributes:
        summary: One line for people.
        session_id: The ACP session id, if known.
        agent_session_id: The agent's own id, if known.
        record_id: The adapter's id of what it keeps about the session, if it has one.
        details: Anything else, as JSON values.  An id that is not given above may be here, by its name.
    """

    summary: str
    session_id: str | None = None
    agent_session_id: str | None = None
    record_id: str | None = None
    details: dict[str, Any] = attrs.field(factory=dict)


ControlName: TypeAlias = Literal["session/set_mode", "session/set_config_option"]
"""What a backend session may offer.  ACP: the methods ``session/set_mode`` and ``session/set_config_option``."""


@attrs.frozen(kw_only=True)
class Capabilities:
    """What a backend session can be told.

    Attributes:
        controls: Which of `Runtime.set_mode` and `Runtime.set_config_option` it has.
        config_keys: The configuration options it has; empty if it does not say.
    """

    controls: frozenset[ControlName] = frozenset()
    config_keys: tuple[str, ...] = ()


class Runtime(ABC):
    """Opens backend sessions and runs turns on them.

    The manager enters it as an async context manager, once, and calls each
    method in a task of its own under a deadline.  Every method must honour
    Trio's cancellation: end without waiting for anything further.  One that
    does not is left behind, counted and named in a warning.  For one handle
    the manager never runs two turns at once; different handles run together.

    Attributes:
        tells_ids: Whether `status` may tell ids that the handle does not have.
            It is then asked after the first turn on a handle, and after each
            one until the session has an id.
        on_audit: Told at once of each answer that the agent got when it asked
            for permission, and of each time it was turned away.  The manager
            sets it when it enters the runtime; it returns at once and raises nothing.
    """

    tells_ids: bool = True
    on_audit: Callable[[AuditEvent], None] | None = None

    async def __aenter__(self) -> Runtime:
        """Get ready; connect to nothing yet.  If cancelled, it is not entered, and nothing is left."""
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Release everything, also if cancelled, within a bound of its own."""

    def healthy(self) -> bool:
        """Whether it can open sessions now, as far as it knows without waiting; raising counts as no.

        An unhealthy runtime is asked for nothing new, so one that cannot be
        sure says yes and lets `ensure_session` find out.
        """
        return True

    @abstractmethod
    async def ensure_session(self, request: EnsureRequest) -> Handle:
        """Open a backend session, or resume the one asked for.

        If cancelled, what was opened meanwhile must be closed.

        Raises:
            BackendUnavailable: the agent cannot be reached.
            SessionInitFailed: the agent refused; with `detail` ``"resume-failed"``
                if it is certain that what was to be resumed is lost: the
                conversation then begins anew, and the stored ids are given up.
            AuthenticationRequired: the agent wants to be authenticated.
        """

    @abstractmethod
    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        """Run one turn to its end, sending its events into `events`.

        If cancelled, the backend may still be working: the manager asks for
        its end with `cancel`, before it cancels this.

        Raises:
            UnsupportedContent: the backend does not take an attachment; nothing was submitted.
            AcpError: with `retryable` if it is certain that nothing was
                started; with `detail` ``"resume-required"`` if nothing was
                started because the backend session is lost.  In either case
                the turn is run once more, on another handle; in the second
                one, of a session that begins anew.
        """

    @abstractmethod
    async def cancel(self, handle: Handle, reason: str) -> None:
        """Stop the running turn; return when the backend *has stopped* it.

        Called at most once for a turn, while `run_turn` is alive.  If cancelled,
        the turn may still be running: the handle is not reused as it is.
        """

    @abstractmethod
    async def close(self, handle: Handle, reason: str) -> None:
        """Release the handle.  It is not used again, whatever happens here.

        If cancelled, what it holds is released when the runtime is left.
        """

    async def status(self, handle: Handle) -> RuntimeStatus | None:
        """Ask how the handle is; None if the runtime cannot tell.  If cancelled, nothing happened.

        Called between turns: for `Session.status`, for ids (see `tells_ids`),
        and before a handle is used on which something failed.
        """
        return None

    async def capabilities(self, handle: Handle) -> Capabilities:
        """Tell what `set_mode` and `set_config_option` accept on this handle.  If cancelled, nothing happened."""
        return Capabilities()

    async def set_mode(self, handle: Handle, mode_id: str) -> None:
        """Have the backend session go into a mode.  If cancelled, it may have.

        Called between turns only, as is `set_config_option`.

        Raises:
            UnsupportedControl: it has no modes.
        """
        raise UnsupportedControl("this runtime cannot set modes")

    async def set_config_option(self, handle: Handle, key: str, value: str) -> None:
        """Set a configuration option of the backend session.  If cancelled, it may have happened.

        Raises:
            UnsupportedControl: it has no such option.
        """
        raise UnsupportedControl("this runtime cannot set configuration options")

    def is_alive(self, handle: Handle) -> bool:
        """Whether the handle can be used at all; False once its connection is gone."""
        return True

    def can_resume(self, handle: Handle) -> bool:
        """Whether `ensure_session` can come back to this session after it was closed.

        One that cannot be resumed is not closed for being idle: its conversation would be lost.
        """
        return True

    def is_quiet(self, handle: Handle) -> bool:
        """Whether nothing of an earlier turn, or of a control, is unanswered on the handle.

        Asked only about handles on which one of these could not be stopped in time.
        """
        return False


# -- stores -------------------------------------------------------------------

Mutate: TypeAlias = Callable[[SessionRecord | None], SessionRecord | None]
"""From the stored record to the new one; None deletes.  Pure: it may run twice, and in a thread.

What it raises comes out of `SessionStore.update` as it is, and nothing has changed.
"""


class SessionStore(ABC):
    """Keeps a `SessionRecord` for each session.

    An async context manager that the session manager enters and leaves.
    """

    async def __aenter__(self) -> SessionStore:
        """Get ready; touch nothing yet.  If cancelled, nothing is left."""
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Release everything, also if cancelled, within a bound of its own."""

    @abstractmethod
    async def read(self, key: str) -> SessionRecord | None:
        """Return the record under a canonical key, or None.  If cancelled, nothing happened.

        Raises:
            StoreError: it cannot be read.
        """

    @abstractmethod
    async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
        """Replace a record by ``mutate(record)`` in one atomic step; return what is stored then.

        If cancelled, it happened or not, as a whole; one that works in a thread
        may still do it, but before any later update.

        Raises:
            StoreError: it cannot be read or written; nothing changed.
        """

    def update_nowait(self, key: str, mutate: Mutate) -> SessionRecord | None:
        """Do what `update` does, at once; for a store that has nothing to wait for.

        Raises:
            trio.WouldBlock: it would have to wait, as any store that does not implement this; nothing changed.
            StoreError: it cannot be read or written; nothing changed.
        """
        raise trio.WouldBlock

    @abstractmethod
    async def list(self) -> tuple[SessionRecord, ...]:
        """Return every record, ordered by key.  If cancelled, nothing happened.

        Raises:
            StoreError: they cannot be read.
        """


# -- ledgers ------------------------------------------------------------------


class Ledger(ABC):
    """Keeps a `TaskRecord` for each turn of a session that works on another session's behalf.

    An async context manager that the session manager enters and leaves.  No
    turn depends on it: what it raises is logged and counted, and whoever calls
    it gives up after some seconds.  A terminal record that could not be put is
    put again later.
    """

    async def __aenter__(self) -> Ledger:
        """Get ready; touch nothing yet.  If cancelled, nothing is left."""
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Release everything, also if cancelled, within a bound of its own."""

    @abstractmethod
    async def put(self, task: TaskRecord) -> None:
        """Keep a task, in place of what is kept under its `run_id`; but a task that has ended stays as it is.

        So putting a terminal record is idempotent, and a late word about
        progress harms nothing.  If cancelled, it happened or not, as a whole;
        one that works in a thread may still do it, but before any later put.

        Raises:
            StoreError: it cannot be written; nothing changed.
        """

    @abstractmethod
    async def list(self, *, open_only: bool = False) -> tuple[TaskRecord, ...]:
        """Return every task that is kept, or those that have not ended; oldest first.

        If cancelled, nothing happened.

        Raises:
            StoreError: they cannot be read.
        """


# -- permissions --------------------------------------------------------------

Decision: TypeAlias = Literal["allow", "deny", "cancel"]
"""What a policy decides; ``cancel`` answers the agent that nobody decided."""


@attrs.frozen(kw_only=True)
class PermissionOption:
    """One answer the agent offers to its request for permission.  ACP: ``PermissionOptionKind``.

    Attributes:
        id: What the agent is answered.
        name: The agent's words for it.
        kind: ``allow_once``, ``allow_always``, ``reject_once`` or ``reject_always``; or a newer one.
    """

    id: str
    name: str
    kind: str


@attrs.frozen(kw_only=True)
class PermissionRequest:
    """The agent asks before it uses a tool.  ACP: ``session/request_permission``.

    Attributes:
        session: The session's key.
        tool_call: What it wants to do, as far as it told.  Untrusted.
        options: The answers it offers.
        cwd: The session's working directory, if known.
    """

    session: str
    tool_call: ToolCall
    options: tuple[PermissionOption, ...]
    cwd: str | None = None


@attrs.frozen(kw_only=True)
class Verdict:
    """A decision, and what made it.

    Attributes:
        decision: What the agent is answered.
        rule: A few words for people: which rule, or who.
        always: Whether the agent is to remember it and not to ask again, if it offers that.
    """

    decision: Decision
    rule: str
    always: bool = False


class PermissionPolicy(ABC):
    """Decides what an agent may do."""

    @abstractmethod
    async def decide(self, request: PermissionRequest) -> Decision | Verdict:
        """Allow, deny, or cancel the request, and say by which rule if there are several.

        Runs in a task of its own, which is cancelled when the turn is asked to
        stop.  An exception denies, and so does what is no decision.  The option is then chosen by its kind; if
        none fits, the request is cancelled.  If cancelled, the agent has been
        answered already, and what it decides is not looked at.
        """


# -- instruments --------------------------------------------------------------


class Instrument(ABC):
    """Hears everything that happens to the turns of a manager.

    Attributes:
        events: Whether it also hears each event of a turn, without its content,
            as a record named ``event``; asked when a turn is admitted.
    """

    events: bool = False

    @abstractmethod
    def record(self, record: TraceRecord) -> None:
        """Take one record.  Must not block; an exception is logged and changes nothing."""

    def audit(self, record: AuditRecord) -> None:
        """Take the record of a decision about what an agent may do, also outside of a turn.

        The manager's audit log, if it has one, gets the same record.  Must not
        block; an exception is logged and changes nothing.
        """


# -- records ------------------------------------------------------------------


class AuditLog(ABC):
    """Keeps for good what agents were answered.

    An async context manager that the session manager enters and leaves.  Only
    one task calls `append`.  What it raises is logged and counted, the records
    are put again later, and whoever calls it gives up after some seconds.
    """

    async def __aenter__(self) -> AuditLog:
        """Get ready; touch nothing yet.  If cancelled, nothing is left."""
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Release everything, also if cancelled, within a bound of its own."""

    @abstractmethod
    async def append(self, records: Sequence[AuditRecord]) -> None:
        """Keep records, all or none, behind those that are kept; one whose `id` is kept stays as it is.

        If cancelled, it happened or not, as a whole; one that works in a
        thread may still do it, but before any later append.

        Raises:
            StoreError: they cannot be written; nothing changed.
        """

    @abstractmethod
    async def list(self, *, session: str | None = None) -> tuple[AuditRecord, ...]:
        """Return every record, or those of one session, in the order in which they were appended.

        If cancelled, nothing happened.

        Raises:
            StoreError: they cannot be read.
        """


class Transcript(ABC):
    """Keeps what users typed and agents streamed, up to some size.

    An async context manager that the session manager enters and leaves.  What
    `AuditLog` says of failures holds here too.
    """

    async def __aenter__(self) -> Transcript:
        """Get ready; touch nothing yet.  If cancelled, nothing is left."""
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Release everything, also if cancelled, within a bound of its own."""

    @abstractmethod
    async def append(self, entries: Sequence[TranscriptEntry]) -> None:
        """Keep entries, all or none; one whose turn and `seq` are kept stays as it is.

        Turns are dropped whole, oldest first, to make room; what comes later
        of a turn that was dropped is not kept.  If cancelled, it happened or
        not, as a whole; one that works in a thread may still do it, but before
        any later append.

        Raises:
            StoreError: they cannot be written; nothing changed.
        """

    @abstractmethod
    async def list(self, session: str) -> tuple[TranscriptEntry, ...]:
        """Return what is kept of a session: turn by turn, in the order in which they began.

        If cancelled, nothing happened.

        Raises:
            StoreError: it cannot be read.
        """

    @abstractmethod
    async def forget(self, session: str) -> int:
        """Delete what is kept of a session; return how many turns that were.

        If cancelled, it happened or not, as a whole.

        Raises:
            StoreError: it cannot be deleted; nothing changed.
        """
