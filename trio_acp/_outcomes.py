"""How a turn ended.  Exactly one of four values, decided once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

if TYPE_CHECKING:
    from ._errors import AcpError
    from ._events import ToolCall, Usage
    from ._limits import Limits

StoppedBy: TypeAlias = Literal["caller", "user", "left", "closed", "shutdown", "agent"]
"""Who stopped a turn; `Stopped` says what each means."""

CleanupState: TypeAlias = Literal["finished", "deadline"]


@attrs.frozen
class Completed:
    """The agent ended the turn by itself.

    Attributes:
        stop_reason: The agent's word: ``end_turn``, ``max_tokens``,
            ``max_turn_requests``, ``refusal``, or a newer one.  ACP: ``StopReason``.
    """

    stop_reason: str = "end_turn"


@attrs.frozen(kw_only=True)
class Stopped:
    """Somebody stopped the turn.

    Attributes:
        by: ``caller`` (its task was cancelled), ``user`` (`Session.cancel` or
            `Turn.cancel`), ``left`` (its block was left early), ``closed``
            (`Session.close`), ``shutdown`` (the manager was closed), or
            ``agent`` (it answered ``cancelled`` unasked).
        reason: The words given with the request to stop, if any.
        agent_stop_reason: What the agent answered afterwards, if it did.
    """

    by: StoppedBy
    reason: str | None = None
    agent_stop_reason: str | None = None


@attrs.frozen(kw_only=True)
class TimedOut:
    """The turn exceeded its deadline.

    Attributes:
        limits: The deadlines that were in force.
        cleanup: Whether the agent stopped within the cleanup budget.
    """

    limits: Limits
    cleanup: CleanupState


@attrs.frozen
class Failed:
    """The turn ended with an error.

    Attributes:
        error: Why; a `TurnFailed` is raised with it as its cause.
    """

    error: AcpError


Outcome: TypeAlias = Completed | Stopped | TimedOut | Failed
"""How a turn ended: `Turn.outcome`."""


@attrs.frozen(kw_only=True)
class Reply:
    """A whole turn, collected.  ``str(reply)`` is the text.

    Attributes:
        text: The agent's message, joined verbatim.
        outcome: `Completed` or `Stopped`; the other two are raised instead.
        usage: The last usage the agent reported, if any.
        tool_calls: The last state of each tool call, in order of appearance; of more than
            1,024, the oldest that have finished are left out.
    """

    text: str
    outcome: Outcome
    usage: Usage | None = None
    tool_calls: tuple[ToolCall, ...] = ()

    def __str__(self) -> str:
        return self.text
