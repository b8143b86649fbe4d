"""`FakeRuntime`: a runtime without an agent, for tests under virtual time.

Each of its calls does what it was told: return, take some time, hang,
resist cancellation, or raise.  Everything it was asked is in `FakeRuntime.calls`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import attrs
import trio

from .._events import Event
from .._service import shielded
from ..abc import Capabilities, Done, EnsureRequest, EventSink, Handle, Runtime, RuntimeStatus, TurnRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@attrs.frozen
class Sleep:
    """Take some seconds."""

    seconds: float


@attrs.frozen(kw_only=True)
class Hang:
    """Never end, but honour Trio's cancellation.

    Attributes:
        stops: In a turn: end with ``cancelled`` once `Runtime.cancel` has returned.
    """

    stops: bool = False


@attrs.frozen
class Swallow:
    """Resist cancellation for some seconds, as a badly written adapter would."""

    seconds: float = math.inf


@attrs.frozen
class Raise:
    """Raise this error."""

    error: Exception


@attrs.frozen
class Run:
    """Call a function with the turn's sink, or with None outside a turn."""

    function: Callable[[EventSink | None], object]


_EVENTS = get_args(Event)

Step: TypeAlias = "Event | Sleep | Hang | Swallow | Raise | Run | Done"


@attrs.frozen(kw_only=True)
class FakeCall:
    """One call that the manager made.

    Attributes:
        name: The method.
        time: When, in seconds of Trio's clock.
        handle: The handle that it was given, if it was given one.
        detail: Its other argument, or a tuple of them; None if it has none.
    """

    name: str
    time: float
    handle: Handle | None = None
    detail: Any = None


@attrs.define(eq=False, kw_only=True)
class FakeHandle(Handle):
    """A `Handle` with a `number`, from 1, so that tests can tell handles apart."""

    number: int


