"""A world for the model of a turn: what an adapter of known behaviour, and those who stop turns, do to it, and when.

It knows nothing of the package but the model.  With it `foretell` says every
end that a turn may have, to the instant.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs

from trio_acp import BackendUnavailable, TextDelta
from trio_acp._trace import TraceRecord
from trio_acp.testing import Hang, Raise, Sleep, Swallow
from trio_acp.testing.turn_model import SLACK, Turn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_acp._trace import TraceName
    from trio_acp.testing.fake import Step


@attrs.frozen
class Behaviour:
    """How a call behaves: its steps in a `FakeRuntime`, and what they come to.

    Attributes:
        seconds: After which it ends by itself.
        fails: Whether it ends with an error; `retryable`: with one that says that nothing was started.
        stubborn: Whether it resists cancellation; else it ends at once.
        stops: Whether it ends as soon as `cancel` has returned.
        talks_at: When it sends an event.
    """

    steps: tuple[Step, ...]
    seconds: float = 0.0
    fails: bool = False
    retryable: bool = False
    stubborn: bool = False
    stops: bool = False
    talks_at: float | None = None


_ERROR = Raise(OSError("planted"))
_RETRYABLE = Raise(BackendUnavailable("planted", retryable=True))
_TALK = TextDelta("x")

CALLS = {
    "quick": Behaviour(()),
    "slow": Behaviour((Sleep(1),), 1),
    "hung": Behaviour((Hang(),), math.inf),
    "stubborn": Behaviour((Swallow(20),), 20, stubborn=True),
    "failing": Behaviour((_ERROR,), fails=True),
    "failing late": Behaviour((Sleep(1.05), _ERROR), 1.05, fails=True),
}
OPENINGS = {
    **CALLS,
    "retryable": Behaviour((_RETRYABLE,), fails=True, retryable=True),
}
TURNS = {
    **OPENINGS,
    "stops": Behaviour((_TALK, Hang(stops=True)), math.inf, stops=True, talks_at=0),
    "talks": Behaviour((_TALK, Sleep(3)), 3, talks_at=0),
    "talks late": Behaviour((Sleep(1), _TALK, Hang()), math.inf, talks_at=1),
    "retryable late": Behaviour((Sleep(1), _RETRYABLE), 1, fails=True, retryable=True),
    "retryable after an event": Behaviour((_TALK, _RETRYABLE), fails=True, retryable=True, talks_at=0),
    "at the deadline": Behaviour((Sleep(6),), 6),
}


@attrs.define
class World:
    """Everything that is done to one turn.

    Attributes:
        warm: Whether there is a handle already.
        oneshot: Whether the session is a oneshot.
        stops: Who asked for the turn's end, and when.
        died: When the connection was lost.
    """

    turn: Behaviour
    opening: Behaviour
    cancel: Behaviour
    close: Behaviour
    warm: bool
    oneshot: bool
    stops: list[tuple[float, str]] = attrs.field(factory=list)
    died: float = math.inf

    def __call__(self, turn: Turn) -> Iterator[TraceRecord]:
        """Yield what may come next."""
        at = turn.at
        match turn.state:
            case "new":
                yield _record("admitted", turn.now)
            case "queued":
                yield _record("dequeued", turn.now)
                if any(time <= turn.now for time, _ in self.stops):
                    yield _record("withdrawn", turn.now)
            case "withdrawn":
                for _, by in self.stops:
                    yield _record("settled", turn.now, outcome="Stopped", by=by)
            case "preparing":
                yield from self._causes(turn)
                yield from self._opening(turn)
            case "ready":
                yield from self._causes(turn)
                yield _record("submitted", turn.now)
            case "running" if self.turn.talks_at == 0 and "first_event" not in at:
                yield _record("first_event", turn.now)
            case "running":
                if self.turn.talks_at is not None and "first_event" not in at:
                    yield _record("first_event", at["submitted"] + self.turn.talks_at)
                yield from self._causes(turn)
                yield from self._end_of_run(turn)
            case "giving_up" | "ended":
                yield from self._decision(turn)
            case "decided" if turn.owes_for_certain:
                yield _record("ladder.cancel", turn.now)
            case "cancelling":
                yield from self._cancelling(turn)
            case "joining":
                end = self._run_ends(turn)
                bound = min(at["cause"] + turn.limits.cleanup, at["ladder.join"] + turn.limits.join)
                if end <= bound + SLACK:
                    yield from self._finish(turn, max(end, turn.now))
                if end >= bound - SLACK:
                    yield _record("ladder.stop", bound)
            case "stopping" | "owing" if self._resists(turn) and "straggler" not in at:
                yield _record("straggler", at["ladder.stop"] + turn.limits.join)
            case "owing":
                yield from self._owe(turn, turn.now)
            case "decided" | "stopping" | "suspect":
                yield from self._finish(turn, turn.now, owing=turn.state == "suspect")
            case "closing":
                bound = turn.limits.cleanup
                seconds = min(self.close.seconds, bound + turn.limits.join * self.close.stubborn)
                yield self._settled(
                    turn, turn.now + (seconds if self.close.seconds <= bound or self.close.stubborn else bound)
                )
            case _:
                pass

    def _causes(self, turn: Turn, until: float = math.inf) -> Iterator[TraceRecord]:
        logged = {cause["cause"] for cause in turn.log}
        for time, by in self.stops:
            if turn.now - SLACK <= time <= until and by not in logged:
                yield _cause(time, by)
        if not logged:
            yield _cause(turn.at["dequeued"] + turn.limits.turn + turn.limits.grace, "deadline")

    def _opening(self, turn: Turn) -> Iterator[TraceRecord]:
        if self._has_handle(turn):
            yield _record("ready", turn.now)
            return
        end = turn.at.get("retried", turn.at["dequeued"]) + self.opening.seconds
        if self.opening.fails:
            yield _cause(end, "failure", retryable=self.opening.retryable)
        else:
            yield _record("ready", end)

    def _end_of_run(self, turn: Turn) -> Iterator[TraceRecord]:
        end = turn.at["submitted"] + self.turn.seconds
        if self.died < math.inf and not self.turn.stubborn:
            yield _cause(self.died, "failure")
        if self.turn.fails:
            yield _cause(end, "failure", retryable=self.turn.retryable)
        else:
            yield _cause(end, "response")

    def _decision(self, turn: Turn) -> Iterator[TraceRecord]:
        # What comes in the same instant may still be before the actor.
        yield from self._causes(turn, until=turn.now + SLACK)
        if turn.owes_for_certain:
            yield from (cause for cause in self._end_of_run(turn) if abs(cause.time - turn.now) <= SLACK)
        if turn.may_retry:
            yield _record("retried", turn.now)
            return
        first = turn.log[0]["cause"]
        in_setup = turn.state == "giving_up" and not self._has_handle(turn) and first != "failure"
        late = turn.limits.join if in_setup and self.opening.stubborn else 0.0
        oneshot = self.oneshot and self._has_handle(turn)
        yield _record("decided", turn.at["cause"] + late, cause=first, limits=turn.limits, oneshot=oneshot)

    def _cancelling(self, turn: Turn) -> Iterator[TraceRecord]:
        end = turn.now + self.cancel.seconds
        bound = turn.at["cause"] + turn.limits.cleanup
        if end > bound:
            yield _record("ladder.stop", bound)
        elif not self.cancel.fails:
            yield _record("ladder.join", end)
        else:
            run_ends = self._run_ends(turn)
            if run_ends <= end + SLACK:
                yield from self._owe(turn, end)
            if run_ends >= end - SLACK:
                yield _record("ladder.stop", end)

    def _run_ends(self, turn: Turn) -> float:
        if self.turn.stops and "ladder.join" in turn.at:
            return turn.at["ladder.join"]
        end = turn.at["submitted"] + self.turn.seconds
        return end if self.turn.stubborn else min(end, self.died)

    def _resists(self, turn: Turn) -> bool:
        cancelling = turn.submitted and "ladder.join" not in turn.at and self.cancel.stubborn
        return turn.submitted and (self.turn.stubborn or cancelling)

    def _has_handle(self, turn: Turn) -> bool:
        return "ready" in turn.at or (self.warm and not turn.retried)

    def _owe(self, turn: Turn, time: float) -> Iterator[TraceRecord]:
        yield _record("ladder.close" if turn.oneshot else "suspect", time)

    def _finish(self, turn: Turn, time: float, *, owing: bool = False) -> Iterator[TraceRecord]:
        yield _record("ladder.close", time) if turn.oneshot and not owing else self._settled(turn, time)

    def _settled(self, turn: Turn, time: float) -> TraceRecord:
        first = turn.log[0]["cause"]
        outcomes = {"response": "Completed", "failure": "Failed", "deadline": "TimedOut"}
        by = None if first in outcomes else first
        return _record("settled", time, outcome=outcomes.get(first, "Stopped"), by=by)


def _record(name: TraceName, time: float, **data: Any) -> TraceRecord:
    return TraceRecord(name=name, time=time, session="k", turn="foretold", data=data)


def _cause(time: float, cause: str, *, retryable: bool = False) -> TraceRecord:
    return _record("cause", time, cause=cause, retryable=retryable)
