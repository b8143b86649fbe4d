"""What a scenario gets: `Case`, its connection to whoever explores it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._actions import Strike


class Case:
    """One run of a scenario.

    Attributes:
        strikes: What has been done to it so far; empty if nothing was.
        times: When each of them was done, virtual seconds.
        has_scope: Whether the scenario asks for its scope; known from an earlier run.
        jump: Lets seconds pass.
    """

    def __init__(self, jump: Callable[[float], None], *, has_scope: bool = False) -> None:
        self.has_scope = has_scope
        self.jump = jump
        self.strikes: list[Strike] = []
        self.times: list[float] = []
        self._scope = trio.CancelScope()
        self._whole = trio.CancelScope()
        self._events: dict[str, Callable[[], object]] = {}
        self._state: Callable[[], str] | None = None

    @property
    def scope(self) -> trio.CancelScope:
        """The scope of interest, for the scenario to enter: ``with case.scope: ...``.

        `Cancel` cancels it; what comes after the block is the scenario's check
        of what the cancellation left behind.  A scenario that never asks for
        it is cancelled as a whole.
        """
        self.has_scope = True
        return self._scope

    @property
    def whole(self) -> trio.CancelScope:
        """The scope around the whole scenario."""
        return self._whole

    def on(self, event: str, function: Callable[[], object]) -> None:
        """Have ``Call(event)`` call `function`, which is synchronous and may run outside of any task."""
        self._events[event] = function

    def state(self, function: Callable[[], str]) -> None:
        """Have `function`, synchronous, name the state the scenario is in, for the table of what was tried where."""
        self._state = function

    # -- for actions --

    def cancel(self, reason: str) -> None:
        """Cancel the scope of interest."""
        (self._scope if self.has_scope else self._whole).cancel(reason=reason)

    def call(self, event: str) -> None:
        """Call what was registered for an event."""
        if (function := self._events.get(event)) is not None:
            function()

    def state_name(self) -> str:
        """Return the name of the state the scenario is in; empty if it has none."""
        return "" if self._state is None else self._state()
