"""Events and outcomes as JSON objects with a ``type``, one a line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .._transcript import event_value, outcome_value

if TYPE_CHECKING:
    from .._events import Event
    from .._outcomes import Outcome


def event_line(event: Event) -> str:
    """Return an event as a line: ``{"type": "text_delta", "text": ...}``.  Members that are None are left out."""
    return json_line(event_value(event))


def outcome_line(outcome: Outcome) -> str:
    """Return the last line: how the turn ended."""
    return json_line(outcome_value(outcome))


def json_line(value: Any) -> str:
    """Return any JSON value as a line of ASCII: an agent's words do nothing to a terminal, and any locale has it."""
    return json.dumps(value, ensure_ascii=True) + "\n"
