"""Why an agent does not get what it asked for."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

Reason: TypeAlias = Literal["missing", "invalid", "cancelled", "failed"]
"""``missing``: there is no such thing.  ``invalid``: it may not be asked for, or not like that.

``cancelled``: the turn, the session or the request is over.  ``failed``: it was
right to ask, and did not work: a full disk, a limit, a time-out.
"""

_QUOTED: Final = 100


class Refused(Exception):
    """The answer to an agent's request is an error.

    The message is for the agent.  It names what the agent itself has named, and
    tells nothing about what is outside of the session's root.

    Attributes:
        reason: ``missing`` (there is no such thing), ``invalid`` (it may not be
            asked for), ``cancelled`` (its turn is over) or ``failed`` (it did not work).
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


def quoted(word: str) -> str:
    """Return an agent's own word for a message, which is our answer and in the log: the beginning of a long one."""
    return repr(word) if len(word) <= _QUOTED else f"{word[:_QUOTED]!r}... ({len(word)} characters)"
