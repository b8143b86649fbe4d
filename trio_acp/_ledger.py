"""What is written about a background task: its prompt and progress, shortened, and how it ended.

Synchronous and without I/O.  `_background.py` decides when.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from ._outcomes import Completed, Failed, Stopped, TimedOut

if TYPE_CHECKING:
    from ._outcomes import Outcome
    from ._tasks import TaskRecord

TASK_LENGTH: Final = 160
PROGRESS_LENGTH: Final = 240
_UNTITLED: Final = "ACP background task"


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def prompt_summary(prompt: str) -> str:
    """Return a prompt in 160 characters at most; white space inside it is kept."""
    return _shortened(prompt.strip(), TASK_LENGTH) or _UNTITLED


class Progress:
    """The beginning of what an agent says, while it says it.

    The pieces are joined as they are, for an agent cuts words anywhere.  Runs
    of white space, also across two pieces, become one space; there is none at
    either end.  More than 240 characters become 239 and an ellipsis, and from
    then on nothing is looked at.
    """

    # Long words come in several matches, so that no match is longer than what is shown.
    _PIECES: Final = re.compile(rf"\s+|\S{{1,{PROGRESS_LENGTH}}}")

    def __init__(self) -> None:
        self.text = ""
        self._space_pending = False
        self._full = False

    def add(self, chunk: str) -> None:
        """Take the next piece of the message.  What it costs does not depend on what was said before."""
        if self._full:
            return
        text = self.text
        for piece in self._PIECES.finditer(chunk):
            if chunk[piece.start()].isspace():
                self._space_pending = bool(text)
                continue
            text += f" {piece.group()}" if self._space_pending else piece.group()
            self._space_pending = False
            if len(text) > PROGRESS_LENGTH:
                text = _shortened(text, PROGRESS_LENGTH)
                self._full = True
                break
        self.text = text


# -- the end ------------------------------------------------------------------

# A turn that ended well is called blocked if the agent says so in one of these ways, for agents have no other.
# Nothing but what the ledger shows depends on these patterns.
_DENIED: Final = re.compile(r"\b(?:write failed:\s*)?permission denied\b(?: for (?P<path>\S+))?", re.IGNORECASE)
_READ_ONLY: Final = re.compile(r"\b(?:need a writable session|filesystem authorization|apply_patch)\b", re.IGNORECASE)


def blocked_because(progress: str) -> str | None:
    """Return why the agent says that it could not do what was asked; None if it does not say so."""
    if denied := _DENIED.search(progress):
        path = (denied["path"] or "").rstrip(".,;:!?")
        return f"Permission denied for {path}." if path else "Permission denied."
    if _READ_ONLY.search(progress):
        return "Writable session or apply_patch authorization required."
    return None


def settled(task: TaskRecord, outcome: Outcome, now: float) -> TaskRecord:
    """Return the record of a task whose turn ended so; `now` in seconds since the epoch."""
    if not task.is_open:
        return task
    task = attrs.evolve(task, ended=now, last_event=now)
    match outcome:
        case Completed():
            summary = blocked_because(task.progress or "")
            return attrs.evolve(task, status="succeeded", summary=summary, outcome="blocked" if summary else None)
        case Stopped(reason=reason):
            return attrs.evolve(task, status="cancelled", error=reason)
        case TimedOut(limits=limits):
            return attrs.evolve(task, status="timed_out", error=f"the turn timed out after {limits.turn:g} s")
        case Failed(error=error):
            return attrs.evolve(task, status="failed", error=str(error))


def interrupted(task: TaskRecord, now: float) -> TaskRecord:
    """Return the record of a task whose owner died; `now` in seconds since the epoch."""
    return attrs.evolve(task, status="failed", ended=now, error="interrupted") if task.is_open else task
