"""What a transcript keeps: the prompt of a turn, what the agent streamed, and how it ended, as JSON values."""

from __future__ import annotations

import re
from typing import Any, Literal, TypeAlias

import attrs

from ._errors import TurnTimedOut
from ._events import ContentBlock, Event, TextContent
from ._outcomes import Completed, Failed, Outcome, Stopped, TimedOut

EntryKind: TypeAlias = Literal["prompt", "event", "outcome"]
"""What a `TranscriptEntry` has: the first, any number of the second, and, of a turn that ended, the third."""


@attrs.frozen(kw_only=True)
class TranscriptEntry:
    """One thing that was said or happened in a turn.

    Attributes:
        session: The session's key.
        turn: The turn's request id.
        seq: Its place in the turn, from 0, which is the prompt; no two entries of a turn have the same.
        time: When, wall-clock, in seconds since the epoch.
        kind: ``prompt``, ``event`` or ``outcome``; the last entry of a turn that
            ended is its outcome.
        body: A JSON object with a ``type``.
    """

    session: str
    turn: str
    seq: int
    time: float
    kind: EntryKind
    body: dict[str, Any]


def event_value(event: Event) -> dict[str, Any]:
    """Return an event as JSON: ``{"type": "text_delta", "text": ...}``.  Members that are None are left out."""
    value: dict[str, Any] = _value(event)
    return value


def prompt_value(prompt: tuple[ContentBlock, ...]) -> dict[str, Any]:
    """Return a prompt: its text in full; of each attachment what it is, without its contents."""
    text = "\n".join(block.text for block in prompt if isinstance(block, TextContent))
    value: dict[str, Any] = {"type": "prompt", "text": text}
    attached = [_without_contents(_value(block)) for block in prompt if not isinstance(block, TextContent)]
    return value | ({"attachments": attached} if attached else {})


def outcome_value(outcome: Outcome) -> dict[str, Any]:
    """Return how a turn ended: ``{"type": "outcome", "outcome": "completed", "stop_reason": ...}``."""
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
            late = isinstance(error, TurnTimedOut) or error.detail == "setup-timeout"
            told["outcome"] = "timed_out" if late else "failed"
            told["error"] = {"code": error.code, "detail": error.detail, "message": str(error)}
    return told


def _value(value: Any) -> Any:
    if attrs.has(type(value)):
        members = {field.name: _value(getattr(value, field.name)) for field in attrs.fields(type(value))}
        return {"type": _snake_case(type(value).__name__)} | {k: v for k, v in members.items() if v is not None}
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    return value


def _without_contents(block: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in block.items() if name in {"type", "name", "title", "uri", "mime_type"}}


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=.)(?=[A-Z])", "_", name).lower()
