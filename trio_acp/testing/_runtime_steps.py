"""What the laws of a runtime are made of: what its author declares, and the steps that they take."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import trio

from .._events import Event, TextContent
from .._permissions import DenyAll
from ..abc import Done, EnsureRequest, Handle, TurnRequest
from ._contract import Contract, LawBroken, demand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..abc import Runtime

ONE_DONE = "`run_turn` ends with one `Done`, whose stop reason is ``cancelled`` if it was stopped, and else is not."
STOPPED = "`cancel` tells the backend once, and returns when it has stopped; `run_turn` then ends as ``cancelled``."

KEY = "agent:contract:acp:1"
OTHER_KEY = "agent:contract:acp:2"

_EVENTS = get_args(Event)


class RuntimeSteps(Contract):
    """What an adapter's author declares, and what the laws have in common; see `RuntimeContract`."""

    quick: str = "hello"
    slow: str = "work"
    faulty: tuple[str, ...] = ()
    resumes: bool = False

    def make_runtime(self) -> Runtime:
        """Return a new runtime, which nobody has entered.

        Raises:
            NotImplementedError: the subclass does not say how.
        """
        raise NotImplementedError(f"{type(self).__name__} must say how its runtime is made: make_runtime")

    def make_unreachable(self) -> Runtime | None:
        """Return a runtime whose backend cannot be reached; None if there is no such thing."""
        return None

    def stops_seen(self) -> int | None:
        """Return how many turns the backend was told to stop, in this test; None if it does not tell."""
        return None

    @asynccontextmanager
    async def _entered(self, runtime: Runtime | None = None) -> AsyncIterator[Runtime]:
        """Enter a runtime, and leave it in time, also if the block is cancelled."""
        runtime = runtime or self.make_runtime()
        left_at: float | None = None
        too_long = "leaving the runtime took {:.1f} s, not less than {:g} s"
        with trio.CancelScope() as scope:  # else one that never leaves would keep the test for ever
            try:
                async with runtime:
                    try:
                        yield runtime
                        left_at = trio.current_time()
                    finally:
                        scope.deadline = trio.current_time() + self.seconds
            finally:
                spent = 0.0 if left_at is None else trio.current_time() - left_at
                demand(spent < self.seconds, too_long.format(spent, self.seconds))
        demand(not scope.cancelled_caught, too_long.format(self.seconds, self.seconds))

    async def _open(
        self,
        runtime: Runtime,
        *,
        key: str = KEY,
        resume: str | None = None,
        expects: tuple[type[Exception], ...] = (),
    ) -> Handle:
        request = EnsureRequest(key=key, mode="persistent", cwd=str(Path.cwd()), resume=resume)
        handle = await self._step("ensure_session", runtime.ensure_session, request, expects=expects)
        demand(isinstance(handle, Handle), f"ensure_session returned {handle!r}, no Handle")
        return handle

    async def _close(self, runtime: Runtime, *handles: Handle) -> None:
        for handle in handles:
            await self._step("close", runtime.close, handle, "test")

    async def _whole_turn(self, runtime: Runtime, handle: Handle, sink: Sink | None = None) -> Sink:
        sink = sink or Sink()
        done = await self._step("run_turn", runtime.run_turn, request_for(handle, self.quick), sink)
        sink.closed = True
        demand(isinstance(done, Done), f"run_turn returned {done!r}, no Done", ONE_DONE)
        demand(done.stop_reason != "cancelled", f"the turn {self.quick!r} ended as if it had been stopped", ONE_DONE)
        return sink

    async def _slow_turn(self, nursery: trio.Nursery, runtime: Runtime, handle: Handle) -> RunningTurn:
        """Start the turn that works until it is stopped, and wait for its first event."""
        turn = RunningTurn(runtime, request_for(handle, self.slow))
        nursery.start_soon(turn.run)
        await self._step("the first event", turn.sink.spoke_or_closed.wait)
        if turn.ended.is_set():
            raise LawBroken(f"the turn {self.slow!r} {turn.end}, before anything stopped it")
        return turn

    async def _stop(self, runtime: Runtime, turn: RunningTurn) -> None:
        """Stop a turn with `Runtime.cancel`, and demand that it ends as it must."""
        seen = self.stops_seen()
        await self._step("cancel", runtime.cancel, turn.request.handle, "test")
        if seen is not None:
            demand(
                self.stops_seen() == seen + 1, "cancel returned, and the backend was not told to stop, once", STOPPED
            )
        await self._step("run_turn after cancel", turn.ended.wait, seconds=self.leaves)
        demand(turn.error is None, f"a stopped turn ends as 'cancelled': this one {turn.end}", STOPPED)
        demand(isinstance(turn.done, Done), f"run_turn returned {turn.done!r}, no Done", ONE_DONE)
        reason = turn.done and turn.done.stop_reason
        demand(reason == "cancelled", f"a stopped turn ends as 'cancelled', not {reason!r}", STOPPED)


class Sink:
    """Takes events, or refuses them."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.events: list[Event] = []
        self.spoke_or_closed = trio.Event()
        self.late = False
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the turn has ended; what comes now is late."""
        return self._closed

    @closed.setter
    def closed(self, closed: bool) -> None:
        self._closed = closed
        self.spoke_or_closed.set()

    def send(self, event: Event, size: int | None = None) -> bool:
        """Take one event.

        Raises:
            LawBroken: it is none.
        """
        demand(isinstance(event, _EVENTS), f"{event!r} was sent, which is no event")
        self.late |= self._closed
        self.events.append(event)
        self.spoke_or_closed.set()
        return self.takes and not self._closed


class RunningTurn:
    """A turn that runs in a task of its own, and how it ended."""

    def __init__(self, runtime: Runtime, request: TurnRequest) -> None:
        self.runtime = runtime
        self.request = request
        self.scope = trio.CancelScope()
        self.sink = Sink()
        self.ended = trio.Event()
        self.done: Done | None = None
        self.error: Exception | None = None

    async def run(self) -> None:
        """Run it to its end.  If cancelled, or by its `scope`, it was cut off."""
        try:
            with self.scope:
                self.done = await self.runtime.run_turn(self.request, self.sink)
        except LawBroken:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the adapter raises is what is examined
            self.error = error
        finally:
            self.ended.set()
            self.sink.closed = True

    @property
    def end(self) -> str:
        """How it ended, in words."""
        return f"raised {self.error!r}" if self.error is not None else f"returned {self.done!r}"


def request_for(handle: Handle, text: str) -> TurnRequest:
    """Return what a turn is asked for, with nothing but a text."""
    prompt = (TextContent(text=text),)
    return TurnRequest(handle=handle, prompt=prompt, request_id=uuid.uuid4().hex, permissions=DenyAll())
