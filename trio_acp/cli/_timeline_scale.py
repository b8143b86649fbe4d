"""The scale of a timeline: from seconds to pixels.

It is linear, so that what took twice as long is twice as wide, unless that
would make what is short too small to see.  Then stretches in which nothing
begins or ends are cut: drawn shorter than they were, and marked.
"""

from __future__ import annotations

import bisect
import math
from typing import TYPE_CHECKING, Final

from ._turn_words import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LEFT, RIGHT = 12.0, 28.0
_WIDTH: Final = 1160.0
"""Pixels that the chart has at least."""
_WIDEST: Final = 20_000.0
_NARROW: Final = 4.0
"""Pixels that a gap between two records has at least, unless they are closer than `_INSTANT`."""
_WIDE_ENOUGH: Final = 24.0
"""Pixels that all but the shortest phases should have; what is longer than needed is cut for that."""
_WORTH_IT: Final = 0.6
"""What cuts have to leave of the whole length at most: else there are none."""
_INSTANT: Final = 0.02


class Scale:
    """Maps seconds to pixels, monotonically: linear between any two of the given instants.

    Args:
        instants: When something happened.
        durations: What one wants to see the length of.
    """

    def __init__(self, instants: Iterable[float], durations: Iterable[float] = ()) -> None:
        self._times = sorted(set(instants)) or [0.0]
        gaps = [after - before for before, after in zip(self._times, self._times[1:], strict=False)]
        self._cap, self.per_second = _choose(gaps, durations)
        floor = min(_NARROW, _WIDEST / (len(gaps) or 1))
        widths = [
            max(_drawn(gap, self._cap) * self.per_second, floor if gap >= _INSTANT else 0.0) for gap in gaps
        ]  # a short gap is wider than its share, a long one narrower
        stretch = max(1.0, _WIDTH / sum(widths)) if sum(widths) else 1.0
        self._places = [LEFT]
        for width in widths:
            self._places.append(self._places[-1] + width * stretch)
        self.per_second *= stretch

    @property
    def width(self) -> float:
        """The width of the canvas."""
        return max(self._places[-1], LEFT + _WIDTH) + RIGHT

    def x(self, time: float) -> float:
        """Return the place of an instant; of one before the first or after the last, theirs."""
        times, places = self._times, self._places
        n = bisect.bisect_right(times, time)
        if n == 0:
            return places[0]
        if n == len(times):
            return places[-1]
        share = (time - times[n - 1]) / (times[n] - times[n - 1])
        return min(places[n - 1] + share * (places[n] - places[n - 1]), places[n])

    def labels(self) -> Iterable[tuple[float, str]]:
        """Yield places with round times, not too close to each other."""
        step = _round_step(80 / self.per_second) if self.per_second else 1.0
        latest = -math.inf
        for before, after in zip(self._times, self._times[1:], strict=False):
            if _drawn(after - before, self._cap) < after - before:
                continue
            for n in range(math.ceil(before / step), math.floor(after / step) + 1):
                x = self.x(n * step)
                if x - latest >= 64:
                    yield x, f"{round(n * step, 6):g} s"
                    latest = x

    def cuts(self) -> Iterable[tuple[float, str]]:
        """Yield the middle of each stretch that was cut short, and how long it is."""
        for before, after in zip(self._times, self._times[1:], strict=False):
            if _drawn(after - before, self._cap) < after - before:
                yield (self.x(before) + self.x(after)) / 2, duration(after - before)


def _choose(gaps: Sequence[float], durations: Iterable[float]) -> tuple[float, float]:
    """Return how long a gap is drawn that is cut, and the pixels of a second, so that what is short can be seen."""
    if not gaps:
        return math.inf, 0.0
    seen = sorted(length for length in durations if length >= _INSTANT) or [max(gaps)]
    short = seen[len(seen) // 4]
    cap, uncut = math.inf, sum(gaps)
    if short * _WIDTH / uncut < _WIDE_ENOUGH:  # then cut, and since the scale is broken anyway, do it well
        cap = max(gaps)
        while short * _WIDTH / _total(gaps, cap) < 3 * _WIDE_ENOUGH and cap > 8 * short:
            cap /= 2
        if _total(gaps, cap) > _WORTH_IT * uncut:
            cap = math.inf
    total = _total(gaps, cap)
    return cap, max(_WIDTH, min(_WIDEST, total * _WIDE_ENOUGH / short)) / total


def _total(gaps: Iterable[float], cap: float) -> float:
    return sum(_drawn(gap, cap) for gap in gaps)


def _drawn(gap: float, cap: float) -> float:
    """Return how much of a gap is drawn: all of it, unless it is worth cutting."""
    return gap if gap <= 2 * cap else cap


def _round_step(seconds: float) -> float:
    power = 10.0 ** math.floor(math.log10(seconds))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= seconds * 0.999)
