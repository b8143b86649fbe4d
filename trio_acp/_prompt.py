"""`Turn`, what a user holds of one prompt: a block to be inside of, and an iterator over events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from ._errors import AcpError
from ._service import shielded
from ._turn import settle
from ._turn_state import Phase, TurnState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from ._events import Event
    from ._outcomes import Outcome, Reply
    from ._session import Session
    from ._turn_state import Cause


class Turn:
    """One prompt: an async context manager, and an async iterator over its events.

    ::

        async with session.turn("Explain this") as turn:
            async for event in turn:
                ...
        print(turn.outcome)

    Entering admits the prompt to the session's queue; it waits for nothing.
    Iteration ends normally when the turn completed or was stopped, and raises
    `TurnTimedOut` or `TurnFailed` after the last event.  Leaving the block
    early stops the turn, within `cleanup` seconds (twice for a oneshot);
    leaving it normally raises the turn's failure if iterating did not.  The
    body's own exception always wins.  If cancelled, the same: the agent is
    told to stop, within the same bound, then `trio.Cancelled` goes on.
    """

    def __init__(self, session: Session, state: TurnState) -> None:
        self._session = session
        self._state = state
        self._raised = False
        self._entered = False

    def __repr__(self) -> str:
        return f"<Turn {self.request_id} of {self._session.key!r}: {self._state.phase.value}>"

    @property
    def request_id(self) -> str:
        """The turn's unique id."""
        return self._state.id

    @property
    def outcome(self) -> Outcome | None:
        """How the turn ended; None until it settled, and always set then."""
        return self._state.outcome

    @property
    def reply(self) -> Reply | None:
        """The settled turn as one value; None until it settled."""
        return None if self._state.outcome is None else self._state.reply()

    def cancel(self, reason: str = "cancelled by the user") -> bool:
        """Ask for this turn's end, at once and without waiting; False if it is over already."""
        return self._session._stop(self._state, "user", reason)

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Turn:
        """Admit the prompt.

        If cancelled, nothing happened.  Ctrl-C comes before the admission, or in the block.

        Raises:
            QueueFull: too many requests wait already.
            ManagerClosed: the manager is closing.
            RuntimeError: this task is inside an unfinished turn of the same
                session, which could never end, or the turn was entered before.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._entered:
            raise RuntimeError("a turn can be entered only once")
        task = trio.lowlevel.current_task()
        ctx, state = self._session._ctx, self._state
        for request in ctx.queue.requests(state.key):
            if isinstance(request, TurnState) and request.owner_task is task:
                raise RuntimeError(f"this task is inside an unfinished turn of session {state.key!r}")
        if ctx.instrument is not None:
            state.on_cause = lambda cause: ctx.trace("cause", state, **_told(cause))
            state.on_first_event = lambda: ctx.trace("first_event", state)
            if ctx.instrument.events:
                state.on_event = lambda event: ctx.trace("event", state, kind=type(event).__name__)
        try:
            self._session._admit(state)
        except AcpError:
            await trio.lowlevel.cancel_shielded_checkpoint()  # whoever tries again and again lets others run
            raise
        self._entered = True
        state.owner_task = task
        ctx.counters.admitted()
        ctx.trace("admitted", state)
        for cause in state.log:  # it was stopped before it was entered
            if state.on_cause is not None:  # else it has settled: who hears of one cause may add another
                state.on_cause(cause)
        # Only now, so that the actor begins in the same pass; a cancellation waits for the next checkpoint.
        await trio.lowlevel.cancel_shielded_checkpoint()
        return self

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """Return the next event.

        If cancelled, no event was taken.

        Raises:
            TurnTimedOut: see the class.
            TurnFailed: see the class.
            trio.BusyResourceError: another task is waiting for an event.
            RuntimeError: the turn was not entered.
        """
        if not self._entered:
            raise RuntimeError("a turn is entered first, with `async with`")
        event = self._state.take() or await self._state.next_event()
        if event is not None:
            return event
        self._raise_failure()
        raise StopAsyncIteration

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Stop the turn, unless it is over, and wait until it settled, as the class says; also if cancelled.

        Raises:
            TurnTimedOut: see the class.
            TurnFailed: see the class.
        """
        state = self._state
        if not state.settled.is_set():
            self._session._stop(state, "caller" if _is_cancellation(exc) else "left", None)
            await self._settled_within_bound()
        state.drop_events()
        state.owner_task = None
        if exc is None:
            self._raise_failure()

    async def _settled_within_bound(self) -> None:
        """Wait for the actor; it needs no longer than this (guarantee G1)."""
        ctx, state = self._session._ctx, self._state
        limits = state.limits
        # Twice: a clock that jumps, as on a laptop that slept, ends the first wait before the actor could run.
        for _ in range(2):
            if state.phase is Phase.SETTLED:
                return
            with shielded(2 * limits.cleanup + 2 * limits.join):
                await state.settled.wait()
        settle(ctx, state, state.decide("deadline"))  # does nothing, unless the actor was kept from running

    def _raise_failure(self) -> None:
        if self._state.failure is not None and not self._raised:
            self._raised = True
            raise self._state.failure


def _told(cause: Cause) -> dict[str, Any]:
    """Return what the trace says about a cause."""
    stop_reason = None if cause.done is None else cause.done.stop_reason
    error = None if cause.error is None else str(cause.error)
    said = {"cause": cause.kind, "reason": cause.reason, "stop_reason": stop_reason, "error": error}
    return {**said, "retryable": cause.retryable}


def _is_cancellation(exc: BaseException | None) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(trio.Cancelled)[1] is None
    return isinstance(exc, trio.Cancelled)
