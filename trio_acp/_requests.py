"""What waits in a lane, and how it is told to stop.

Everything here is decided without an `await`; the only waiting is
`Request.wait_for` and `Request.interruptibly`, which the actor does.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


T = TypeVar("T")


class GaveUp(enum.Enum):
    """The type of `GAVE_UP`."""

    GAVE_UP = "it was to stop, or its deadline has passed"


GAVE_UP: Final = GaveUp.GAVE_UP
"""What `Request.interruptibly` returns instead of a result."""


class Ending(Protocol):
    """What a request can wait for; whoever ends it pokes the request."""

    @property
    def finished(self) -> bool:
        """Whether it has ended."""


@attrs.define(eq=False)
class Request(ABC):
    """Something a session was asked to do; it waits in the session's lane.

    Attributes:
        on_stop: What to do once this is to stop: cancel the scope in which our
            own code runs, or give the lane to another task.
    """

    key: str
    id: str
    settled: trio.Event = attrs.field(factory=trio.Event, init=False)
    on_stop: Callable[[], None] | None = attrs.field(default=None, init=False)
    _poked: trio.Event | None = attrs.field(default=None, init=False)  # once the actor waits

    @property
    @abstractmethod
    def stopping(self) -> bool:
        """Whether something has asked for this request's end."""

    def poke(self) -> None:
        """Wake the actor, if it waits for this request; if this is to stop, do what there is to do about it."""
        if self._poked is not None:
            self._poked.set()
        if self.on_stop is not None and self.stopping:
            self.on_stop()

    async def wait_for(self, call: Ending, deadline: float) -> bool:
        """Wait until the call has ended, this is to stop, or the clock shows `deadline`.

        Returns:
            Whether the call has ended.
        """
        with trio.move_on_at(deadline):
            while not (call.finished or self.stopping):
                self._poked = trio.Event()
                await self._poked.wait()
        return call.finished

    async def interruptibly(
        self, deadline: float, async_fn: Callable[..., Awaitable[T]], *args: object
    ) -> T | Literal[GaveUp.GAVE_UP]:
        """Await our own code; return `GAVE_UP` at `deadline` or when this is to stop."""
        with trio.CancelScope(deadline=deadline) as scope:
            self.on_stop = partial(scope.cancel, reason="the request was asked to stop")
            try:
                if not self.stopping:
                    return await async_fn(*args)
            finally:
                self.on_stop = None
        return GAVE_UP


@attrs.define(eq=False)
class Control(Request):
    """An operation other than a turn: it has one result and can be told to stop.

    Attributes:
        run: The operation; the actor calls it with this object.
        internal: Whether nobody asked for it, so that it is not counted.
        gives_way: Whether it is to stop as soon as another request comes.
        result: What it returned; valid once settled without `error`.
        error: What it raised.
    """

    run: Callable[[Control], Awaitable[Any]]
    internal: bool = attrs.field(default=False, kw_only=True)
    gives_way: bool = attrs.field(default=False, kw_only=True)
    result: Any = attrs.field(default=None, init=False)
    error: Exception | None = attrs.field(default=None, init=False)
    _stopping: bool = attrs.field(default=False, init=False)
    _stopped_by: Exception | None = attrs.field(default=None, init=False)

    @property
    def stopping(self) -> bool:
        """Whether it is to be given up."""
        return self._stopping

    def stop(self, error: Exception | None = None) -> None:
        """Give the operation up: what it is waiting for is cancelled, what it opened is closed.

        Args:
            error: What its caller gets, unless the operation has a result all the same.
        """
        self._stopping = True
        self._stopped_by = error
        self.poke()

    def settle(self, result: Any = None, error: Exception | None = None) -> None:
        """Fix the result and let the caller go on; the first call counts."""
        if not self.settled.is_set():
            self.result = result
            self.error = self._stopped_by if result is None and error is None else error
            self.settled.set()
