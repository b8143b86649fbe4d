"""What is measured: the rows of the tables, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .sizes import Sizes


@dataclass(frozen=True)
class Measure:
    """One row.

    Attributes:
        name: Its name, for programs.
        title: Its name, for people.
        unit: Of its values.
        digits: How many of a value stand behind the point.
    """

    name: str
    title: str
    unit: str
    digits: int = 0


def _both(name: str, title: str, unit: str) -> tuple[Measure, Measure]:
    return Measure(name, f"{title}: processor", unit, 1), Measure(f"{name}_wall", f"{title}: wall", unit, 1)


MEMORY: Final = (
    *_both("turn_1", "turn of 1 event", "µs"),
    *_both("turn_10", "turn of 10 events", "µs"),
    *_both("turn_100", "turn of 100 events", "µs"),
    *_both("crowd", "turn of 10 events, many sessions at once", "µs"),
    *_both("event", "each event of a very long turn", "ns"),
    Measure("cancel", "cancel of a running turn: it returns, median", "µs", 1),
    Measure("cancel_settled", "cancel of a running turn: the turn is settled, median", "µs", 1),
    Measure("patience_persistent", "nothing ever returns, turn of 1 s: persistent", "s", 3),
    Measure("patience_oneshot", "nothing ever returns, turn of 1 s: oneshot", "s", 3),
    Measure("idle_bytes", "idle session: memory", "B"),
    Measure("idle_tasks", "idle session: tasks", "", 3),
    Measure("turn_steps", "turn of 10 events: steps of tasks", "", 1),
    Measure("turn_waits", "turn of 10 events: waits for I/O", "", 1),
)

START: Final = (
    Measure("import", "the import alone: processor", "ms"),
    Measure("import_used", "import of all that a client over WebSocket needs: processor", "ms"),
    Measure("import_memory", "the same: memory", "MiB", 1),
)


def _alone(prefix: str, words: str) -> tuple[Measure, ...]:
    return (
        Measure(f"{prefix}_turns", f"{words}turns of 10 updates, one after the other", "/s"),
        Measure(f"{prefix}_p50", f"{words}the same: median", "µs"),
        Measure(f"{prefix}_turn_cpu", f"{words}the same: processor, each", "µs"),
        Measure(f"{prefix}_updates_64", f"{words}one prompt, updates of 64 B", "/s"),
        Measure(f"{prefix}_update_cpu_64", f"{words}the same: processor, each", "µs", 1),
        Measure(f"{prefix}_updates_1k", f"{words}one prompt, updates of 1 KiB", "/s"),
        Measure(f"{prefix}_update_cpu_1k", f"{words}the same: processor, each", "µs", 1),
    )


WIRE: Final = (
    *_alone("wire", ""),
    Measure("crowd_one", "turns of 10 updates, many sessions, one connection", "/s"),
    Measure("crowd_one_cpu", "the same: processor, each", "µs"),
    Measure("crowd_each", "turns of 10 updates, many sessions, a connection each", "/s"),
    Measure("crowd_each_cpu", "the same: processor, each", "µs"),
    *_alone("tls", "TLS: "),
    Measure("stall", "a consumer that stalls: the process grows by", "MiB", 1),
    Measure("wire_steps", "turn of 10 updates: steps of tasks", "", 1),
    Measure("wire_waits", "turn of 10 updates: waits for I/O", "", 1),
    Measure("update_steps", "one long prompt: steps of tasks for each update", "", 4),
)


def growth(sizes: Sizes) -> tuple[tuple[Measure, ...], tuple[Measure, ...]]:
    """Return the rows that say how the cost grows: in memory, and over the wire."""
    words = "each of 100 events a turn, {:,} sessions at once: processor"
    memory = (Measure(f"grow_{count}", words.format(count), "ns") for count in sizes.growth)
    wire = (Measure(f"wire_grow_{count}", words.format(count), "µs", 2) for count in sizes.growth)
    return tuple(memory), tuple(wire)


def tables(sizes: Sizes) -> dict[str, tuple[Measure, ...]]:
    """Return the rows of each table."""
    memory, wire = growth(sizes)
    return {"In memory": MEMORY + memory, "Over WebSocket": WIRE + wire, "Start": START}
