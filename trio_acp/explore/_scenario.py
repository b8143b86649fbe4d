"""What is explored: `Scenario`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._actions import Action
    from ._case import Case


@attrs.frozen
class Scenario:
    """An async function to be explored, and what may be done to it.

    Attributes:
        function: Called with a `Case`, in a new Trio run, again and again.  It
            must behave the same each time but for the order of its tasks and
            what is done to it, and use neither threads nor real sockets.
        name: How reports and tapes call it.
        actions: What is done to it.
        max_steps: How many task steps count as "it never ends".
    """

    function: Callable[[Case], Awaitable[object]]
    name: str
    actions: tuple[Action, ...] = ()
    max_steps: int = 50_000

    def action(self, name: str) -> Action:
        """Return the action of this name.

        Raises:
            KeyError: it has none.
        """
        for action in self.actions:
            if action.name == name:
                return action
        raise KeyError(f"scenario {self.name} has no action {name}")
