"""What a chat has seen, as a transcript that `_export` makes a document of."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Final

import attrs

from .._events import TextDelta, Thought
from .._transcript import TranscriptEntry, event_value, outcome_value

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .._events import Event
    from .._outcomes import Outcome
    from .._transcript import EntryKind

LARGEST: Final = 16 * 2**20
"""Characters that are remembered; what comes later is not exported."""


class ChatLog:
    """Remembers prompts, events and outcomes in their order, up to `LARGEST` characters.

    Args:
        key: The session's.
        wall_clock: Seconds since the epoch.

    Attributes:
        full: Whether something came that is not remembered.
    """

    def __init__(self, key: str, wall_clock: Callable[[], float] = time.time) -> None:
        self.full = False
        self._key = key
        self._wall_clock = wall_clock
        self._entries: list[TranscriptEntry] = []
        self._last: TextDelta | Thought | None = None  # what further pieces of its message are added to,
        self._pieces: list[str] = []  # and those pieces
        self._turn = ""
        self._size = 0
        self._seq = 0

    @property
    def entries(self) -> tuple[TranscriptEntry, ...]:
        """All that is remembered."""
        self._join()
        return tuple(self._entries)

    def begin(self, turn: str | None, text: str) -> None:
        """Remember a prompt, whose turn has an id if it came as far as that."""
        self._turn, self._seq = turn or uuid.uuid4().hex, 0
        self._add("prompt", {"type": "prompt", "text": text}, len(text))

    def add(self, event: Event) -> None:
        """Remember an event; pieces of one message become one."""
        if not isinstance(event, TextDelta | Thought):
            self._add("event", value := event_value(event), len(repr(value)))
        elif type(event) is not type(self._last) or event.message_id != getattr(self._last, "message_id", None):
            self._add("event", event_value(event), len(event.text))
            self._last = event
        elif self._has_room(len(event.text)):
            self._pieces.append(event.text)

    def end(self, outcome: Outcome) -> None:
        """Remember how the turn ended."""
        self._add("outcome", value := outcome_value(outcome), len(repr(value)))

    def _add(self, kind: EntryKind, body: dict[str, Any], size: int) -> None:
        self._join()
        self._last = None
        if self._has_room(size):
            entry = TranscriptEntry(
                session=self._key, turn=self._turn, seq=self._seq, time=self._wall_clock(), kind=kind, body=body
            )
            self._entries.append(entry)
            self._seq += 1

    def _has_room(self, size: int) -> bool:
        self.full = self.full or self._size + size > LARGEST
        self._size += 0 if self.full else size
        return not self.full

    def _join(self) -> None:
        """Put the pieces of the last message together."""
        if self._pieces:
            last = self._entries[-1]
            body = last.body | {"text": last.body["text"] + "".join(self._pieces)}
            self._entries[-1] = attrs.evolve(last, body=body)
            self._pieces = []
