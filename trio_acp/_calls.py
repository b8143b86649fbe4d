"""Calling code we do not trust to end.

Almost every call into a runtime runs in a task of its own, a sibling of the
actor that waits for it.  The actor waits for an event, never in the foreign
frame, so whatever that code does, the actor goes on when its deadline says so.
The exception is `run_turn`, which runs in the actor's task; if the actor is to
go on before its end, another task takes the actor's place (`_turn.py`).  A
call that does not end although it was cancelled is a *straggler*: it stays
owned by the nursery, is counted, and what it returns late is handed to
`Call.discard`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import trio

from ._errors import AcpError, TurnFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)

T = TypeVar("T")


@attrs.define(eq=False, kw_only=True)
class Call(Generic[T]):
    """One call, in a task of its own or in the actor's.

    Attributes:
        name: For warnings and the trace.
        finished: Whether the task has ended, in whatever way.
        ok: Whether it returned; its value is in `value` then.
        error: What it raised, unless it was cancelled.
        discard: Gets a value that came after the call had been abandoned.
        left: Whether it runs in the actor's task, and another one took that one's place.
    """

    name: str
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    discard: Callable[[T], None] | None = None
    on_end: Callable[[], None] | None = None
    finished: bool = False
    ok: bool = False
    value: T | None = None
    error: Exception | None = None
    abandoned: bool = False
    left: bool = False
    _done: trio.Event | None = None  # once somebody waits

    @property
    def task_name(self) -> str:
        """What a task is called in which nothing else is done."""
        return f"trio_acp call {self.name}"

    async def wait(self, deadline: float) -> bool:
        """Wait until the call has ended or the clock shows `deadline`; say whether it ended.

        If cancelled, the call goes on.
        """
        if not self.finished:
            if self._done is None:
                self._done = trio.Event()
            with trio.move_on_at(deadline):
                await self._done.wait()
        return self.finished


class Calls:
    """Starts calls in one nursery and keeps count of stragglers."""

    def __init__(self, nursery: trio.Nursery, join: float) -> None:
        self._nursery = nursery
        self._join = join
        self._stragglers: set[Call[Any]] = set()
        self.straggled = 0

    @property
    def stragglers_now(self) -> int:
        """How many abandoned calls have still not ended."""
        return len(self._stragglers)

    def start(
        self,
        name: str,
        async_fn: Callable[..., Awaitable[T]],
        *args: object,
        on_end: Callable[[], None] | None = None,
        discard: Callable[[T], None] | None = None,
    ) -> Call[T]:
        """Start ``async_fn(*args)`` in a task of its own."""
        call: Call[T] = Call(name=name, on_end=on_end, discard=discard)
        self._nursery.start_soon(self.run, call, async_fn, *args, name=call.task_name)
        return call

    @trio.lowlevel.enable_ki_protection
    async def run(self, call: Call[T], async_fn: Callable[..., Awaitable[T]], *args: object) -> None:
        """Make a call in this task; what it returns or raises is in `call`.

        If cancelled from outside, `trio.Cancelled` goes on.
        """
        try:
            with call.scope:
                call.value = await async_fn(*args)
                call.ok = True
        except Exception as error:  # noqa: BLE001 - foreign code: whatever it raises belongs to whoever asked
            call.error = error
        finally:
            call.finished = True
            self._stragglers.discard(call)
            if call._done is not None:
                call._done.set()
            on_end, call.on_end = call.on_end, None  # it refers to whoever has the call: no garbage in cycles
            if on_end is not None:
                on_end()
        if call.abandoned:
            if call.error is not None:
                _log.warning("the abandoned call %s ended with %r", call.name, call.error)
            elif call.ok and call.discard is not None and call.value is not None:
                call.discard(call.value)

    async def stop(self, *calls: Call[Any], reason: str) -> bool:
        """Cancel calls and give them `join` seconds, together, to end.

        What they return from now on is discarded.  Those that do not end are
        stragglers.  If cancelled, they are cancelled all the same.

        Returns:
            True if all of them have ended.
        """
        for call in calls:
            if call.finished:
                if call.ok and call.discard is not None and call.value is not None and not call.abandoned:
                    call.discard(call.value)
            else:
                call.scope.cancel(reason=reason)
            call.abandoned = True
        deadline = trio.current_time() + self._join
        for call in calls:
            await call.wait(deadline)
            if not call.finished:
                self._stragglers.add(call)
                self.straggled += 1
                _log.warning("the call %s does not end although it was cancelled (%s)", call.name, reason)
        return all(call.finished for call in calls)


def failure_of(call: Call[Any]) -> AcpError:
    """Return why a call into a runtime did not return: what it raised, else that it ended itself."""
    if call.error is None:
        return TurnFailed(f"the adapter's {call.name} ended itself by cancellation", detail="adapter-error")
    return as_acp_error(call.error)


def as_acp_error(error: Exception, kind: type[AcpError] = TurnFailed) -> AcpError:
    """Return the error itself if it is one of ours, else one of this kind, caused by it."""
    if isinstance(error, AcpError):
        return error
    failure = kind(f"the adapter failed: {error!r}", detail="adapter-error")
    failure.__cause__ = error
    return failure
