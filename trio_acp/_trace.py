"""The vocabulary of the trace: every record a session can emit, in one place.

A turn emits, in this order (the middle ones as they apply)::

    admitted  withdrawn  dequeued  setup  ready  submitted  first_event
    cause  retried  decided
    ladder.cancel  ladder.join  ladder.stop  straggler
    ladder.close  suspect
    settled  released

``resume_failed`` follows a ``setup``, ``store_failed`` may come anywhere, and a
``cause`` that is not the first one until the turn is settled.  ``event`` comes
for each event, from ``first_event`` on, if the instrument asked for them.

Every turn that was ``admitted`` is ``settled`` exactly once.  ``settled``
carries the outcome; ``cause`` carries each request to stop that was accepted,
so a turn may have several although only the first one decided.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import attrs

TraceName: TypeAlias = Literal[
    "admitted",
    "withdrawn",
    "dequeued",
    "setup",
    "ready",
    "submitted",
    "first_event",
    "event",
    "cause",
    "retried",
    "ladder.cancel",
    "ladder.join",
    "ladder.stop",
    "ladder.close",
    "suspect",
    "straggler",
    "store_failed",
    "resume_failed",
    "decided",
    "settled",
    "released",
]

MEANING: Final[dict[TraceName, str]] = {
    "admitted": "the request entered its session's queue",
    "withdrawn": "the request was stopped while it still waited; nothing happened",
    "dequeued": "the request owns the session's lane; the deadline starts here (data: limits)",
    "setup": "a call to open or resume the backend session was started (data: agent; resume, its id)",
    "ready": "a backend handle is at hand (data: agent)",
    "submitted": "the prompt was handed to the adapter",
    "first_event": "the adapter sent its first event",
    "event": "the adapter sent an event; only for an instrument that hears them (data: kind)",
    "cause": "somebody or something asked for the turn's end (data: cause, reason, retryable, stop_reason, error)",
    "retried": "the attempt failed before anything was started; one more begins, with an empty log",
    "ladder.cancel": "the adapter was asked to stop the turn",
    "ladder.join": "the adapter's turn is given `join` seconds to end by itself",
    "ladder.stop": "the adapter's turn was cancelled",
    "ladder.close": "the handle is being closed",
    "suspect": "the handle still owes an answer and will not be reused as it is",
    "straggler": "a call did not end although it was cancelled (data: call)",
    "store_failed": "session metadata could not be written (data: error)",
    "resume_failed": "the stored backend session could not be resumed; a new one is opened",
    "decided": "the outcome is fixed (data: cause, the first one; limits, those in force; oneshot)",
    "settled": "the caller may go on; nothing more of the turn is accepted (data: outcome; by, detail)",
    "released": "the lane is free for the next request",
}


@attrs.frozen(kw_only=True)
class TraceRecord:
    """One thing that happened.

    Attributes:
        name: One of the names above.
        time: Trio's clock, seconds.
        session: The session's key.
        turn: The id of the turn, or of the request.
        data: Details, depending on `name`.
    """

    name: TraceName
    time: float
    session: str
    turn: str
    data: dict[str, Any] = attrs.field(factory=dict)
