"""What a ledger keeps: one record for each turn that works on another session's behalf."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

if TYPE_CHECKING:
    from ._records import Owner

TaskStatus: TypeAlias = Literal["running", "succeeded", "failed", "timed_out", "cancelled"]
"""``running``, or how a task ended: ``cancelled`` for `Stopped`, the others for what they are called by."""

TaskOutcome: TypeAlias = Literal["blocked"]
"""What more can be said of a task that ``succeeded``; see `TaskRecord`."""


@attrs.frozen(kw_only=True)
class TaskRecord:
    """A turn as the session that asked for it sees it.

    All times are wall-clock, in seconds since the epoch.

    Attributes:
        run_id: The turn's request id; no two tasks have the same.
        requester: The key of the session on whose behalf it runs.
        session: The key of the session that runs it.
        label: That session's name for people.
        task: The prompt, shortened.
        status: ``running``, or how it ended; only a running task ever changes.
        started: When its turn left the queue.
        last_event: When the agent last said or did something.
        ended: When it ended; None exactly while it is running.
        error: Why it failed, timed out, or was cancelled, if that was said.
        progress: What the agent has said so far, shortened.
        summary: The end in one sentence, where there is more to say than `status`.
        outcome: ``blocked`` if the turn ended well but, by the agent's own
            words, could not do what was asked.
        owner: Who runs it, or ran it.
    """

    run_id: str
    requester: str
    session: str
    label: str | None = None
    task: str
    status: TaskStatus = "running"
    started: float
    last_event: float | None = None
    ended: float | None = None
    error: str | None = None
    progress: str | None = None
    summary: str | None = None
    outcome: TaskOutcome | None = None
    owner: Owner | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.status == "running"
