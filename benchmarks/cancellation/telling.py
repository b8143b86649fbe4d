"""What a side tells of one run.

Only the standard library is used, as in `plan`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field


@dataclass
class Told:
    """What a side tells of one run.  Times are of the clock that all processes share, in seconds.

    Attributes:
        library: The library and its version.
        struck_at: When the call was cancelled, its time was over, or closing began; None if the agent struck.
        closing_at: When closing began; None where it is not what the scenario is about.
        ended_at: When the call had ended; None if it had not within `GIVE_UP`.
        ended_as: How: the exception or the outcome.
        cancelled: Whether the caller of the call was cancelled.
        swallowed: Whether the caller's cancellation did not come out of the call.
        handler_cancelled: Whether the permission handler was cancelled; None if it was not called.
        tidied_up: Whether the handler's clean-up was left to end; None if it had none.
        delivered: When the application got which text.
        next_as: How the prompt after it ended; None if there was none.
        warnings: How many warnings the library logged.
        watched_until: When the side stopped watching and began to close what it had opened.
        left_at: When all that was closed.
    """

    library: str
    struck_at: float | None = None
    closing_at: float | None = None
    ended_at: float | None = None
    ended_as: str = "did not end"
    cancelled: bool = False
    swallowed: bool = False
    handler_cancelled: bool | None = None
    tidied_up: bool | None = None
    delivered: list[tuple[float, str]] = field(default_factory=list)
    next_as: str | None = None
    warnings: int = 0
    watched_until: float = 0.0
    left_at: float = 0.0

    def dump(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self))


def load(line: str) -> Told:
    """Read what `Told.dump` wrote."""
    return Told(**json.loads(line))


class CountWarnings(logging.Handler):
    """Counts what a library finds worth a warning, for `Told.warnings`."""

    def __init__(self, told: Told) -> None:
        super().__init__(logging.WARNING)
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        self._told.warnings += 1
