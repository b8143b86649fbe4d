"""Counting turns: every admitted turn is counted in exactly one column at any time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import attrs

from ._outcomes import Completed, Failed, Outcome, Stopped, TimedOut

if TYPE_CHECKING:
    from collections.abc import Mapping


@attrs.frozen
class CapacityUse:
    """How full a manager is.

    Attributes:
        taken: Backend sessions that are open, being opened or being closed.
        limit: How many of them there may be (`Settings.max_sessions`); None for any number.
    """

    taken: int
    limit: int | None


@attrs.frozen(kw_only=True)
class Statistics:
    """What a manager has done so far; a copy that does not change.

    ``submitted == queued + active + completed + failed + timed_out + stopped``
    holds at every instant.

    Attributes:
        submitted: Turns admitted.
        queued: Turns that wait for their lane.
        active: Turns between leaving the queue and settling.
        completed: Turns the agent ended by itself.
        failed: Turns that ended with an error.
        timed_out: Turns that exceeded their deadline.
        stopped: Turns somebody stopped, withdrawn ones included.
        depth: ``queued + active``.
        latency_total: Seconds from leaving the queue to settling, summed over settled turns.
        latency_average: Their mean, seconds; 0 if no started turn has settled yet.
        latency_max: The longest of them, seconds.
        errors_by_code: How often failed and timed-out turns had each code.
        controls: Operations other than turns that were carried out.
        stragglers: Calls into runtimes that did not end although cancelled, ever.
        stragglers_now: Those of them that still have not ended.
        suspects: Open handles that owe an answer now.
        store_failures: Writes of metadata that failed or exceeded their deadline.
        ledger_failures: Writes of tasks that did.
        audit_failures: Writes into the audit log that did; they are tried again.
        transcript_failures: Writes into the transcript that did, likewise.
        open_handles: Live backend sessions.
        idle_ttl: Seconds after which an idle one is closed (`Settings.idle_ttl`).
        evicted: Backend sessions closed because they were idle.
        last_evicted: When that happened last, in seconds of Trio's clock; None if never.
        capacity: Slots for backend sessions: how many are taken, and how many there are.
    """

    submitted: int
    queued: int
    active: int
    completed: int
    failed: int
    timed_out: int
    stopped: int
    depth: int
    latency_total: float
    latency_average: float
    latency_max: float
    errors_by_code: Mapping[str, int]
    controls: int
    stragglers: int
    stragglers_now: int
    suspects: int
    store_failures: int
    ledger_failures: int
    audit_failures: int
    transcript_failures: int
    open_handles: int
    idle_ttl: float
    evicted: int
    last_evicted: float | None
    capacity: CapacityUse


@attrs.define
class TurnCounters:
    """The running counts behind `Statistics`."""

    submitted: int = 0
    queued: int = 0
    active: int = 0
    completed: int = 0
    failed: int = 0
    timed_out: int = 0
    stopped: int = 0
    measured: int = 0
    latency_total: float = 0.0
    latency_max: float = 0.0
    errors_by_code: Counter[str] = attrs.field(factory=Counter)
    controls: int = 0
    store_failures: int = 0
    ledger_failures: int = 0
    evicted: int = 0
    last_evicted: float | None = None

    def admitted(self) -> None:
        """A turn entered its queue."""
        self.submitted += 1
        self.queued += 1

    def dequeued(self) -> None:
        """A turn left its queue for its lane."""
        self.queued -= 1
        self.active += 1

    def settled(self, outcome: Outcome, started: float | None, now: float) -> None:
        """A turn ended; `started` is None if it never left its queue."""
        if started is None:
            self.queued -= 1
        else:
            self.active -= 1
            latency = max(0.0, now - started)
            self.measured += 1
            self.latency_total += latency
            self.latency_max = max(self.latency_max, latency)
        match outcome:
            case Completed():
                self.completed += 1
            case Stopped():
                self.stopped += 1
            case TimedOut():
                self.timed_out += 1
                self.errors_by_code["ACP_TURN_FAILED"] += 1
            case Failed(error=error):
                self.failed += 1
                self.errors_by_code[error.code] += 1
