"""Making a counterexample small: the fewest strikes, and the fewest deviations from the default order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._actions import Strike
    from ._run import Run
    from ._tape import Tape


def shrink(tape: Tape, replay: Callable[[Tape], Run], *, tries: int = 500) -> Tape:
    """Return a tape with the same kind of finding that loses it if any one thing more is taken away.

    Takes away strikes one by one, and deviations in halves, then quarters, and
    so on.  What it returns has been replayed.

    Args:
        replay: Plays a tape.
        tries: How many runs this may take; when they are used up, what has been reached is returned.
    """
    left = tries

    def holds(candidate: Tape) -> bool:
        nonlocal left
        if left <= 0:
            return False
        left -= 1
        run = replay(candidate)
        return run.kind == tape.kind and _what(run.message) == _what(tape.message)

    best = _without_strikes(tape, holds)
    kept = _fewest(sorted(best.deviations.items()), lambda items: holds(attrs.evolve(best, deviations=dict(items))))
    best = attrs.evolve(best, deviations=dict(kept))
    return _without_strikes(best, holds)


def _what(message: str) -> str:
    """Return what makes two findings one: the kind of error, not the numbers in its text."""
    return message.partition(":")[0]


def _without_strikes(tape: Tape, holds: Callable[[Tape], bool]) -> Tape:
    strikes: Sequence[Strike] = tape.strikes
    for strike in tape.strikes:
        fewer = tuple(other for other in strikes if other is not strike)
        if holds(attrs.evolve(tape, strikes=fewer)):
            strikes = fewer
    return attrs.evolve(tape, strikes=tuple(strikes))


def _fewest(items: list[tuple[int, int]], holds: Callable[[list[tuple[int, int]]], bool]) -> list[tuple[int, int]]:
    """Take away ever smaller parts of `items` as long as `holds`."""
    size = len(items)
    while size >= 1:
        position = 0
        while position < len(items):
            fewer = items[:position] + items[position + size :]
            if holds(fewer):
                items = fewer
            else:
                position += size
        size //= 2
    return items
