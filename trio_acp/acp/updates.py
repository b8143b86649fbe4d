"""The frequent updates, read by hand: several times quicker than by the rules, and to the same values.

The reference is `codec.structure_update`.  A function here either returns what
that would return, or None to leave it to it: for whatever is not in order or
not frequent, so that what is forgiven, dropped or told as an error is decided
in one place.  A test holds both against each other for any input.

Everything here is synchronous: nothing waits, so nothing can be cancelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trio_acp import _events as ev

from . import schema
from .codec import structure_update
from .leniency import CLOSED_SETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_acp._errors import InvalidMessage

    from .codec import Update

_KINDS: Final = CLOSED_SETS[ev.ToolCall, "kind"]
_STATUSES: Final = CLOSED_SETS[ev.ToolCall, "status"]
_PRIORITIES: Final = CLOSED_SETS[ev.PlanEntry, "priority"]
_PROGRESS: Final = CLOSED_SETS[ev.PlanEntry, "status"]


class _NotPlain(Exception):
    """Something here is for the reference."""


def read_update(raw: object, *, on_invalid: Callable[[InvalidMessage], None] | None = None) -> Update:
    """Make an event of the ``update`` of a ``session/update``.  Never fails: see `codec.structure_update`."""
    if type(raw) is dict and type(kind := raw.get("sessionUpdate")) is str and kind in _READERS:
        try:
            return _READERS[kind](raw)
        except _NotPlain:
            pass
    return structure_update(raw, on_invalid=on_invalid)


def _text(content: Any) -> str:
    """Return the text of a text block."""
    if type(content) is not dict or content.get("type") != "text" or type(text := content.get("text")) is not str:
        raise _NotPlain
    return text


def _chunk(of_text: Callable[[str, str | None], ev.Event]) -> Callable[[dict[str, Any]], ev.Event]:
    def read(raw: dict[str, Any]) -> ev.Event:
        given = raw.get("messageId")
        return of_text(_text(raw.get("content")), given if type(given) is str else None)

    return read


def _one_of(raw: dict[str, Any], name: str, allowed: frozenset[str]) -> str | None:
    given = raw.get(name)
    return given if type(given) is str and given in allowed else None


def _string(raw: dict[str, Any], name: str) -> str:
    given = raw.get(name)
    if type(given) is not str:
        raise _NotPlain
    return given


def _optional(raw: dict[str, Any], name: str) -> str | None:
    given = raw.get(name)
    return given if type(given) is str else None


def _content(raw: dict[str, Any]) -> tuple[ev.ToolCallContent, ...] | None:
    given = raw.get("content")
    return tuple(map(_piece, given)) if type(given) is list else None


def _piece(raw: Any) -> ev.ToolCallContent:
    match raw:
        case {"type": "content", "content": content}:
            return ev.ToolContent(content=ev.TextContent(text=_text(content)))
        case {"type": "diff"}:
            return ev.ToolDiff(
                path=_string(raw, "path"), new_text=_string(raw, "newText"), old_text=_optional(raw, "oldText")
            )
        case {"type": "terminal"}:
            return ev.ToolTerminal(terminal_id=_string(raw, "terminalId"))
    raise _NotPlain


def _locations(raw: dict[str, Any]) -> tuple[ev.Location, ...] | None:
    given = raw.get("locations")
    return tuple(map(_location, given)) if type(given) is list else None


def _location(raw: Any) -> ev.Location:
    if type(raw) is not dict:
        raise _NotPlain
    line = raw.get("line")
    if line is not None and (type(line) is not int or line < 0):
        raise _NotPlain
    return ev.Location(path=_string(raw, "path"), line=line)


def _tool_call(raw: dict[str, Any]) -> ev.ToolCall:
    return ev.ToolCall(
        id=_string(raw, "toolCallId"),
        title=_string(raw, "title"),
        kind=_one_of(raw, "kind", _KINDS) or "other",
        status=_one_of(raw, "status", _STATUSES) or "pending",
        name=_optional(raw, "name"),
        content=_content(raw) or (),
        locations=_locations(raw) or (),
        raw_input=raw.get("rawInput"),
        raw_output=raw.get("rawOutput"),
    )


def _tool_call_update(raw: dict[str, Any]) -> schema.ToolCallUpdate:
    return schema.ToolCallUpdate(
        id=_string(raw, "toolCallId"),
        title=_optional(raw, "title"),
        kind=_one_of(raw, "kind", _KINDS),
        status=_one_of(raw, "status", _STATUSES),
        name=_optional(raw, "name"),
        content=_content(raw),
        locations=_locations(raw),
        raw_input=raw.get("rawInput"),
        raw_output=raw.get("rawOutput"),
    )


def _plan(raw: dict[str, Any]) -> ev.Plan:
    given = raw.get("entries")
    if type(given) is not list:
        raise _NotPlain
    return ev.Plan(entries=tuple(map(_entry, given)))


def _entry(raw: Any) -> ev.PlanEntry:
    if type(raw) is not dict:
        raise _NotPlain
    priority, status = _one_of(raw, "priority", _PRIORITIES), _one_of(raw, "status", _PROGRESS)
    if priority is None or status is None:
        raise _NotPlain
    return ev.PlanEntry(content=_string(raw, "content"), priority=priority, status=status)


_READERS: Final[dict[str, Callable[[dict[str, Any]], Update]]] = {
    "agent_message_chunk": _chunk(ev.TextDelta),
    "agent_thought_chunk": _chunk(ev.Thought),
    "user_message_chunk": _chunk(ev.UserText),
    "tool_call": _tool_call,
    "tool_call_update": _tool_call_update,
    "plan": _plan,
}
