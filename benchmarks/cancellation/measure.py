"""What is measured of a run: from what its side told, and from what was on the wire.  Nothing else goes into it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .plan import OLD, Scenario

if TYPE_CHECKING:
    from .telling import Told
    from .wire import Connection


@dataclass(frozen=True)
class Row:
    """One scenario on one side.  Times are in seconds; None is "never, while it was watched".

    Attributes:
        library: The library and its version.
        wire: What the client sent from the strike on, or since closing began, in order, while it was watched.
        prompts: How many prompts it sent in all.
        repeated: How many of them had been sent before.
        in_flight: How many prompts were unanswered at once on one connection, at most.
        connections: How many agent processes there were.
        orphan: How long the agent owed an answer to the cancelled prompt after the call had ended.
        stale: How many of its updates the application got after that.
        swallowed: Cancellations that did not arrive: the caller's, or the agent's of its own request.
        settle: From the strike to the end of the call; for a request that was taken back, to its answer.
        leave: From the beginning of closing to the moment everything was closed, where that is the scenario.
        ended_as: How the call ended.
        next_as: How the next prompt ended; None if there was none.
        tidied_up: Whether the handler's clean-up was left to end; None if it had none.
        warnings: How many warnings the library logged.
    """

    scenario: str
    library: str
    wire: list[str]
    prompts: int
    repeated: int
    in_flight: int
    connections: int
    orphan: float | None
    stale: int
    swallowed: int
    settle: float | None
    leave: float | None
    ended_as: str
    next_as: str | None
    tidied_up: bool | None
    warnings: int


def measure(scenario: Scenario, told: Told, connections: list[Connection]) -> Row:
    """Measure one run."""
    took_back = [each for connection in connections for each in connection.take_backs()]
    struck_at, ended_at, swallowed = told.struck_at, told.ended_at, int(told.swallowed)
    if struck_at is None:
        struck_at, answer = took_back[0]
        ended_at = None if answer is None else answer.at
        swallowed += told.handler_cancelled is False
    prompts = [prompt for connection in connections for prompt in connection.prompts()]
    texts = Counter(prompt.text for prompt in prompts)
    since, until = struck_at, told.watched_until
    if told.closing_at is not None:
        since, until = told.closing_at, told.left_at
    said = [words for connection in connections for words in connection.words(since, until)]
    return Row(
        scenario=scenario.name,
        library=told.library,
        wire=[words for _, words in sorted(said)],
        prompts=len(prompts),
        repeated=sum(times - 1 for times in texts.values()),
        in_flight=max(connection.in_flight() for connection in connections),
        connections=len(connections),
        orphan=None if told.ended_at is None else max(0.0, _done_at(connections[0], told) - told.ended_at),
        stale=sum(
            text.startswith(OLD) and told.ended_at is not None and at > told.ended_at for at, text in told.delivered
        ),
        swallowed=swallowed,
        settle=None if ended_at is None else ended_at - struck_at,
        leave=None if told.closing_at is None else told.left_at - told.closing_at,
        ended_as=told.ended_as,
        next_as=told.next_as,
        tidied_up=told.tidied_up,
        warnings=told.warnings,
    )


def _done_at(connection: Connection, told: Told) -> float:
    """Return when the agent had done with the first prompt: its answer, else the end of its process."""
    answered_at = next(connection.prompts()).answered_at
    ends = [at for at in (answered_at, connection.ended_at) if at is not None]
    return min(ends, default=told.left_at)
