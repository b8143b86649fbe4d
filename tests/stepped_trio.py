"""A Trio run that synchronous code drives step by step, for Hypothesis machines.

Rules are synchronous, the tasks they talk to must live from one rule to the
next.  So the run is a guest of this object: its callbacks are put into a
queue, and a rule works them off until its own step is done.  The clock is a
`MockClock` that stands still unless a rule moves it, and each step ends with
every task blocked: an invariant always sees the system at rest.
"""

from __future__ import annotations

import functools
import queue
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar, cast

import outcome
import trio
from hypothesis.stateful import RuleBasedStateMachine
from trio.testing import MockClock, wait_all_tasks_blocked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
P = ParamSpec("P")
M = TypeVar("M", bound="TrioMachine")

_PATIENCE = 30.0
"""Real seconds without a callback after which the run counts as hung."""


class SteppedTrio:
    """One Trio run, at rest between calls."""

    def __init__(self) -> None:
        self.clock = MockClock()
        self.nursery: trio.Nursery | None = None
        self._callbacks: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._result: outcome.Outcome[None] | None = None
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._callbacks.put,
            done_callback=self._note_result,
            clock=self.clock,
        )
        self._work_until(lambda: self.nursery is not None)

    async def _main(self) -> None:
        async with trio.open_nursery() as self.nursery:
            await trio.sleep_forever()

    def _note_result(self, result: outcome.Outcome[None]) -> None:
        self._result = result

    def _work_until(self, done: Callable[[], bool]) -> None:
        while not done():
            if self._result is not None:
                result, self._result = self._result, outcome.Value(None)
                result.unwrap()
                raise RuntimeError("the Trio run has ended")
            self._callbacks.get(timeout=_PATIENCE)()

    def call(self, async_fn: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run ``async_fn(*args)`` to its end, and everything else until it blocks."""
        results: list[outcome.Outcome[T]] = []

        async def step() -> None:
            result = await outcome.acapture(async_fn, *args)
            await wait_all_tasks_blocked()
            results.append(result)

        assert self.nursery is not None
        self.nursery.start_soon(step)
        self._work_until(lambda: bool(results))
        return results[0].unwrap()

    def call_sync(self, sync_fn: Callable[[], T]) -> T:
        """Call a synchronous function in the run, then run everything until it blocks."""

        async def step() -> T:
            await trio.lowlevel.checkpoint()
            return sync_fn()

        return self.call(step)

    def advance(self, seconds: float) -> None:
        """Let virtual time pass, stopping at each deadline on the way."""

        async def pass_time() -> None:
            target = trio.current_time() + seconds
            while trio.current_time() < target:
                await wait_all_tasks_blocked()
                until_next = trio.lowlevel.current_statistics().seconds_to_next_deadline
                self.clock.jump(max(0.0, min(until_next, target - trio.current_time())))
            await wait_all_tasks_blocked()

        self.call(pass_time)

    def close(self) -> None:
        """Cancel the run and let time flow until it has ended."""
        if self._result is None:
            assert self.nursery is not None
            self.clock.autojump_threshold = 0
            self.nursery.cancel_scope.cancel(reason="the machine is closed")
            while self._result is None:
                self._callbacks.get(timeout=_PATIENCE)()
        self._result.unwrap()


class TrioMachine(RuleBasedStateMachine):
    """A machine with a Trio run of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.trio = SteppedTrio()

    def teardown(self) -> None:
        self.trio.close()


def in_trio(async_rule: Callable[Concatenate[M, P], Awaitable[T]]) -> Callable[Concatenate[M, P], T]:
    """Make an ``async def`` a rule: one step of the machine's run."""

    @functools.wraps(async_rule)
    def rule(self: M, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.trio.call(functools.partial(async_rule, self, *args, **kwargs))

    return cast("Callable[Concatenate[M, P], T]", rule)
