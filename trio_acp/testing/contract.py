"""What `trio_acp.abc.Runtime` demands, as tests for an adapter of your own: see `RuntimeContract`."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio

from .._errors import AcpError, SessionInitFailed, TurnTimedOut, UnsupportedControl
from .._events import TextContent
from .._limits import Limits, Settings
from .._manager import open_session_manager
from .._permissions import DenyAll
from ..abc import Done, EnsureRequest, Runtime, TurnRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from .._events import Event
    from ..abc import Handle

T = TypeVar("T")

_KEY = "agent:contract:acp:1"


class RuntimeContract:
    """The laws of `trio_acp.abc.Runtime`: a subclass in a test module is a test of each for your adapter.

    ::

        class TestMine(trio_acp.testing.RuntimeContract):
            def make_runtime(self):
                return MyRuntime()

    They need no plugin of the test runner: every test is a Trio run of its own,
    in real time, and whatever is broken fails within `seconds` per step, with
    the law in the message.

    Attributes:
        quick: A prompt that the backend answers, with an event at least, and ends by itself.
        slow: A prompt to which it sends an event, and then works until it is stopped.
        resumes: Whether a session that was closed can be opened again by its `session_id`.
        seconds: How long one step of the adapter may take.
        leaves: Seconds in which a call that was cancelled must have ended.
    """

    quick: str = "hello"
    slow: str = "work"
    resumes: bool = False
    seconds: float = 5.0
    leaves: float = 1.0

    def make_runtime(self) -> Runtime:
        """Return a new runtime, which nobody has entered.

        Raises:
            NotImplementedError: the subclass does not say how.
        """
        raise NotImplementedError(f"{type(self).__name__} must say how its runtime is made: make_runtime")

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[None]:
        """Have whatever the runtime connects to, such as a server, for the time of one test; here nothing.

        If cancelled, it is gone all the same.
        """
        yield

    # -- opening --------------------------------------------------------------

    def test_handles_are_objects_of_their_own(self) -> None:
        """Two handles are two, also for one key; closing one leaves the other."""

        async def law(runtime: Runtime) -> None:
            first, second = await self._open(runtime), await self._open(runtime)
            assert first is not second, "ensure_session returned one handle twice"
            assert _KEY == first.key == second.key, "a handle has another key than was asked for"
            await self._bounded("close", runtime.close, first, "test")
            assert runtime.is_alive(second), "closing a handle ended another one"
            await self._whole_turn(runtime, second)
            await self._bounded("close", runtime.close, second, "test")

        self._check(law)

    def test_a_session_is_resumed_or_known_to_be_lost(self) -> None:
        """If it `resumes`, a session comes back by its id; an unknown id is a `SessionInitFailed`, or begins anew."""

        async def law(runtime: Runtime) -> None:
            handle = await self._open(runtime)
            await self._whole_turn(runtime, handle)
            was = handle.session_id
            await self._bounded("close", runtime.close, handle, "test")
            if self.resumes:
                again = await self._open(runtime, resume=was)
                assert was == again.session_id, f"{was!r} was to be resumed, and {again.session_id!r} was"
                await self._whole_turn(runtime, again)
                await self._bounded("close", runtime.close, again, "test")
            try:
                other = await self._open(runtime, resume="no-such-session")
            except SessionInitFailed as error:
                assert error.detail == "resume-failed", "a lost session has the detail 'resume-failed'"  # noqa: PT017 - any runner may run it
            else:
                await self._bounded("close", runtime.close, other, "test")

        self._check(law)

    # -- turns ----------------------------------------------------------------

    def test_a_turn_sends_its_events_and_then_ends(self) -> None:
        """At least one event comes before the end, none after it, and the end is a `Done` that is no cancel."""

        async def law(runtime: Runtime) -> None:
            handle = await self._open(runtime)
            sinks = [await self._whole_turn(runtime, handle) for _ in range(2)]
            assert all(sink.events for sink in sinks), f"the turn {self.quick!r} sent no event"
            await self._bounded("close", runtime.close, handle, "test")
            assert not any(sink.late for sink in sinks), "an event came after the turn's end"

        self._check(law)

    def test_a_sink_that_takes_nothing_more_ends_no_turn(self) -> None:
        """What the sink refuses is lost; the turn goes on to its end."""

        async def law(runtime: Runtime) -> None:
            handle = await self._open(runtime)
            await self._whole_turn(runtime, handle, _Sink(takes=False))
            await self._bounded("close", runtime.close, handle, "test")

        self._check(law)

    def test_cancel_stops_the_turn_and_nothing_else(self) -> None:
        """When `cancel` returns the backend has stopped: `run_turn` ends as ``cancelled``; other handles work on."""

        async def law(runtime: Runtime) -> None:
            mine, other = await self._open(runtime), await self._open(runtime, key="agent:contract:acp:2")
            async with trio.open_nursery() as nursery:
                stopped, running = self._start(nursery, runtime, mine), self._start(nursery, runtime, other)
                await self._bounded("the first event", stopped.sink.spoke.wait)
                await self._bounded("the first event", running.sink.spoke.wait)
                await self._bounded("cancel", runtime.cancel, mine, "test")
                await self._bounded("run_turn after cancel", stopped.ended.wait)
                done = stopped.done
                assert done is not None, "a turn that was stopped by cancel returns a Done"
                assert done.stop_reason == "cancelled", f"a stopped turn ends as 'cancelled', not {done.stop_reason!r}"
                await self._whole_turn(runtime, mine)
                assert not running.ended.is_set(), "cancel stopped the turn of another handle"
                await self._bounded("cancel", runtime.cancel, other, "test")
                await self._bounded("run_turn after cancel", running.ended.wait)
            for handle in (mine, other):
                await self._bounded("close", runtime.close, handle, "test")

        self._check(law)

    # -- Trio's cancellation --------------------------------------------------

    def test_a_turn_that_is_cancelled_ends(self) -> None:
        """Trio's `Cancelled` leaves `run_turn` without delay, and is not swallowed."""

        async def law(runtime: Runtime) -> None:
            handle = await self._open(runtime)
            async with trio.open_nursery() as nursery:
                turn = self._start(nursery, runtime, handle)
                await self._bounded("the first event", turn.sink.spoke.wait)
                turn.scope.cancel(reason="test")
                await self._bounded("run_turn after it was cancelled", turn.ended.wait, seconds=self.leaves)
                assert turn.scope.cancelled_caught, "run_turn swallowed trio.Cancelled"
            await self._bounded("close", runtime.close, handle, "test")

        self._check(law)

    def test_every_call_ends_if_it_is_cancelled_before_it_begins(self) -> None:
        """Each method called within a scope that is cancelled already returns or is cancelled, without delay."""

        async def law(runtime: Runtime) -> None:
            handle = await self._open(runtime)
            request, sink = _request(handle, self.slow), _Sink()
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "status": lambda: runtime.status(handle),
                "capabilities": lambda: runtime.capabilities(handle),
                "run_turn": lambda: runtime.run_turn(request, sink),
                "ensure_session": lambda: runtime.ensure_session(EnsureRequest(key=_KEY, mode="persistent")),
                "close": lambda: runtime.close(handle, "test"),
            }
            for name, call in calls.items():
                await self._bounded(f"{name} in a cancelled scope", _cancelled, call, seconds=self.leaves)

        self._check(law)

    # -- what it offers -------------------------------------------------------

    def test_what_is_not_offered_is_refused(self) -> None:
        """A control that `capabilities` does not name raises `UnsupportedControl`."""

        async def law(runtime: Runtime) -> None:
            handle = await self._open(runtime)
            offered = (await self._bounded("capabilities", runtime.capabilities, handle)).controls
            tries: dict[str, Callable[[], Awaitable[None]]] = {
                "session/set_mode": lambda: runtime.set_mode(handle, "no-such-mode"),
                "session/set_config_option": lambda: runtime.set_config_option(handle, "no-such-option", "x"),
            }
            for name, call in tries.items():
                if name not in offered:
                    try:
                        await self._bounded(name, call)
                    except UnsupportedControl:
                        continue
                    raise AssertionError(f"{name} is not offered, and was accepted")
            await self._bounded("close", runtime.close, handle, "test")

        self._check(law)

    # -- in a manager ---------------------------------------------------------

    def test_a_turn_that_exceeds_its_deadline_leaves_a_session_that_can_be_used(self) -> None:
        """The manager stops it within its bounds without leaving anything behind, and the next turn runs.

        Raises:
            InvalidOption: `seconds` or `leaves` is no number of seconds above 0.
        """
        limits = Limits(grace=0.1, cleanup=self.seconds, setup=self.seconds, join=self.leaves)

        async def law() -> None:
            runtimes = {"contract": self.make_runtime()}
            async with open_session_manager(runtimes, settings=Settings(limits=limits)) as manager:
                session = await manager.start_session(_KEY, agent="contract")
                try:
                    await session.prompt(self.slow, timeout=0.5)
                except TurnTimedOut as error:
                    assert error.cleanup == "finished", "the backend did not stop within `seconds`"  # noqa: PT017 - any runner may run it
                else:
                    raise AssertionError(f"the turn {self.slow!r} ended by itself")
                await session.prompt(self.quick, timeout=self.seconds)
                assert manager.statistics().stragglers == 0, "a call did not end although it was cancelled"

        self._run(law)

    # -- helpers --------------------------------------------------------------

    def _check(self, law: Callable[[Runtime], Awaitable[None]]) -> None:
        async def within() -> None:
            async with self.make_runtime() as runtime:
                await law(runtime)

        self._run(within)

    def _run(self, law: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            async with self.backend():
                before = trio.lowlevel.current_statistics().tasks_living
                await law()
                left = trio.lowlevel.current_statistics().tasks_living - before
                assert left == 0, f"{left} tasks are left after the runtime was left"

        trio.run(run)

    async def _bounded(
        self, what: str, async_fn: Callable[..., Awaitable[T]], *args: object, seconds: float | None = None
    ) -> T:
        patience = self.seconds if seconds is None else seconds
        deadline = trio.current_time() + patience
        with trio.move_on_at(deadline):
            value = await async_fn(*args)
            if trio.current_time() <= deadline:  # what resists cancellation may come back all the same
                return value
        raise AssertionError(f"{what} did not end within {patience:g} s")

    async def _open(self, runtime: Runtime, *, key: str = _KEY, resume: str | None = None) -> Handle:
        request = EnsureRequest(key=key, mode="persistent", cwd=str(Path.cwd()), resume=resume)
        return await self._bounded("ensure_session", runtime.ensure_session, request)

    async def _whole_turn(self, runtime: Runtime, handle: Handle, sink: _Sink | None = None) -> _Sink:
        sink = sink or _Sink()
        done = await self._bounded("run_turn", runtime.run_turn, _request(handle, self.quick), sink)
        sink.closed = True
        assert isinstance(done, Done), f"run_turn returned {done!r}, not a Done"
        assert done.stop_reason != "cancelled", f"the turn {self.quick!r} ended as if it had been stopped"
        return sink

    def _start(self, nursery: trio.Nursery, runtime: Runtime, handle: Handle) -> _Turn:
        turn = _Turn()

        async def run() -> None:
            try:
                with turn.scope:
                    turn.done = await runtime.run_turn(_request(handle, self.slow), turn.sink)
            finally:
                turn.sink.closed = True
                turn.ended.set()

        nursery.start_soon(run)
        return turn


class _Sink:
    """Takes events, or refuses them."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.events: list[Event] = []
        self.spoke = trio.Event()
        self.closed = False
        self.late = False

    def send(self, event: Event, size: int | None = None) -> bool:
        """Take one event."""
        self.late |= self.closed
        self.events.append(event)
        self.spoke.set()
        return self.takes and not self.closed


class _Turn:
    """A turn that runs in a task of its own."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.sink = _Sink()
        self.ended = trio.Event()
        self.done: Done | None = None


def _request(handle: Handle, text: str) -> TurnRequest:
    prompt = (TextContent(text=text),)
    return TurnRequest(handle=handle, prompt=prompt, request_id=uuid.uuid4().hex, permissions=DenyAll())


async def _cancelled(call: Callable[[], Awaitable[object]]) -> None:
    """Call within a scope that is cancelled already; what is ours may be raised all the same."""
    with trio.CancelScope() as scope:
        scope.cancel(reason="test")
        with suppress(AcpError):
            await call()
