"""A transcript as a document: Markdown for people, JSON lines for programs."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from ._answers import DECIDED
from ._json import json_line
from ._stored import agent_of, stamp
from ._text import one_line, safe_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from .._records import SessionRecord
    from .._transcript import TranscriptEntry

_SPECIAL: Final = re.compile(r"([\\`*_\[\]<>#|])")
_MARKS: Final = {"completed": "x"}


def as_jsonl(record: SessionRecord, entries: Sequence[TranscriptEntry]) -> str:
    """Return a line for each entry: where it belongs, and the JSON object that it is."""
    lines = []
    for entry in entries:
        place: dict[str, Any] = {"session": record.key, "turn": entry.turn, "seq": entry.seq}
        when = {"time": entry.time} if entry.time else {}  # of what was replayed nobody told
        lines.append(json_line({**place, **when, **entry.body}))
    return "".join(lines)


def as_markdown(record: SessionRecord, entries: Sequence[TranscriptEntry]) -> str:
    """Return a document with a section for each turn; what the agent said is Markdown as it is."""
    blocks = [f"# {_inline(record.key)}"]
    facts = [("Agent", agent_of(record)), ("Directory", record.working_directory), ("Session id", record.session_id)]
    blocks.append("\n".join(f"- {name}: {_inline(value)}" for name, value in facts if value))
    for number, (_, turn) in enumerate(groupby(entries, key=lambda entry: entry.turn), 1):
        blocks.extend(_turn(number, list(turn)))
    return "\n\n".join(blocks) + "\n"


EXPORTS: Final[Mapping[str, Callable[[SessionRecord, Sequence[TranscriptEntry]], str]]] = {
    "markdown": as_markdown,
    "jsonl": as_jsonl,
}
"""What makes the document, by the name of its format; the first is the default."""


def _turn(number: int, entries: Sequence[TranscriptEntry]) -> Iterator[str]:
    when = stamp(entries[0].time)
    yield f"## Turn {number}{f', {when}' if when else ''}"
    # A tool call is told again with each change: what counts is its last word, where it began.
    last = {entry.body.get("id"): entry.body for entry in entries if entry.body.get("type") == "tool_call"}
    for kind, run in groupby(_once(entries), key=lambda body: body.get("type")):
        bodies = list(run)
        match kind:
            case "text_delta" | "thought" | "user_text":
                text = safe_text("".join(str(body.get("text", "")) for body in bodies), multiline=True).strip("\n")
                if text:
                    yield _quoted(text, "*Thinking:* ") if kind == "thought" else text
            case "tool_call":
                yield "\n".join(_tool(last[body.get("id")]) for body in bodies)
            case _:
                yield from filter(None, map(_other, bodies))
    if when and entries[-1].kind != "outcome":
        yield "*Its end was not recorded: it runs, or was interrupted*"


def _once(entries: Iterable[TranscriptEntry]) -> Iterator[Mapping[str, Any]]:
    seen: set[object] = set()
    for entry in entries:
        if entry.body.get("type") == "tool_call":
            if entry.body.get("id") in seen:
                continue
            seen.add(entry.body.get("id"))
        yield entry.body


def _tool(body: Mapping[str, Any]) -> str:
    places = ", ".join(_inline(place.get("path", "")) for place in body.get("locations", ()))
    where = f" ({places})" if places else ""
    return f"- **{_inline(body.get('kind', 'other'))}**: {_inline(body.get('title', ''))}{where}, " + _inline(
        body.get("status", "")
    )


def _other(body: Mapping[str, Any]) -> str:
    match body.get("type"):
        case "prompt":
            names = [attached.get("uri") or attached.get("type") for attached in body.get("attachments", ())]
            attached = "".join(f"\n> - attached: {_inline(name)}" for name in names)
            return _quoted(safe_text(body.get("text", ""), multiline=True), "**You:** ") + attached
        case "plan":
            steps = [
                f"- [{_MARKS.get(step.get('status'), ' ')}] {_inline(step.get('content', ''))}"
                for step in body.get("entries", ())
            ]
            return "\n".join(["Plan:", "", *steps])
        case "permission_answered":
            rule = f" ({_inline(body['rule'])})" if body.get("rule") else ""
            title = _inline(body.get("tool_call", {}).get("title", ""))
            return f"- permission {DECIDED.get(body.get('decision', ''), '')}: {title}{rule}"
        case "content_delta":
            return f"*Not shown: {_inline(body.get('content', {}).get('type', ''))}*"
        case "outcome":
            return f"*{_outcome_words(body)}*"
        case _:
            return ""


def _outcome_words(body: Mapping[str, Any]) -> str:
    """Say how a turn ended."""
    outcome, reason = body.get("outcome"), body.get("stop_reason")
    missing = f"; {body['missing_events']} events are missing" if body.get("missing_events") else ""
    match outcome:
        case "completed":
            words = "Completed" if reason == "end_turn" else f"Completed: {_inline(reason)}"
        case "stopped":
            words = f"Stopped by {_inline(body.get('by', ''))}"
        case "timed_out":
            words = "Timed out"
        case _:
            words = f"Failed: {_inline((body.get('error') or {}).get('message', ''))}"
    return words + missing


def _quoted(text: str, before: str) -> str:
    first, *rest = text.split("\n")
    return "\n".join([f"> {before}{first}", *(f"> {line}".rstrip() for line in rest)])


def _inline(text: object) -> str:
    """Put what an agent called something on one line, where it is nothing but text to Markdown too."""
    return _SPECIAL.sub(r"\\\1", one_line(str(text)))
