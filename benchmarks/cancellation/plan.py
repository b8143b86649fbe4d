"""The seven scenarios, and the times both sides keep.

Only the standard library is used: each side imports this, in whatever environment it lives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

STRIKE: Final = 0.3
"""Seconds from the first update, or from the call of a handler, to what happens to it."""

TIMEOUT: Final = 0.6
"""Seconds of the prompt that is given a time limit."""

CLEANUP: Final = 0.5
"""Seconds that trio_acp gives an agent to stop (its default is 2)."""

GRACE: Final = 0.1
"""Seconds of a last word after the time limit in trio_acp (its default is 1)."""

CANCEL_CLOSE: Final = 0.1
"""Seconds from the start of closing to its caller's cancellation."""

TIDY_UP: Final = 0.5
"""Seconds that a handler needs to end once it is cancelled, in a clean-up that should not be interrupted."""

RESIST: Final = 6.2
"""Seconds for which a handler goes on although it is cancelled; trio_acp reports such a task after 5."""

LATE_ANSWER: Final = 1.0
"""Seconds that a handler takes to answer what the agent takes back meanwhile."""

GIVE_UP: Final = 8.5
"""Seconds after which a call that has not ended counts as one that does not."""

OBSERVE: Final = 1.4
"""Seconds for which the wire is watched after the strike, at least."""

OLD, NEW = "old", "new"
"""The words by which the updates of the first prompt are told from those of the next one."""

WORK: Final = f"chunks 20 {OLD} every=0.08"
NEXT: Final = f"chunks 3 {NEW} every=0.05"


@dataclass(frozen=True)
class Scenario:
    """One of the seven.

    Attributes:
        name: Its name, for programs.
        title: Its name, for people.
        prompt: The script of the prompt that is cancelled, for `trio_acp.testing.agent`.
        sdk: What is asked of the SDK.
        ours: What is asked of trio_acp.
        handler: What the client's permission handler does: ``late``, ``tidy`` or ``resist``.
        closes: Whether closing is what the scenario is about.
    """

    name: str
    title: str
    prompt: str
    sdk: str
    ours: str
    handler: str = "late"
    closes: bool = False


SCENARIOS: Final = (
    Scenario(
        "caller",
        "caller cancels a running prompt",
        WORK,
        "`task.cancel()` on the task that awaits `connection.prompt()`",
        "`scope.cancel()` on the scope around `session.turn()`",
    ),
    Scenario(
        "next",
        "next prompt at once",
        WORK,
        "the same; as soon as the task has ended, `connection.prompt()`",
        "the same; as soon as the block has ended, `session.prompt()`",
    ),
    Scenario(
        "timeout",
        "timeout; the agent ignores cancels",
        f"ignore-cancel 30; {WORK}",
        f"`asyncio.wait_for(connection.prompt(), {TIMEOUT:g})`, then `connection.prompt()`",
        f"`session.turn(timeout={TIMEOUT:g})`, then `session.prompt()`",
    ),
    Scenario(
        "close",
        "close cancelled by its caller",
        "permission Write it",
        f"`task.cancel()` on the task that awaits `connection.close()`, while a handler tidies up for {TIDY_UP:g} s",
        f"`scope.cancel()` on the scope around the manager as it is left, while a policy tidies up for {TIDY_UP:g} s",
        "tidy",
        closes=True,
    ),
    Scenario(
        "resist",
        "handler that resists cancel",
        "permission Write it",
        f"`connection.close()`, while a handler ignores its cancellation for {RESIST:g} s",
        f"`session.close()`, then leaving the manager, while a policy ignores its cancellation for {RESIST:g} s",
        "resist",
        closes=True,
    ),
    Scenario(
        "peer",
        "peer sends `$/cancel_request`",
        f"cancel-own-request {STRIKE:g}",
        f"nothing: the agent takes back a permission request that a handler would answer after {LATE_ANSWER:g} s",
        f"nothing: the agent takes back a permission request that a policy would answer after {LATE_ANSWER:g} s",
    ),
    Scenario(
        "dies",
        "user cancels, backend dies",
        f"ignore-cancel 30; say {OLD}; sleep {STRIKE + 0.2:g}; crash 3",
        "`connection.cancel()`; the agent's process exits 0.2 s later, without an answer",
        "`turn.cancel()`; the agent's process exits 0.2 s later, without an answer",
    ),
)
