"""How long a turn may take."""

from __future__ import annotations

import math
from typing import Final

SHORTEST: Final = 1.0
"""Seconds that a session's own timeout gives a turn at least."""

LONGEST: Final = 2_147_000.0
"""Seconds that a session's own timeout gives a turn at most: 24 days.

A stored number may be older than the rules by which options are checked, or
damaged.  Added to a clock, it must neither overflow nor swallow the seconds
that are added after it.
"""


def effective_timeout(*, of_turn: float | None, of_session: float | None, default: float) -> float:
    """Return the seconds that a turn may take: what it was given itself, else its session's option, else the default.

    Args:
        of_turn: Checked; infinite for no limit.
        of_session: As stored.  What is not a positive number says nothing.
        default: Checked; the manager's `Limits.turn`.
    """
    if of_turn is not None:
        return of_turn
    if of_session is None or not of_session > 0 or of_session == math.inf:
        return default
    return float(min(max(of_session, SHORTEST), LONGEST))
