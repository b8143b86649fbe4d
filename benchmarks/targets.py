"""What is to be reached, each a ratio within one run, or a count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .sides import DEFAULT, FAST, OURS, SDK, TYPESCRIPT

if TYPE_CHECKING:
    from .rounds import Results

MEMORY, WIRE, START = "In memory", "Over WebSocket", "Start"

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
        sign = -1 if self.least else 1
        if sign * reached <= sign * self.moonshot:
            return "moonshot"
        if sign * reached <= sign * self.must:
            return "met"
        if self.must <= 0 or reached <= 0:
            return "MISSED"
        off = self.must / reached if self.least else reached / self.must
        return f"close: {off - 1:.0%} off" if off <= 1 + CLOSE else f"MISSED: {off:.2g} times the bound"


def _ratio(
    what: str, side: str, measure: str, against: str, must: float, moonshot: float, *, least: bool = False
) -> Target:
    table = MEMORY if side == OURS else WIRE
    return Target(what, table, side, measure, must, moonshot, against, least=least)


def _growth(what: str, side: str, measure: str) -> Target:
    table = MEMORY if side == OURS else WIRE
    return Target(
        f"{what}, 1,000 sessions at once beside 1", table, side, f"{measure}_1000", 1.3, 1.1, side, f"{measure}_1"
    )


def _late(mode: str, nominal: float) -> Target:
    what = f"turn of 1 s, nothing ever returns: {mode}, after {nominal:g} s"
    return Target(what, MEMORY, OURS, f"patience_{mode}", 50, 10, minus=nominal, unit="ms")


TARGETS: Final = (
    _ratio("turn in memory of 1 event: processor", OURS, "turn_1", NEW_CLAW, 3, 2),
    _ratio("turn in memory of 10 events: processor", OURS, "turn_10", NEW_CLAW, 2, 1.4),
    _ratio("turn in memory of 100 events: processor", OURS, "turn_100", NEW_CLAW, 1, 0.6),
    _ratio("each event of a turn of 100,000: processor", OURS, "event", OLD_CLAW, 1.5, 0.9),
    _ratio("default engine, turns/s one after the other", DEFAULT, "wire_turns", SDK, 0.9, 1, least=True),
    _ratio("default engine, turns/s 100 sessions, one connection", DEFAULT, "crowd_one", SDK, 0.8, 1, least=True),
    _ratio("fast engine, updates/s 64 B", FAST, "wire_updates_64", SDK, 4, 5, least=True),
    _ratio("fast engine, updates/s 1 KiB", FAST, "wire_updates_1k", SDK, 3, 3.5, least=True),
    _ratio("fast engine, updates/s 64 B", FAST, "wire_updates_64", TYPESCRIPT, 1.2, 1.6, least=True),
    _ratio("fast engine, updates/s 1 KiB", FAST, "wire_updates_1k", TYPESCRIPT, 1.2, 1.4, least=True),
    _ratio("fast engine, turns/s 100 sessions, one connection", FAST, "crowd_one", SDK, 3, 4, least=True),
    _ratio("fast engine, turns/s 100 sessions, one connection", FAST, "crowd_one", TYPESCRIPT, 1, 1.4, least=True),
    _ratio("fast engine, turn of 10 updates: processor", FAST, "wire_turn_cpu", SDK, 0.6, 0.42),
    _ratio("fast engine, turn of 10 updates: processor", FAST, "wire_turn_cpu", TYPESCRIPT, 1.5, 1.05),
    _late("persistent", 4),
    _late("oneshot", 6),
    Target("stalled consumer, default engine: growth", WIRE, DEFAULT, "stall", 32, 16, unit="MiB"),
    Target("stalled consumer, fast engine: growth", WIRE, FAST, "stall", 32, 16, unit="MiB"),
    Target("steps of tasks, turn in memory", MEMORY, OURS, "turn_steps", 10, 6),
    Target("steps of tasks, turn of 10 updates, fast engine", WIRE, FAST, "wire_steps", 14, 8),
    Target("steps of tasks, each update of a long prompt, fast engine", WIRE, FAST, "update_steps", 0.1, 0.02),
    _growth("event in memory", OURS, "grow"),
    _growth("update, default engine", DEFAULT, "wire_grow"),
    _growth("update, fast engine", FAST, "wire_grow"),
    Target("idle session: memory", MEMORY, OURS, "idle_bytes", 2048, 1024, unit="B"),
    Target("idle session: tasks", MEMORY, OURS, "idle_tasks", 0, 0),
    Target("import of trio_acp alone: processor", START, OURS, "import", 0.6, 0.4, SDK),
    Target("import of all that a client needs: processor", START, OURS, "import_used", 0.6, 0.4, SDK, "import"),
)
