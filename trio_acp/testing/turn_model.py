"""The model of a turn: a timed transition system, written once, as data.

`EDGES` is the whole of it.  A turn is in one state; each record of its trace
(`_trace.py`) takes it along an edge, if the edge's guard holds, and no later
than the edge's bound.  The same table checks the trace of any run
(`trace_check.py`), foretells the ends that a turn may have (`foretell`), and is drawn
(`python -m trio_acp.testing.turn_model > docs/turn-model.md`).

Bounds are in the letters of `_turn.py`: T = ``turn``, G = ``grace``,
C = ``cleanup``, J = ``join``, each after the record it names; of several, the
earliest counts.  Where the manager alone decides, the bound is the instant
itself: a request that is withdrawn is settled in zero time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from .._limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .._trace import TraceRecord

LAWS: Final = {
    "I1": "lane: the turns of a session run one at a time",
    "I3": "silence: nothing is accepted after a cause that closes the gate, nor after the end",
    "I5": "one cancel: the adapter is told to stop at most once",
    "I6": "targeted: it is told so only while a prompt is unanswered, and then always",
    "I7": "bound: from the queue to the outcome in T+G+C (+C for a oneshot) +2J, and no timeout too early",
    "I8": "latency: from the first cause to the outcome in C (+C) +2J, each rung within its own budget",
    "I9": "queue: first come, first served; who is withdrawn never runs, and is settled in zero time",
    "I10": "nothing after a cause: neither set up nor submitted",
    "I11": "one retry: only after one failure that started nothing, before any event",
    "I13": "truth: admitted and settled exactly once, as the first cause decides",
    "I16": "settle before release: the lane is free only after the outcome, and nothing comes after it",
    "I17": "restartability: a handle that still owes an answer is suspect or closed",
}

SLACK: Final = 1e-6
_LETTERS: Final = {"T": "turn", "G": "grace", "C": "cleanup", "J": "join"}
_SHUTS_THE_GATE: Final = {"caller", "left", "deadline", "shutdown", "closed"}
_ENDS_OF_AN_ADAPTER: Final = {"response", "failure"}


@attrs.frozen
class Edge:
    """A transition: `record` leads from `source` to `target`, by then, when the guard holds."""

    source: str
    record: str
    target: str
    by: str = ""
    when: str = ""


GUARDS: Final[dict[str, Callable[[Turn, TraceRecord], bool]]] = {
    "no cause yet": lambda turn, _: not turn.log,
    "stopped before it was admitted": lambda turn, _: bool(turn.log),
    "unanswered": lambda turn, _: turn.unanswered,
    "oneshot": lambda turn, _: turn.oneshot,
    "not a oneshot": lambda turn, _: not turn.oneshot,
    "answered, oneshot": lambda turn, _: turn.oneshot and not turn.owes_for_certain,
    "answered, not a oneshot": lambda turn, _: not turn.oneshot and not turn.owes_for_certain,
    "gate open": lambda turn, _: turn.gate_open and "first_event" not in turn.at,
    "gate open, not the first": lambda turn, _: turn.gate_open and "first_event" in turn.at,
    "one retryable failure, no event": lambda turn, _: turn.may_retry,
    "not too early": lambda turn, record: record.data["cause"] != "deadline" or turn.is_late(record.time),
    "internal error": lambda _, record: record.data.get("detail") == "internal-error",
}

_SETTLES: Final = "decided+C+J, dequeued+T+G+C+2J"
_CLOSES: Final = "ladder.close+C+J, cause+2C+2J, dequeued+T+G+2C+2J"
_SETUP: Final = "dequeued+T+G+2J"
CLEANING: Final = ("decided", "cancelling", "joining", "stopping", "owing", "closing", "suspect")
STARTED: Final = ("preparing", "ready", "running", "giving_up", "ended", *CLEANING)

EDGES: Final = (
    Edge("new", "admitted", "queued"),
    Edge("queued", "withdrawn", "withdrawn"),
    Edge("withdrawn", "settled", "over", "withdrawn"),
    Edge("queued", "dequeued", "preparing", when="no cause yet"),
    Edge("queued", "dequeued", "ended", when="stopped before it was admitted"),
    # An attempt.
    Edge("preparing", "setup", "preparing", _SETUP),
    Edge("preparing", "resume_failed", "preparing", _SETUP),
    Edge("preparing", "ready", "ready", _SETUP),
    Edge("preparing", "cause", "giving_up", _SETUP, "not too early"),
    Edge("ready", "submitted", "running", "dequeued+T+G"),
    Edge("ready", "cause", "ended", "dequeued+T+G", "not too early"),
    Edge("running", "cause", "ended", "dequeued+T+G", "not too early"),
    Edge("giving_up", "retried", "preparing", "cause", "one retryable failure, no event"),
    Edge("ended", "retried", "preparing", "cause", "one retryable failure, no event"),
    Edge("giving_up", "decided", "decided", "cause+2J"),
    Edge("ended", "decided", "decided", "cause"),
    # The ladder.
    Edge("decided", "ladder.cancel", "cancelling", "decided", "unanswered"),
    # A oneshot that ended by itself is asked for its ids first, in the cleanup it did not need.
    Edge("decided", "ladder.close", "closing", "decided+C+J", "answered, oneshot"),
    Edge("decided", "settled", "settled", _SETTLES, "answered, not a oneshot"),
    Edge("cancelling", "ladder.join", "joining", "cause+C"),
    Edge("cancelling", "ladder.stop", "owing", "cause+C"),
    Edge("cancelling", "ladder.close", "closing", "cause+C", "oneshot"),
    Edge("cancelling", "suspect", "suspect", "cause+C", "not a oneshot"),
    Edge("joining", "ladder.stop", "stopping", "cause+C, ladder.join+J"),
    Edge("joining", "ladder.close", "closing", "cause+C, ladder.join+J", "oneshot"),
    Edge("joining", "settled", "settled", _SETTLES, "not a oneshot"),
    Edge("stopping", "straggler", "owing", "ladder.stop+J"),
    Edge("stopping", "ladder.close", "closing", "ladder.stop+J", "oneshot"),
    Edge("stopping", "settled", "settled", _SETTLES, "not a oneshot"),
    Edge("owing", "straggler", "owing", "ladder.stop+J"),
    Edge("owing", "ladder.close", "closing", "ladder.stop+J", "oneshot"),
    Edge("owing", "suspect", "suspect", "ladder.stop+J", "not a oneshot"),
    Edge("suspect", "settled", "settled", _SETTLES),
    Edge("closing", "settled", "settled", _CLOSES),
    Edge("settled", "released", "over"),
    # What changes no state: later causes, events, a write that failed; and our own fault.
    *(Edge(state, "cause", state) for state in ("queued", "giving_up", "ended", *CLEANING)),
    *(Edge(state, "first_event", state, when="gate open") for state in ("running", "ended", *CLEANING)),
    *(Edge(state, "event", state, when="gate open, not the first") for state in ("running", "ended", *CLEANING)),
    *(Edge(state, "store_failed", state) for state in (*STARTED, "settled")),
    *(Edge(state, "settled", "settled", when="internal error") for state in STARTED),
)

_BY_SOURCE: Final = {
    source: tuple(edge for edge in EDGES if edge.source == source) for source in {edge.source for edge in EDGES}
}
_NAMES: Final = frozenset(edge.record for edge in EDGES)
_BROKEN_BY: Final = {
    # Which property a record breaks that comes where no edge has it.
    **dict.fromkeys(("withdrawn", "dequeued"), "I9"),
    **dict.fromkeys(("setup", "resume_failed", "ready", "submitted"), "I10"),
    **dict.fromkeys(("ladder.join", "ladder.stop", "straggler"), "I8"),
    **dict.fromkeys(("ladder.close", "suspect"), "I17"),
    **dict.fromkeys(("first_event", "event"), "I3"),
    "ladder.cancel": "I5",
    "retried": "I11",
    "cause": "I13",
    "released": "I16",
}


class Broken(Exception):
    """A record that the model does not permit; the text begins with the number of the property."""


@attrs.frozen(kw_only=True)
class Turn:
    """A turn of the model: where it is, and what it has to remember.

    Attributes:
        slack: Seconds that a record may come after its bound.
        at: When each record came last; of causes, the first of the log.  A retry forgets its attempt's.
        log: The causes, since the retry if there was one.
    """

    limits: Limits = attrs.field(factory=Limits)
    slack: float = SLACK
    state: str = "new"
    now: float = 0.0
    at: Mapping[str, float] = attrs.field(factory=dict)
    log: tuple[Mapping[str, Any], ...] = ()
    submitted: bool = False
    retried: bool = False
    oneshot: bool = False
    ending: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def unanswered(self) -> bool:
        """Whether a prompt was submitted and its answer is not in the log."""
        return self.submitted and not any(cause["cause"] == "response" for cause in self.log)

    @property
    def owes_for_certain(self) -> bool:
        """The same, but a failure may have been the answer."""
        return self.submitted and not any(cause["cause"] in _ENDS_OF_AN_ADAPTER for cause in self.log)

    @property
    def gate_open(self) -> bool:
        """Whether events are accepted."""
        return not any(cause["cause"] in _SHUTS_THE_GATE for cause in self.log)

    @property
    def may_retry(self) -> bool:
        """Whether the attempt may be made once more."""
        return (
            not self.retried
            and "first_event" not in self.at
            and len(self.log) == 1
            and self.log[0]["cause"] == "failure"
            and bool(self.log[0]["retryable"])
        )

    def is_late(self, time: float) -> bool:
        """Whether the turn may time out at that time."""
        return time >= self.at["dequeued"] + self.limits.turn + self.limits.grace - SLACK

    def latest(self, edge: Edge) -> float:
        """Return when the edge can be taken at the latest."""
        bounds = [float("inf")]
        for bound in filter(None, edge.by.split(", ")):
            since, *terms = bound.split("+")
            seconds = (int(term[:-1] or 1) * getattr(self.limits, _LETTERS[term[-1]]) for term in terms)
            bounds.append(self.at[since] + sum(seconds))
        return min(bounds)

    def step(self, record: TraceRecord) -> Turn:
        """Return the turn after that record.

        Raises:
            Broken: the model has no such step.
        """
        found = [edge for edge in _BY_SOURCE.get(self.state, ()) if edge.record == record.name]
        if not found:
            if self.state == "settled" and record.name not in _NAMES - {"straggler", "suspect"}:
                return self  # what is done after the outcome and before the lane is free
            unasked = (self.state, record.name) == ("decided", "ladder.stop")  # cancelled, but not told to stop
            raise self._broken("I6" if unasked else _BROKEN_BY.get(record.name, "I13"), record)
        open_edges = [edge for edge in found if not edge.when or GUARDS[edge.when](self, record)]
        if not open_edges:
            raise self._broken(self._guarded_by(record.name), record, found[0].when)
        edge = open_edges[0]
        if not self.now - SLACK <= record.time <= self.latest(edge) + self.slack:
            law = {"dequeued": "I7", "withdrawn": "I9"}.get(edge.by.split("+")[0], "I8")
            raise self._broken(law, record, f"by {edge.by}, which was {self.latest(edge):g}")
        return self._after(record, edge)

    def _guarded_by(self, name: str) -> str:
        """Return the property that a record breaks which comes although no guard holds."""
        if name == "cause":
            return "I7"
        if self.state == "decided" and (self.owes_for_certain or name == "ladder.cancel"):
            return "I6"
        if name == "settled":
            return "I17" if self.state in CLEANING else "I13"
        return _BROKEN_BY.get(name, "I8")

    def _after(self, record: TraceRecord, edge: Edge) -> Turn:
        after = attrs.evolve(self, state=edge.target, now=record.time)
        if record.name != "cause" or not self.log:
            after = attrs.evolve(after, at={**self.at, record.name: record.time})
        match record.name:
            case "cause":
                return attrs.evolve(after, log=(*self.log, record.data))
            case "dequeued" if self.log:  # only now can it be obeyed
                return attrs.evolve(after, at={**after.at, "cause": record.time})
            case "submitted":
                return attrs.evolve(after, submitted=True)
            case "retried":
                kept = {name: time for name, time in after.at.items() if name not in {"ready", "submitted", "cause"}}
                return attrs.evolve(after, at=kept, retried=True, log=(), submitted=False)
            case "decided":
                if record.data["cause"] != self.log[0]["cause"]:
                    raise self._broken("I13", record, f"the first cause is {self.log[0]['cause']}")
                return attrs.evolve(after, oneshot=record.data["oneshot"])
            case "settled":
                if (record.data["outcome"], record.data["by"]) not in self._permitted(edge):
                    raise self._broken("I13", record, f"the outcome is {record.data}")
                return attrs.evolve(after, ending=record.data)
            case _:
                return after

    def _permitted(self, edge: Edge) -> set[tuple[str, str | None]]:
        """Return the outcomes, each with who stopped the turn, that the first cause permits."""
        if edge.when == "internal error":
            return {("Failed", None)}
        if edge.source == "withdrawn":
            return {("Stopped", by) for by in ("caller", "user", "left", "closed", "shutdown")}
        match self.log[0]["cause"]:
            case "response":
                return {("Completed", None), ("Stopped", "agent")}
            case "failure":
                return {("Failed", None)}
            case "deadline":
                return {("TimedOut", None)}
            case by:
                return {("Stopped", by)}

    def _broken(self, law: str, record: TraceRecord, why: str = "") -> Broken:
        data = ", ".join(f"{key}={value}" for key, value in record.data.items() if value and key != "limits")
        text = f"{law} ({LAWS[law]}): {record.name}({data}) at {record.time:g} while {self.state}"
        return Broken(f"{text}: {why}" if why else text)


def foretell(turn: Turn, world: Callable[[Turn], Iterable[TraceRecord]]) -> list[Turn]:
    """Return every end that a turn may have in a world.

    Args:
        world: What may come next for a turn, each with its time; nothing, if
            nothing comes any more.  The first comes; of several at the same
            instant any may, and then there is an end for each.

    Raises:
        Broken: the world offers what the model does not permit.
    """
    ends, todo = [], [turn]
    while todo:
        turn = todo.pop()
        coming = list(world(turn))
        soonest = min((record.time for record in coming), default=0.0)
        todo += [turn.step(record) for record in coming if record.time <= soonest + SLACK]
        if not coming:
            ends.append(turn)
    return ends


def diagram() -> str:
    """Return the page that draws the model."""
    lines = ["# The model of a turn", ""]
    lines += ["Generated: `python -m trio_acp.testing.turn_model > docs/turn-model.md`.", ""]
    lines += ["Each arrow is a record of the trace, `[guard]`, and the bound by which it comes, in seconds after the"]
    lines += ["record it names: T = `turn`, G = `grace`, C = `cleanup`, J = `join`; of several bounds the earliest."]
    lines += ["The same table checks the trace of every test of the suite.", "", "```mermaid", "stateDiagram-v2"]
    lines += ["    [*] --> queued : admitted", "    over --> [*]"]
    loops: dict[tuple[str, str], list[str]] = {}
    for edge in EDGES:
        guard = f" [{edge.when}]" if edge.when else ""
        if edge.source == edge.target or edge.when == "internal error":
            loops.setdefault((edge.record, edge.when), []).append(edge.source)
        elif edge.source != "new":
            by = f" by {edge.by.replace(', ', ' and ')}" if edge.by else ""
            lines.append(f"    {edge.source} --> {edge.target} : {edge.record}{guard}{by}")
    lines += ["```", "", "Not drawn, for they change no state, or are our own fault and end the turn:", ""]
    lines += ["| record | guard | in |", "|---|---|---|"]
    lines += [f"| `{record}` | {when} | {', '.join(sources)} |" for (record, when), sources in loops.items()]
    lines += ["", "What breaks the model is named by its property:", "", "| property | |", "|---|---|"]
    lines += [f"| {law} | {text} |" for law, text in LAWS.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(diagram(), end="")
