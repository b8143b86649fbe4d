"""What is to be reached, each a ratio within one run, or a count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .sides import DEFAULT, FAST, OURS, SDK, TYPESCRIPT

if TYPE_CHECKING:
    from .rounds import Results

CLOSE: Final = 0.15
"""By which part a bound may be missed to be called close."""

OLD_CLAW, NEW_CLAW = "OpenClaw 2026.3.31", "OpenClaw 2026.9.6"


@dataclass(frozen=True)
class Target:
    """One bound.

    Attributes:
        what: For people.
        table: Where its measure is.
        side: Whose value it bounds.
        measure: Which.
        must: The bound, and what would be splendid.
        against: By whose value it is divided, if by any.
        base: The measure to divide by, if it is another one.
        least: Whether the bound is the least that will do, not the most.
        minus: What is taken off before, a nominal time for instance.
        unit: Of what is bounded; a ratio has none.
    """

    what: str
    table: str
    side: str
    measure: str
    must: float
    moonshot: float
    against: str | None = None
    base: str | None = None
    least: bool = False
    minus: float = 0.0
    unit: str = ""

    def reached(self, results: Results) -> float | None:
        """Return what is to be compared with the bound; None if it was not measured."""
        value = results.median(self.table, self.side, self.measure)
        if value is None:
            return None
        if self.against is None:
            return (value - self.minus) * (1e3 if self.unit == "ms" else 1.0)
        other = results.median(self.table, self.against, self.base or self.measure)
        return None if not other else value / other

    def verdict(self, reached: float | None) -> str:
        """Say in words whether the bound is kept."""
        if reached is None:
            return "not measured"
        better = (lambda bound: reached >= bound) if self.least else (lambda bound: reached <= bound)
        if better(self.moonshot):
            return "moonshot"
        if better(self.must):
            return "met"
        if self.must <= 0 or reached <= 0:
            return "MISSED"
        off = self.must / reached if self.least else reached / self.must
        return f"close: {off - 1:.0%} off" if off <= 1 + CLOSE else f"MISSED: {off:.2g} times the bound"


def _memory(what: str, measure: str, against: str, must: float, moonshot: float) -> Target:
    return Target(what, "In memory", OURS, measure, must, moonshot, against)


def _wire(what: str, side: str, measure: str, against: str, must: float, moonshot: float, *, least: bool) -> Target:
    return Target(what, "Over WebSocket", side, measure, must, moonshot, against, least=least)


TARGETS: Final = (
    _memory("turn in memory, K = 1: processor ÷", "turn_1", NEW_CLAW, 3, 2),
    _memory("turn in memory, K = 10: processor ÷", "turn_10", NEW_CLAW, 2, 1.4),
    _memory("turn in memory, K = 100: processor ÷", "turn_100", NEW_CLAW, 1, 0.6),
    _memory("event of a 100,000-event turn: processor ÷", "event", OLD_CLAW, 1.5, 0.9),
    _wire("default engine, turns/s one after the other ×", DEFAULT, "wire_turns", SDK, 0.9, 1, least=True),
    _wire("default engine, turns/s 100 sessions, one connection ×", DEFAULT, "crowd_one", SDK, 0.8, 1, least=True),
    _wire("fast engine, updates/s 64 B ×", FAST, "wire_updates_64", SDK, 4, 5, least=True),
    _wire("fast engine, updates/s 1 KiB ×", FAST, "wire_updates_1k", SDK, 3, 3.5, least=True),
    _wire("fast engine, updates/s 64 B ×", FAST, "wire_updates_64", TYPESCRIPT, 1.2, 1.6, least=True),
    _wire("fast engine, updates/s 1 KiB ×", FAST, "wire_updates_1k", TYPESCRIPT, 1.2, 1.4, least=True),
    _wire("fast engine, turns/s 100 sessions, one connection ×", FAST, "crowd_one", SDK, 3, 4, least=True),
    _wire("fast engine, turns/s 100 sessions, one connection ×", FAST, "crowd_one", TYPESCRIPT, 1, 1.4, least=True),
    _wire("fast engine, turn: processor ÷", FAST, "wire_turn_cpu", SDK, 0.6, 0.42, least=False),
    _wire("fast engine, turn: processor ÷", FAST, "wire_turn_cpu", TYPESCRIPT, 1.5, 1.05, least=False),
    Target("1 s, nothing returns: persistent, over 4 s", "In memory", OURS, "patience_persistent", 50, 10, minus=4, unit="ms"),
    Target("1 s, nothing returns: oneshot, over 6 s", "In memory", OURS, "patience_oneshot", 50, 10, minus=6, unit="ms"),
    Target("stalled consumer, default engine: growth", "Over WebSocket", DEFAULT, "stall", 32, 16, unit="MiB"),
    Target("stalled consumer, fast engine: growth", "Over WebSocket", FAST, "stall", 32, 16, unit="MiB"),
    Target("task steps of a turn in memory", "In memory", OURS, "turn_steps", 10, 6),
    Target("task steps of a turn of 10 over the wire, fast engine", "Over WebSocket", FAST, "wire_steps", 14, 8),
    Target("task steps for each update of a long prompt, fast engine", "Over WebSocket", FAST, "update_steps", 0.1, 0.02),
    Target("event in memory, 1,000 sessions ÷ 1", "In memory", OURS, "grow_1000", 1.3, 1.1, OURS, "grow_1"),
    Target("update, default engine, 1,000 sessions ÷ 1", "Over WebSocket", DEFAULT, "wire_grow_1000", 1.3, 1.1, DEFAULT, "wire_grow_1"),
    Target("update, fast engine, 1,000 sessions ÷ 1", "Over WebSocket", FAST, "wire_grow_1000", 1.3, 1.1, FAST, "wire_grow_1"),
    Target("idle session: memory", "In memory", OURS, "idle_bytes", 2048, 1024, unit="B"),
    Target("idle session: tasks", "In memory", OURS, "idle_tasks", 0, 0),
    Target("import: processor ÷ `import acp`", "Start", OURS, "import", 0.6, 0.4, SDK),
)
