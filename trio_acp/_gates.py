"""The deadlines of all turns whose adapters run: one alarm, so that a turn that ends in time needs no timer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from ._alarm import Alarm

if TYPE_CHECKING:
    from ._turn_state import TurnState


class Gates:
    """Tells each turn when its time is over: at `TurnState.gate`, to the instant."""

    def __init__(self) -> None:
        self._running: dict[TurnState, None] = {}  # in order, so that a run can be repeated
        self._alarm = Alarm(self._next, self._ring)

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Watch, until cancelled."""
        await self._alarm.run()

    def watch(self, turn: TurnState) -> None:
        """Have a turn told when its gate is due."""
        self._running[turn] = None
        self._alarm.not_after(turn.gate)

    def forget(self, turn: TurnState) -> None:
        """Tell a turn nothing any more."""
        self._running.pop(turn, None)

    def _next(self) -> float:
        return min((turn.gate for turn in self._running), default=math.inf)

    def _ring(self) -> None:
        now = trio.current_time()
        for turn in [turn for turn in self._running if turn.gate <= now]:
            self.forget(turn)
            turn.check_gate(now)
