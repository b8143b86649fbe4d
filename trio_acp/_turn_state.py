"""One turn's log, events and outcome: the synchronous half of `_turn.py`."""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs
import trio

from ._calls import failure_of
from ._errors import AcpError, TurnFailed, TurnTimedOut
from ._events import TextDelta, ToolCall, Usage
from ._outcomes import CleanupState, Completed, Failed, Outcome, Reply, Stopped, StoppedBy, TimedOut
from ._requests import Request
from ._retry import nothing_was_started, session_was_lost
from ._timeouts import effective_timeout
from ._tool_calls import ToolCalls

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._background import BackgroundTask
    from ._calls import Call
    from ._events import ContentBlock, Event
    from ._limits import Limits
    from ._recording import TurnRecord
    from ._records import SessionRecord
    from ._requests import Ending
    from .abc import Done, PromptMode

CauseKind: TypeAlias = StoppedBy | Literal["deadline", "response", "failure"]


@attrs.frozen(kw_only=True)
class Cause:
    """An entry of a turn's log: something that ends the turn, unless an earlier one did.

    Attributes:
        kind: ``response`` is the adapter's normal end, ``failure`` its error or
            ours; ``deadline`` is the turn's; the others are who asked.
        time: Trio's clock.
    """

    kind: CauseKind
    time: float
    reason: str | None = None
    done: Done | None = None
    error: AcpError | None = None

    @property
    def retryable(self) -> bool:
        """Whether it says that nothing was started."""
        return self.error is not None and (nothing_was_started(self.error) or session_was_lost(self.error))


class Phase(enum.StrEnum):
    """Where a turn is.  `TRANSITIONS` has every step but one: whatever fails, a turn can always be settled."""

    QUEUED = "queued"
    PREPARING = "preparing"
    RUNNING = "running"
    CLEANING = "cleaning"
    SETTLED = "settled"


TRANSITIONS: Final[dict[Phase, frozenset[Phase]]] = {
    Phase.QUEUED: frozenset({Phase.PREPARING, Phase.SETTLED}),
    Phase.PREPARING: frozenset({Phase.RUNNING, Phase.CLEANING}),
    Phase.RUNNING: frozenset({Phase.PREPARING, Phase.CLEANING}),  # back: the one retry
    Phase.CLEANING: frozenset({Phase.SETTLED}),
    Phase.SETTLED: frozenset(),
}


_SHELL: Final = 64
"""Characters that an event is taken for besides its text, if its adapter does not say how large it is."""


