"""How long a ledger keeps tasks that have ended, and an audit log its records."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from .._errors import InvalidOption
from .._limits import is_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

WEEK: Final = 7 * 86_400.0
SWEEP_EVERY: Final = 3_600.0
"""Seconds between two searches for what is too old."""


class Retention:
    """Says what is too old to be shown, and when to look for it in order to delete it.

    Args:
        seconds: How long something is kept after its time; ``math.inf`` keeps it for good.
        wall_clock: Seconds since the epoch.

    Raises:
        InvalidOption: `seconds` is not a positive number.
    """

    def __init__(self, seconds: float, wall_clock: Callable[[], float]) -> None:
        if not is_seconds(seconds):
            raise InvalidOption(f"retention must be more than 0 seconds, not {seconds!r}", detail="invalid-retention")
        self._seconds = seconds
        self._wall_clock = wall_clock
        self._swept = -math.inf

    def oldest(self) -> float:
        """Return the time before which all is too old."""
        return self._wall_clock() - self._seconds

    def due(self) -> bool:
        """Whether what is too old should be deleted now; also if the clock was set back."""
        return self._seconds < math.inf and not 0 <= self._wall_clock() - self._swept < SWEEP_EVERY

    def swept(self) -> None:
        """Note that it was deleted."""
        self._swept = self._wall_clock()
