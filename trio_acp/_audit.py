"""What an audit keeps of each decision about what an agent may do: who, where, by which rule; never what it said."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

if TYPE_CHECKING:
    from ._records import Owner

AuditDecision: TypeAlias = Literal["allow", "deny", "cancel"]
"""What an agent was answered: see `AuditEvent`."""


@attrs.frozen(kw_only=True)
class AuditEvent:
    """A decision, as the runtime that acted on it tells it.

    Attributes:
        event: What was asked for: ``permission``.
        decision: What the agent was answered; ``cancel`` also if nobody is left to hear it.
            It is on record as soon as the answer waits to be sent: whether an agent that
            is lost the next moment has read it, nobody can say.
        rule: What decided, in a few words for people.
        title: What the agent called that which it wants to do.  Not kept: see `AuditRecord`.
        session: The session's key, if there is such a session.
        session_id: The ACP session id, if known.
        turn: The request id of the turn; None outside of one.
    """

    event: str
    decision: AuditDecision
    rule: str
    title: str = ""
    session: str | None = None
    session_id: str | None = None
    turn: str | None = None


@attrs.frozen(kw_only=True)
class AuditRecord:
    """A decision, as it is kept for good.

    Attributes:
        id: Unique; putting a record twice keeps it once.
        time: When, wall-clock, in seconds since the epoch.
        owner: The process and manager that answered.
        event: As in `AuditEvent`, like `decision`, `rule`, `session`, `session_id` and `turn`.
        title_sha256: The SHA-256 of the title in UTF-8, as hexadecimal digits: it tells
            whether a title that is known from elsewhere is meant, and nothing else.
    """

    id: str
    time: float
    owner: Owner
    event: str
    decision: AuditDecision
    rule: str
    title_sha256: str
    session: str | None = None
    session_id: str | None = None
    turn: str | None = None


def sha256_of(title: str) -> str:
    """Return the hash of a title; one with halves of surrogate pairs has one too."""
    return hashlib.sha256(title.encode("utf-8", "surrogatepass")).hexdigest()