class FakeRuntime(Runtime):
    """A runtime whose behaviour is a script.

    Every method that is async honours being cancelled at its next step, but for
    a `Swallow` step, and has done no more than the steps before.  Every method
    of these raises what its `Raise` steps say, and `TypeError` for what is no step.

    Args:
        turn: The steps of every turn: events are sent, the other steps done.
            A turn without a `Done` step ends with ``Done()`` after its last step.
            A callable gets the `TurnRequest` and returns the steps.
        ensure: The steps of `ensure_session`; likewise `cancel`, `close`, `status`.
        controls: The steps of `set_mode` and `set_config_option`, as a callable
            of their arguments or for every call alike.
        offers: What `capabilities` says; default: both controls, and any key.
        quiet: What `is_quiet` says.
        resumes: What `can_resume` says.
        well: What `healthy` says.
        reports: What `status` answers after its steps; a callable gets the
            handle.  Default: the handle's session id.  If given, the manager
            asks after turns too.

    Attributes:
        calls: Every call, in order.
        open: The handles that were opened and not closed.
        dead: Handles to be found dead: put one in, and `is_alive` says so.
        running: The event that each running turn waits for if it hangs with ``stops=True``.
        most_at_once: How many turns ran at once, at most, by session key; more than 1 is a fault.
        on_cancel, on_close, on_status, on_control: The steps given as `cancel`,
            `close`, `status` and `controls`; like `turn`, `ensure` and what
            the others answer, they may be replaced while it is in use.
    """

    def __init__(
        self,
        turn: Iterable[Step] | Callable[[TurnRequest], Iterable[Step]] = (),
        *,
        ensure: Iterable[Step] | Callable[[EnsureRequest], Iterable[Step]] = (),
        cancel: Iterable[Step] = (),
        close: Iterable[Step] = (),
        status: Iterable[Step] = (),
        controls: Iterable[Step] | Callable[[object], Iterable[Step]] = (),
        offers: Capabilities | None = None,
        quiet: bool = False,
        resumes: bool = True,
        well: bool = True,
        reports: RuntimeStatus | Callable[[Handle], RuntimeStatus | None] | None = None,
    ) -> None:
        self.turn, self.ensure = turn, ensure
        self.on_cancel, self.on_close, self.on_status = cancel, close, status
        self.on_control = controls
        self.offers = offers or Capabilities(controls=frozenset({"session/set_mode", "session/set_config_option"}))
        self.quiet = quiet
        self.resumes = resumes
        self.well = well
        self.reports = reports
        self.tells_ids = reports is not None
        self.calls: list[FakeCall] = []
        self.open: set[Handle] = set()
        self.dead: set[Handle] = set()
        self.running: dict[Handle, trio.Event] = {}
        self.most_at_once: dict[str, int] = {}
        self._handles = 0

    def names(self) -> list[str]:
        """Return the names of the calls so far, in order."""
        return [call.name for call in self.calls]

    async def ensure_session(self, request: EnsureRequest) -> Handle:
        """Do the `ensure` steps and return a new handle."""
        self._note("ensure_session", None, request)
        await self._do(self.ensure(request) if callable(self.ensure) else self.ensure, None, None)
        self._handles += 1
        session_id = request.resume or f"fake-{self._handles}"
        handle = FakeHandle(key=request.key, session_id=session_id, cwd=request.cwd, number=self._handles)
        self.open.add(handle)
        return handle

    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        """Do the `turn` steps."""
        handle = request.handle
        self._note("run_turn", handle, request)
        overlap = sum(other.key == handle.key for other in self.running) + 1
        self.most_at_once[handle.key] = max(overlap, self.most_at_once.get(handle.key, 0))
        stopped = self.running[handle] = trio.Event()
        try:
            return await self._do(self.turn(request) if callable(self.turn) else self.turn, events, stopped)
        finally:
            del self.running[handle]

    async def cancel(self, handle: Handle, reason: str) -> None:
        """Do the `cancel` steps, then let a turn that hangs with ``stops=True`` end."""
        self._note("cancel", handle, reason)
        await self._do(self.on_cancel, None, None)
        if handle in self.running:
            self.running[handle].set()

    async def close(self, handle: Handle, reason: str) -> None:
        """Do the `close` steps."""
        self._note("close", handle, reason)
        self.open.discard(handle)
        await self._do(self.on_close, None, None)

    async def status(self, handle: Handle) -> RuntimeStatus | None:
        """Do the `status` steps and describe the handle."""
        self._note("status", handle, None)
        await self._do(self.on_status, None, None)
        if self.reports is not None:
            return self.reports(handle) if callable(self.reports) else self.reports
        return RuntimeStatus(summary="fake", session_id=handle.session_id)

    async def capabilities(self, handle: Handle) -> Capabilities:
        """Say what it was told to offer."""
        self._note("capabilities", handle, None)
        await trio.lowlevel.checkpoint()
        return self.offers

    async def set_mode(self, handle: Handle, mode_id: str) -> None:
        """Do the `controls` steps."""
        await self._control("set_mode", handle, mode_id)

    async def set_config_option(self, handle: Handle, key: str, value: str) -> None:
        """Do the `controls` steps."""
        await self._control("set_config_option", handle, (key, value))

    async def _control(self, name: str, handle: Handle, detail: object) -> None:
        self._note(name, handle, detail)
        await self._do(self.on_control(detail) if callable(self.on_control) else self.on_control, None, None)

    def healthy(self) -> bool:
        """Return what it was told to say."""
        return self.well

    def is_alive(self, handle: Handle) -> bool:
        """Whether the handle was not put into `dead`."""
        return handle not in self.dead

    def can_resume(self, handle: Handle) -> bool:
        """Return what it was told to say."""
        return self.resumes

    def is_quiet(self, handle: Handle) -> bool:
        """Return what it was told to say."""
        return self.quiet

    def _note(self, name: str, handle: Handle | None, detail: object) -> None:
        self.calls.append(FakeCall(name=name, time=trio.current_time(), handle=handle, detail=detail))

    async def _do(self, steps: Iterable[Step], events: EventSink | None, stopped: trio.Event | None) -> Done:
        await trio.lowlevel.checkpoint()
        for step in steps:
            match step:
                case Done():
                    return step
                case Sleep(seconds=seconds):
                    await trio.sleep(seconds)
                case Hang(stops=True) if stopped is not None:
                    await stopped.wait()
                    return Done(stop_reason="cancelled")
                case Hang():
                    await trio.sleep_forever()
                case Swallow(seconds=seconds):
                    await _swallow(seconds)
                case Raise(error=error):
                    raise error
                case Run(function=function):
                    function(events)
                case event if events is not None and isinstance(event, _EVENTS):
                    events.send(event)
                case _:
                    raise TypeError(f"{step!r} is no step for this call")
        return Done()


async def _swallow(seconds: float) -> None:
    deadline = trio.current_time() + seconds
    while trio.current_time() < deadline:
        # What must never be written: it catches its own cancellation.  It can be interrupted no more than
        # a thread could be, and it ends when its time is over.
        with shielded(min(3600.0, deadline - trio.current_time())):
            await trio.sleep_forever()
