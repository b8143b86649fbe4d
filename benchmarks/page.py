"""The tables, in Markdown that also reads well as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .measures import tables
from .targets import TARGETS, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .measures import Measure
    from .rounds import Results
    from .sizes import Sizes


UPDATES_A_SECOND = 50
"""What a busy session gets."""


def page(results: Results, sizes: Sizes, title: str) -> str:
    """Return everything: what is to be reached, then every value beside its ratio to our first column."""
    parts = [f"# {title}", _targets(results)]
    for name, rows in tables(sizes).items():
        if columns := list(results.values.get(name, {})):
            parts += [f"## {name}", _table(results, name, rows, columns)]
            if name == "Over WebSocket":
                parts.append(_carried(results, max(sizes.growth)))
    if results.absent:
        parts += ["## Not measured", "\n".join(f"- {name}: {_last_line(why)}" for name, why in results.absent.items())]
    parts += ["## Versions", "\n".join(f"- {name}: {about}" for name, about in results.about.items())]
    return "\n\n".join(parts) + "\n"


def _last_line(why: str) -> str:
    """Return what a traceback ends with; what stands before it names places on this machine."""
    return why.strip().rpartition("\n")[2]


def _targets(results: Results) -> str:
    rows = []
    for target in TARGETS:
        reached = target.reached(results)
        bound = "≥" if target.least else "≤"
        shown = "-" if reached is None else _bound(reached, target)
        limits = f"{bound} {_bound(target.must, target)}", f"{bound} {_bound(target.moonshot, target)}"
        rows.append([target.what, target.against or "", shown, *limits, target.verdict(reached)])
    return _aligned(["what", "÷ what", "reached", "must", "moonshot", "verdict"], rows)


def _bound(value: float, target: Target) -> str:
    return f"{value:.3g} {target.unit}".rstrip() if abs(value) < 1000 else f"{value:,.0f} {target.unit}".rstrip()


def _table(results: Results, name: str, rows: Sequence[Measure], columns: Sequence[str]) -> str:
    first = columns[0]
    lines = []
    for row in rows:
        base = results.median(name, first, row.name)
        cells = []
        for column in columns:
            value = results.median(name, column, row.name)
            failed = "failed" if results.failed(name, column, row.name) else ""
            text = failed if value is None else f"{value:,.{row.digits}f}"
            if text and base and value and column != first:
                text += f" ({base / value:.2f})"
            cells.append(text)
        if any(cells):
            lines.append([f"{row.title}, {row.unit}".removesuffix(", "), *cells])
    said = f"In brackets: {first} ÷ that."
    return f"{said}\n\n{_aligned(['', *columns], lines)}"


def _carried(results: Results, count: int) -> str:
    """Say how many busy sessions a processor can serve, from what an update costs at the largest crowd."""
    said = []
    for column in results.values["Over WebSocket"]:
        cost = results.median("Over WebSocket", column, f"wire_grow_{count}")
        if cost:
            said.append(f"{column} {1e6 / cost / UPDATES_A_SECOND:,.0f}")
    return f"Sessions that one processor carries at {UPDATES_A_SECOND} updates/s each: {'; '.join(said)}."


def _aligned(head: list[str], rows: Iterable[list[str]]) -> str:
    everything = [head, *rows]
    widths = [max(len(row[n]) for row in everything) for n in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in everything
    ]
    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])
