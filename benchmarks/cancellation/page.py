"""The rows as a table for a terminal, and as the part of a page that is written by a run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .plan import GIVE_UP, SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .measure import Row

BEGIN: Final = "<!-- what follows is written by `nox -s compare` -->"
END: Final = "<!-- what was written by `nox -s compare` ends here -->"

HEADS: Final = (
    "scenario",
    "library",
    "sent from then on",
    "prompts in flight",
    "orphan s",
    "stale events",
    "swallowed",
    "settle s",
    "how it ended",
)


def name_of(row: Row) -> str:
    """Return the library's name without its version."""
    return row.library.split()[0].replace("agent-client-protocol", "SDK")


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as the texts of its cells, in the order of `HEADS`."""
    (scenario,) = (each for each in SCENARIOS if each.name == row.scenario)
    return (
        scenario.title,
        name_of(row),
        ", ".join(row.wire) or "nothing",
        str(row.in_flight),
        "n/a: its call did not end" if row.orphan is None else f"{row.orphan:.1f}",
        str(row.stale),
        str(row.swallowed),
        f"not within {GIVE_UP:g}" if row.settle is None else f"{row.settle:.1f}",
        "; ".join(_endings(row)),
    )


def _endings(row: Row) -> list[str]:
    endings = [row.ended_as]
    if row.next_as is not None:
        how = "on the same connection" if row.connections == 1 else "on a new connection"
        endings.append(f"the next prompt, {how}: {row.next_as}")
    if row.repeated:
        endings.append(f"the prompt was sent again, {row.repeated} times")
    if row.tidied_up is not None:
        endings.append("the handler tidied up" if row.tidied_up else "the handler's clean-up was cut short")
    if row.leave is not None:
        endings.append(f"everything was closed after {row.leave:.1f} s")
    if row.warnings:
        endings.append(f"{row.warnings} warning{'s' * (row.warnings > 1)} logged")
    return endings


def text(rows: Sequence[Row]) -> str:
    """Return the rows for a terminal: a block for each scenario, so that no line is too long to read."""
    lines: list[str] = []
    title = ""
    for row in rows:
        scenario, library, *facts = cells(row)
        if scenario != title:
            title = scenario
            lines += ["", title]
        wire, in_flight, orphan, stale, swallowed, settle, ending = facts
        numbers = f"settle s: {settle}   orphan s: {orphan}   in flight: {in_flight}   stale: {stale}"
        lines += [
            f"  {library:9} {numbers}   swallowed: {swallowed}",
            f"            sent:  {wire}",
            f"            ended: {ending}",
        ]
    return "\n".join(lines).replace("`", "")


def markdown(rows: Sequence[Row], about: Sequence[str]) -> str:
    """Return what a run writes into a page: what was run, what was measured, what each side was asked to do."""
    asked = [(each.title, f"`{each.prompt}`", each.sdk, each.ours) for each in SCENARIOS]
    parts = [
        "  \n".join(about),
        _table(HEADS, [cells(row) for row in rows]),
        "## What each side was asked to do",
        _table(("scenario", "the prompt, for the agent", "SDK", "trio_acp"), asked),
    ]
    return "\n\n".join(parts)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def written(page: str, part: str) -> str:
    """Return a page with its written part replaced.

    Raises:
        ValueError: the page does not have the two marks.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"the page must have these two lines once: {BEGIN} and {END}")
    return re.sub(f"(?s)(?<={re.escape(BEGIN)}\n).*(?={re.escape(END)})", lambda _: f"\n{part}\n\n", page)