@attrs.define(eq=False, kw_only=True)
class TurnState(Request):
    """One turn: its log, its events, its outcome.  Also the `abc.EventSink` of its adapter.

    The turn's caller, its actor and its adapter share it; each method is one atomic step.
    """

    prompt: tuple[ContentBlock, ...]
    limits: Limits
    _max_buffered: int
    ephemeral_record: SessionRecord | None = None
    mode: PromptMode = "prompt"
    _collect_only: bool = False
    _own_timeout: bool = False
    phase: Phase = attrs.field(default=Phase.QUEUED, init=False)
    started: float | None = attrs.field(default=None, init=False)
    marked: bool = attrs.field(default=False, init=False)  # whether the stored state may say `running`
    background: BackgroundTask | None = attrs.field(default=None, init=False)
    record: TurnRecord | None = attrs.field(default=None, init=False)
    submitted: bool = attrs.field(default=False, init=False)
    saw_event: bool = attrs.field(default=False, init=False)
    log: list[Cause] = attrs.field(factory=list, init=False)
    outcome: Outcome | None = attrs.field(default=None, init=False)
    failure: AcpError | None = attrs.field(default=None, init=False)
    agent_stop_reason: str | None = attrs.field(default=None, init=False)
    owner_task: trio.lowlevel.Task | None = attrs.field(default=None, init=False)
    on_cause: Callable[[Cause], None] | None = attrs.field(default=None, init=False)
    on_first_event: Callable[[], None] | None = attrs.field(default=None, init=False)
    on_event: Callable[[Event], None] | None = attrs.field(default=None, init=False)
    _gate_open: bool = attrs.field(default=True, init=False)
    _events: deque[Event] = attrs.field(factory=deque, init=False)
    _sizes: deque[int] = attrs.field(factory=deque, init=False)
    _buffered: int = attrs.field(default=0, init=False)
    _consumer: trio.lowlevel.Task | None = attrs.field(default=None, init=False)
    _texts: list[str] = attrs.field(factory=list, init=False)
    _tool_calls: ToolCalls = attrs.field(factory=ToolCalls, init=False)
    _usage: Usage | None = attrs.field(default=None, init=False)

    def __repr__(self) -> str:
        return f"<TurnState {self.id} of {self.key!r}: {self.phase.value}>"

    # -- the machine ----------------------------------------------------------

    def enter(self, phase: Phase) -> None:
        """Go on to the next phase.

        Raises:
            RuntimeError: there is no such transition; nothing changed.
        """
        if phase not in TRANSITIONS[self.phase]:
            raise RuntimeError(f"a turn cannot go from {self.phase.value} to {phase.value}")
        self.phase = phase

    @property
    def stopping(self) -> bool:
        """Whether the outcome is decided, unless the one retry begins the log anew."""
        return bool(self.log)

    @property
    def gate(self) -> float:
        """When the turn has timed out: `grace` after its deadline; valid once it has started."""
        assert self.started is not None
        return self.started + self.limits.turn + self.limits.grace

    def adopt_timeout(self, seconds: float | None) -> None:
        """Take over the session's own timeout, if it has one and the turn was given none."""
        own = self.limits.turn if self._own_timeout else None
        turn = effective_timeout(of_turn=own, of_session=seconds, default=self.limits.turn)
        if turn != self.limits.turn:
            self.limits = attrs.evolve(self.limits, turn=turn)

    @trio.lowlevel.enable_ki_protection
    def note(self, cause: Cause) -> None:
        """Append to the log, and wake the actor or hand its lane on.  The first entry decides the outcome."""
        self.log.append(cause)
        if cause.kind in {"caller", "left", "deadline", "shutdown", "closed"}:
            self._gate_open = False
        if cause.done is not None:
            self.agent_stop_reason = cause.done.stop_reason
            self._usage = cause.done.usage or self._usage
        if self.on_cause is not None:
            self.on_cause(cause)
        self.poke()

    def stop(self, kind: CauseKind, now: float, reason: str | None = None) -> bool:
        """Ask for the turn's end; False if it is over already."""
        if self.settled.is_set():
            return False
        self.note(Cause(kind=kind, time=now, reason=reason))
        return True

    def check_gate(self, now: float) -> bool:
        """Note that the turn has timed out, if it has and nothing was noted before; whether it has."""
        if now < self.gate:
            return False
        if not self.log:
            self.stop("deadline", now, "turn-timeout")
        return True

    async def wait_for(self, call: Ending, deadline: float) -> bool:
        """Do what any request does, and note a time-out at once: what comes while `call` is stopped is later."""
        ended = await super().wait_for(call, deadline)
        if not ended:
            self.check_gate(trio.current_time())
        return ended

    def ended(self, call: Call[Done]) -> None:
        """Enter how the adapter's turn ended, unless it was us who cancelled it."""
        if self.settled.is_set():
            return  # a straggler's late end
        now = trio.current_time()
        if call.ok and call.value is not None:
            self.note(Cause(kind="response", time=now, done=call.value))
        elif call.ok:
            missing = TurnFailed("the adapter's turn returned without saying how it ended", detail="no-terminal-event")
            self.note(Cause(kind="failure", time=now, error=missing))
        elif call.error is not None or not self.log:
            self.note(Cause(kind="failure", time=now, error=failure_of(call)))

    def forget_log(self) -> None:
        """Start over for the one retry: the log holds nothing but the failed attempt's end."""
        self.log.clear()
        self.submitted = False

    # -- events ---------------------------------------------------------------

    def send(self, event: Event, size: int | None = None) -> bool:
        """Accept one event of the adapter: see `abc.EventSink`."""
        if not self._gate_open:
            return False
        if not self.saw_event:
            self.saw_event = True
            if self.on_first_event is not None:
                self.on_first_event()
        if self.on_event is not None:
            self.on_event(event)
        if self.background is not None:
            self.background.saw(event)
        if isinstance(event, TextDelta):
            self._texts.append(event.text)
            size = _SHELL + len(event.text) if size is None else size
        else:
            size = _SHELL + len(getattr(event, "text", "")) if size is None else size
            if isinstance(event, ToolCall):
                self._tool_calls.put(event)
            elif isinstance(event, Usage):
                self._usage = event
        if self.record is not None:
            self.record.saw(event, size)
        if self._collect_only:
            return True
        if self._buffered and self._buffered + size > self._max_buffered:
            self._gate_open = False
            slow = TurnFailed(
                f"more than {self._max_buffered} characters of events waited for the consumer",
                detail="consumer-too-slow",
            )
            self.note(Cause(kind="failure", time=trio.current_time(), error=slow))
            return False
        self._events.append(event)
        self._sizes.append(size)
        self._buffered += size
        if self._consumer is not None:
            self._tell_consumer()
        return True

    def take(self) -> Event | None:
        """Take the next event; None if there is none now."""
        if not self._events:
            return None
        self._buffered -= self._sizes.popleft()
        return self._events.popleft()

    @trio.lowlevel.enable_ki_protection  # else a task that does not wait any more might be woken
    async def next_event(self) -> Event | None:
        """Wait for the next event; None once the turn has settled and all were taken.

        If cancelled, no event was taken.

        Raises:
            trio.BusyResourceError: another task is waiting for one.
        """
        while (event := self.take()) is None:
            if self.settled.is_set():
                return None
            if self._consumer is not None:
                raise trio.BusyResourceError("another task is iterating over this turn")
            self._consumer = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._consumer_left)
        return event

    def _consumer_left(self, _: object) -> trio.lowlevel.Abort:
        self._consumer = None
        return trio.lowlevel.Abort.SUCCEEDED

    @trio.lowlevel.enable_ki_protection
    def _tell_consumer(self) -> None:
        if self._consumer is not None:
            trio.lowlevel.reschedule(self._consumer)
            self._consumer = None

    def drop_events(self) -> None:
        """Forget what was not read; nothing more is accepted."""
        self._gate_open = False
        self._events.clear()
        self._sizes.clear()
        self._buffered = 0

    @property
    def partial(self) -> str:
        """The text the agent has sent so far."""
        return "".join(self._texts)

    def reply(self) -> Reply:
        """Return the settled turn as one value."""
        assert self.outcome is not None
        return Reply(text=self.partial, outcome=self.outcome, usage=self._usage, tool_calls=self._tool_calls.all())

    # -- the end --------------------------------------------------------------

    def decide(self, cleanup: CleanupState) -> Outcome:
        """Return the outcome that the first entry of the log decides."""
        first = self.log[0]
        match first.kind:
            case "response":
                assert first.done is not None
                if first.done.stop_reason == "cancelled":
                    return Stopped(by="agent", agent_stop_reason="cancelled")
                return Completed(first.done.stop_reason)
            case "failure":
                assert first.error is not None
                return Failed(first.error)
            case "deadline":
                return TimedOut(limits=self.limits, cleanup=cleanup)
            case kind:
                return Stopped(by=kind, reason=first.reason, agent_stop_reason=self.agent_stop_reason)

    def settle(self, outcome: Outcome) -> bool:
        """Fix the outcome and let the caller go on; nothing is accepted after.  The first call counts."""
        if self.settled.is_set():
            return False
        self.phase = Phase.SETTLED
        self.outcome = outcome
        self._gate_open = False
        match outcome:
            case TimedOut(limits=limits, cleanup=cleanup):
                text = f"the turn timed out after {limits.turn:g} s"
                self.failure = TurnTimedOut(text, limits=limits, cleanup=cleanup, partial=self.partial)
            case Failed(error=error):
                self.failure = TurnFailed(str(error), detail=error.detail, partial=self.partial)
                self.failure.__cause__ = error.__cause__ if type(error) is TurnFailed else error
            case _:
                pass
        self.on_cause = self.on_first_event = self.on_event = None  # they refer to the turn
        self.settled.set()
        self._tell_consumer()
        return True
