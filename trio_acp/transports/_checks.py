"""Checks of the options that more than one transport has."""

from __future__ import annotations

import math
from typing import Any

from trio_acp._errors import InvalidOption

MAX_MESSAGE = 64 * 2**20
"""The default limit of one message, in bytes, or in characters where a transport says so."""


def require_seconds(name: str, value: Any) -> None:
    """Raise `InvalidOption` unless it is a finite, positive number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InvalidOption(
            f"{name} must be a finite number of seconds above 0, not {value!r}", detail=f"invalid-{name}"
        )


def require_max_message(value: Any) -> None:
    """Raise `InvalidOption` unless it is a possible limit of a message."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidOption(
            f"max_message must be a whole number of at least 1, not {value!r}", detail="invalid-max_message"
        )
