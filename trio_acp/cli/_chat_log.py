"""What a chat has seen, and its two forms in a file: Markdown, and a JSON object a line."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from .._errors import InvalidOption
from .._events import ContentDelta, PermissionAnswered, Plan, TextDelta, Thought, ToolCall
from .._outcomes import Completed, Outcome
from .._transcript import outcome_value
from ._export import outcome_words
from ._json import event_line, outcome_line
from ._text import one_line, safe_text

if TYPE_CHECKING:
    from pathlib import Path

    from .._events import Event

LARGEST: Final = 16 * 2**20
"""Characters that are remembered; what comes later is not exported."""


@attrs.frozen
class Prompt:
    """What the user said."""

    text: str


Entry: TypeAlias = "Prompt | Event | Outcome"


class ChatLog:
    """Remembers prompts, events and outcomes in their order, up to `LARGEST` characters."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._pieces: list[str] = []  # of the message or thought that is the last entry
        self._size = 0
        self.full = False

    def add(self, entry: Entry) -> None:
        """Remember an entry; pieces of one message become one."""
        size = len(entry.text) if isinstance(entry, TextDelta | Thought | Prompt) else len(repr(entry))
        self.full = self.full or self._size + size > LARGEST
        if self.full:
            return
        self._size += size
        last = self._entries[-1] if self._entries else None
        if isinstance(entry, TextDelta | Thought):
            if type(last) is type(entry) and last.message_id == entry.message_id:
                self._pieces.append(entry.text)
                return
            self._join()
            self._pieces = [entry.text]
        else:
            self._join()
        self._entries.append(entry)

    def _join(self) -> None:
        """Put the pieces of the last message together."""
        last = self._entries[-1] if self._pieces else None
        if isinstance(last, TextDelta | Thought):
            self._entries[-1] = attrs.evolve(last, text="".join(self._pieces))
        self._pieces = []

    def text(self, path: Path) -> str:
        """Return everything in the form that a file's name asks for.

        Raises:
            InvalidOption: the name says neither form.
        """
        self._join()
        match path.suffix.lower():
            case ".md":
                return self._markdown()
            case ".jsonl":
                return "".join(map(_json_line, self._entries))
            case _:
                raise InvalidOption(f"the file's name ends in .md or .jsonl, not {path.name!r}", detail="invalid-file")

    def _markdown(self) -> str:
        calls = {entry.id: entry for entry in self._entries if isinstance(entry, ToolCall)}
        plans = [entry for entry in self._entries if isinstance(entry, Plan)]
        parts = []
        for entry in self._entries:
            if isinstance(entry, ToolCall):  # where it began, as it ended
                last = calls.pop(entry.id, None)
                parts.append("" if last is None else f"- {last.status}: {one_line(last.title)}")
            elif not isinstance(entry, Plan) or entry is plans[-1]:
                parts.append(_markdown_part(entry))
        text = "\n\n".join(part for part in parts if part)
        return f"{text}\n" if text else ""


def write_new(path: Path, text: str) -> None:
    """Write a new file, readable by its owner alone.

    Raises:
        OSError: it cannot be written, or is there already.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)


def _markdown_part(entry: Entry) -> str:
    match entry:
        case Prompt(text=text):
            return f"## You\n\n{safe_text(text, multiline=True)}\n\n## Agent"
        case TextDelta(text=text):
            return safe_text(text, multiline=True)
        case Thought(text=text):
            return "\n".join(f"> {line}" for line in safe_text(text, multiline=True).split("\n"))
        case Plan(entries=entries):
            return "\n".join(f"- [{'x' if e.status == 'completed' else ' '}] {one_line(e.content)}" for e in entries)
        case PermissionAnswered():
            return f"- permission, {entry.decision}: {one_line(entry.tool_call.title)}"
        case ContentDelta(role="agent", content=content):
            return f"({type(content).__name__})"
        case Completed(stop_reason="end_turn"):
            return ""
        case _ if isinstance(entry, Outcome):
            return f"*{outcome_words(outcome_value(entry))}*"
        case _:
            return ""


def _json_line(entry: Entry) -> str:
    if isinstance(entry, Prompt):
        return json.dumps({"type": "prompt", "text": entry.text}) + "\n"
    return outcome_line(entry) if isinstance(entry, Outcome) else event_line(entry)
