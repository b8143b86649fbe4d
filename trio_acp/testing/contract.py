"""What `trio_acp.abc.Runtime` demands, as tests for an adapter of your own: see `RuntimeContract`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from .._errors import AcpError, BackendUnavailable, SessionInitFailed, TurnTimedOut, UnsupportedControl
from .._limits import Limits, Settings
from .._manager import open_session_manager
from ..abc import EnsureRequest, RuntimeStatus
from ._contract import LawBroken, already_cancelled, demand, law, undeclared
from ._runtime_steps import KEY, OTHER_KEY, RuntimeSteps, Sink, request_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..abc import Runtime

_CHECKPOINTS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55)
"""After how many of them a call is cancelled, in one run after another."""


class RuntimeContract(RuntimeSteps):
    """The laws of `trio_acp.abc.Runtime`: a subclass in a test module is a test of each for your adapter.

    ::

        class TestMine(trio_acp.testing.RuntimeContract):
            def make_runtime(self):
                return MyRuntime()

    They need no plugin of the test runner.  Every method that tests is a Trio
    run of its own, and raises ``SkipTest`` if it is about what is not declared
    here, or an `AssertionError`, which cites the law.

    Attributes:
        quick: A prompt that the backend answers, with an event at least, and ends by itself.
        slow: A prompt to which it sends an event, and then works until it is stopped.
        faulty: Prompts on which it fails: breaks its protocol, hangs up, refuses.
        resumes: Whether a session that was closed can be opened again by its `session_id`.
        seconds: How long one step of the adapter may take.
        leaves: Seconds in which a call that was cancelled must have ended.
    """

    # -- opening --------------------------------------------------------------

    @law
    async def test_handles_are_objects_of_their_own(self) -> None:
        """Two handles are two, also for one key; closing one leaves the other."""
        async with self._entered() as runtime:
            first, second = await self._open(runtime), await self._open(runtime)
            demand(first is not second, "ensure_session returned one handle twice")
            demand(KEY == first.key == second.key, "a handle has another key than was asked for")
            status = await self._step("status", runtime.status, first)
            demand(status is None or isinstance(status, RuntimeStatus), f"status returned {status!r}, no RuntimeStatus")
            await self._close(runtime, first)
            demand(runtime.is_alive(second), "closing a handle ended another one")
            await self._whole_turn(runtime, second)
            await self._close(runtime, second)

    @law
    async def test_a_session_is_resumed_or_known_to_be_lost(self) -> None:
        """If it `resumes`, a session comes back by its id; an unknown id is a `SessionInitFailed`, or begins anew."""
        async with self._entered() as runtime:
            handle = await self._open(runtime)
            await self._whole_turn(runtime, handle)
            was = handle.session_id
            await self._close(runtime, handle)
            if self.resumes:
                again = await self._open(runtime, resume=was)
                demand(was == again.session_id, f"{was!r} was to be resumed, and {again.session_id!r} was")
                await self._whole_turn(runtime, again)
                await self._close(runtime, again)
            try:
                other = await self._open(runtime, resume="no-such-session", expects=(SessionInitFailed,))
            except SessionInitFailed as error:
                demand(error.detail == "resume-failed", "a lost session has the detail 'resume-failed'")
            else:
                await self._close(runtime, other)

    @law
    async def test_opening_that_is_cancelled_leaves_nothing(self) -> None:
        """`ensure_session` ends without delay wherever it is cancelled, and the runtime can be used on."""
        async with self._entered() as runtime:
            for checkpoints in _CHECKPOINTS:
                async with trio.open_nursery() as nursery:
                    opened, scope = trio.Event(), trio.CancelScope()
                    nursery.start_soon(self._open_and_close, runtime, scope, opened)
                    for _ in range(checkpoints):
                        await trio.lowlevel.checkpoint()
                    scope.cancel(reason="test")
                    name = f"ensure_session, cancelled after {checkpoints} checkpoints,"
                    await self._step(name, opened.wait, seconds=self.leaves)
            handle = await self._open(runtime)
            await self._whole_turn(runtime, handle)
            await self._close(runtime, handle)

    async def _open_and_close(self, runtime: Runtime, scope: trio.CancelScope, opened: trio.Event) -> None:
        handle = None
        try:
            with scope:
                handle = await self._open(runtime)
        finally:
            opened.set()
        if handle is not None:
            await self._close(runtime, handle)

    @law
    async def test_a_backend_that_is_away_is_unavailable(self) -> None:
        """Entering connects to nothing; `ensure_session` raises `BackendUnavailable` if the backend is not reached."""
        unreachable = self.make_unreachable()
        if unreachable is None:
            undeclared("make_unreachable")
        async with self._entered(unreachable) as runtime:
            demand(runtime.healthy() in {True, False}, "healthy says neither yes nor no")
            with suppress(BackendUnavailable):
                await self._open(runtime, expects=(BackendUnavailable,))
                raise LawBroken("ensure_session opened a session although the backend is away")

    # -- turns ----------------------------------------------------------------

    @law
    async def test_a_turn_sends_its_events_and_then_ends(self) -> None:
        """At least one event comes before the end, none after it, and the end is a `Done` that is no cancel."""
        async with self._entered() as runtime:
            handle = await self._open(runtime)
            sinks = [await self._whole_turn(runtime, handle) for _ in range(2)]
            demand(all(sink.events for sink in sinks), f"the turn {self.quick!r} sent no event")
            await self._close(runtime, handle)
        demand(not any(sink.late for sink in sinks), "an event came after the turn's end")

    @law
    async def test_a_sink_that_takes_nothing_more_ends_no_turn(self) -> None:
        """What the sink refuses is lost; the turn goes on to its end."""
        async with self._entered() as runtime:
            handle = await self._open(runtime)
            await self._whole_turn(runtime, handle, Sink(takes=False))
            await self._close(runtime, handle)

    @law
    async def test_sessions_do_not_wait_for_each_other(self) -> None:
        """While a turn runs, other sessions are opened, work, and are closed, and the turn goes on."""
        async with self._entered() as runtime, trio.open_nursery() as nursery:
            handle = await self._open(runtime)
            turn = await self._slow_turn(nursery, runtime, handle)
            other = await self._open(runtime, key=OTHER_KEY)
            await self._whole_turn(runtime, other)
            await self._close(runtime, other)
            demand(not turn.ended.is_set(), "what another session did ended a turn")
            await self._stop(runtime, turn)
            await self._close(runtime, handle)

    @law
    async def test_cancel_stops_the_turn_and_nothing_else(self) -> None:
        """When `cancel` returns the backend has stopped: `run_turn` ends as ``cancelled``; other turns go on."""
        async with self._entered() as runtime:
            mine, other = await self._open(runtime), await self._open(runtime, key=OTHER_KEY)
            async with trio.open_nursery() as nursery:
                stopped = await self._slow_turn(nursery, runtime, mine)
                running = await self._slow_turn(nursery, runtime, other)
                await self._stop(runtime, stopped)
                await self._whole_turn(runtime, mine)
                demand(not running.ended.is_set(), "cancel stopped the turn of another handle")
                await self._stop(runtime, running)
            await self._close(runtime, mine, other)
        demand(not (stopped.sink.late or running.sink.late), "an event came after the turn had been stopped")

    @law
    async def test_what_the_backend_does_wrong_is_a_typed_error(self) -> None:
        """A turn that goes wrong ends in time with an `AcpError` or a `Done`, and a new session can be opened."""
        if not self.faulty:
            undeclared("faulty")
        async with self._entered() as runtime:
            for text in self.faulty:
                handle = await self._open(runtime)
                with suppress(AcpError):
                    name, request = f"the turn {text!r}", request_for(handle, text)
                    await self._step(name, runtime.run_turn, request, Sink(), expects=(AcpError,))
                await self._close(runtime, handle)
                handle = await self._open(runtime)
                await self._whole_turn(runtime, handle)
                await self._close(runtime, handle)

    # -- Trio's cancellation --------------------------------------------------

    @law
    async def test_a_turn_that_is_cancelled_ends(self) -> None:
        """`trio.Cancelled` leaves `run_turn` without delay, is not swallowed, and no event comes later."""
        async with self._entered() as runtime:
            handle = await self._open(runtime)
            async with trio.open_nursery() as nursery:
                turn = await self._slow_turn(nursery, runtime, handle)
                turn.scope.cancel(reason="test")
                await self._step("run_turn after it was cancelled", turn.ended.wait, seconds=self.leaves)
            demand(turn.scope.cancelled_caught, f"run_turn swallowed trio.Cancelled: it {turn.end}")
            await self._close(runtime, handle)
        demand(not turn.sink.late, "an event came after run_turn had been cancelled")

    @law
    async def test_every_call_ends_if_it_is_cancelled_before_it_begins(self) -> None:
        """Each method called within a scope that is cancelled already returns or is cancelled, without delay."""
        async with self._entered() as runtime:
            handle = await self._open(runtime)
            request, sink = request_for(handle, self.slow), Sink()
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "status": lambda: runtime.status(handle),
                "capabilities": lambda: runtime.capabilities(handle),
                "run_turn": lambda: runtime.run_turn(request, sink),
                "ensure_session": lambda: runtime.ensure_session(EnsureRequest(key=KEY, mode="persistent")),
                "close": lambda: runtime.close(handle, "test"),
            }
            for name, call in calls.items():
                await self._step(f"{name} in a cancelled scope", already_cancelled, call, seconds=self.leaves)

    @law
    async def test_leaving_releases_what_was_not_closed(self) -> None:
        """A runtime that is left, also in a scope that is cancelled, leaves no task and no process of its handles."""
        for cancelled in (False, True):
            with trio.CancelScope() as scope:
                async with self._entered() as runtime:
                    for _ in range(2):
                        await self._whole_turn(runtime, await self._open(runtime))
                    async with trio.open_nursery() as nursery:
                        turn = await self._slow_turn(nursery, runtime, await self._open(runtime))
                        turn.scope.cancel(reason="test")
                    if cancelled:
                        scope.cancel(reason="test")

    # -- what it offers -------------------------------------------------------

    @law
    async def test_what_is_not_offered_is_refused(self) -> None:
        """A control that `capabilities` does not name raises `UnsupportedControl`."""
        async with self._entered() as runtime:
            handle = await self._open(runtime)
            offered = (await self._step("capabilities", runtime.capabilities, handle)).controls
            tries: dict[str, Callable[[], Awaitable[None]]] = {
                "session/set_mode": lambda: runtime.set_mode(handle, "no-such-mode"),
                "session/set_config_option": lambda: runtime.set_config_option(handle, "no-such-option", "x"),
            }
            for name, call in tries.items():
                if name not in offered:
                    with suppress(UnsupportedControl):
                        await self._step(name, call, expects=(UnsupportedControl,))
                        raise LawBroken(f"{name} is not offered, and was accepted")
            await self._close(runtime, handle)

    # -- in a manager ---------------------------------------------------------

    @law
    async def test_a_turn_that_exceeds_its_deadline_leaves_a_session_that_can_be_used(self) -> None:
        """The manager stops it within its bounds without leaving anything behind, and the next turn runs."""
        limits = Limits(grace=0.1, cleanup=self.seconds, setup=self.seconds, join=self.leaves)
        runtimes = {"contract": self.make_runtime()}
        async with open_session_manager(runtimes, settings=Settings(limits=limits)) as manager:
            session = await manager.start_session(KEY, agent="contract")
            seen = self.stops_seen()
            try:
                await session.prompt(self.slow, timeout=0.5)
            except TurnTimedOut as error:
                demand(error.cleanup == "finished", "the backend did not stop within `seconds`")
            else:
                raise LawBroken(f"the turn {self.slow!r} ended by itself")
            demand(seen is None or self.stops_seen() == seen + 1, "the backend was not told to stop, once")
            await session.prompt(self.quick, timeout=self.seconds)
            demand(manager.statistics().stragglers == 0, "a call did not end although it was cancelled")
