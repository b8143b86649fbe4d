"""Making a counterexample small: the fewest strikes, and the fewest deviations from the default order."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._actions import Strike
    from ._tape import Tape

T = TypeVar("T")


def shrink(tape: Tape, holds: Callable[[Tape], bool]) -> Tape:
    """Return a tape that still holds, and that would not with any one strike or deviation less.

    Takes away halves, then quarters, and so on, then single ones, until
    none can go: the delta debugging of Zeller and Hildebrandt, "Simplifying and
    isolating failure-inducing input", IEEE TSE 2002, without its complements.

    Args:
        holds: Plays a tape, and tells whether it still shows what it should;
            once it has had enough it may always say no, and what has been
            reached is returned.
    """
    before = None
    while tape != before:
        before = tape
        tape = _with_fewest_strikes(tape, holds)
        tape = _with_fewest_deviations(tape, holds)
        tape = _with_least_deviations(tape, holds)
    return tape


def _with_fewest_strikes(tape: Tape, holds: Callable[[Tape], bool]) -> Tape:
    def some(strikes: Sequence[Strike]) -> Tape:
        return attrs.evolve(tape, strikes=tuple(strikes))

    return some(_fewest(tape.strikes, lambda strikes: holds(some(strikes))))


def _with_fewest_deviations(tape: Tape, holds: Callable[[Tape], bool]) -> Tape:
    def some(deviations: Sequence[tuple[int, int]]) -> Tape:
        return attrs.evolve(tape, deviations=dict(deviations))

    return some(_fewest(sorted(tape.deviations.items()), lambda deviations: holds(some(deviations))))


def _with_least_deviations(tape: Tape, holds: Callable[[Tape], bool]) -> Tape:
    """Have tasks go on that are nearer to the one whose turn it is; it often makes other deviations superfluous."""
    for number, taken in sorted(tape.deviations.items()):
        for less in sorted({1, taken // 2, taken - 1} - {0, taken}):
            candidate = attrs.evolve(tape, deviations={**tape.deviations, number: less})
            if less < tape.deviations[number] and holds(candidate):
                tape = candidate
    return tape


def _fewest(items: Sequence[T], holds: Callable[[Sequence[T]], bool]) -> Sequence[T]:
    """Take away ever smaller parts of `items` as long as it holds."""
    size = len(items)
    while size >= 1:
        position, before = 0, len(items)
        while position < len(items):
            fewer = [*items[:position], *items[position + size :]]
            if holds(fewer):
                items = fewer
            else:
                position += size
        if size > 1 or len(items) == before:
            size //= 2
    return items
