"""Events and outcomes as JSON objects with a ``type``, one a line."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import attrs

from .._outcomes import Completed, Failed, Outcome, Stopped, TimedOut
from ._exits import TIMEOUT, exit_code

if TYPE_CHECKING:
    from .._events import Event


def event_line(event: Event) -> str:
    """Return an event as a line: ``{"type": "text_delta", "text": ...}``.  Members that are None are left out."""
    return _line(_value(event))


def outcome_line(outcome: Outcome) -> str:
    """Return the last line: how the turn ended."""
    told: dict[str, Any] = {"type": "outcome", "outcome": "", "stop_reason": None}
    match outcome:
        case Completed(stop_reason=reason):
            told |= {"outcome": "completed", "stop_reason": reason}
        case Stopped():
            told |= {"outcome": "stopped", "stop_reason": outcome.agent_stop_reason}
            told |= {"by": outcome.by, "reason": outcome.reason}
        case TimedOut():
            told |= {"outcome": "timed_out", "cleanup": outcome.cleanup}
        case Failed(error=error):
            told["outcome"] = "timed_out" if exit_code(error) == TIMEOUT else "failed"
            told["error"] = {"code": error.code, "detail": error.detail, "message": str(error)}
    return _line(told)


def _line(value: Any) -> str:
    # ASCII only: what an agent wrote cannot do anything to a terminal, and every locale can show it.
    return json.dumps(value, ensure_ascii=True) + "\n"


def _value(value: Any) -> Any:
    if attrs.has(type(value)):
        members = {field.name: _value(getattr(value, field.name)) for field in attrs.fields(type(value))}
        return {"type": _snake_case(type(value).__name__)} | {k: v for k, v in members.items() if v is not None}
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    return value


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=.)(?=[A-Z])", "_", name).lower()
