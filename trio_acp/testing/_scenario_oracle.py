"""What must be true of every run of a scene, whatever struck it: the laws of a turn, seen from outside.

One function for each law; it yields what broke it.  `model` holds the trace
of the run against the executable model, which has most of them; the others
look at what the agent received, what callers got, what was counted, and what
was left, and know nothing of the code that they judge.  Not here, because no
run shows them:

=====  ======================================================================
I18    each handle ends once: tests/test_manager_machine.py; here, that agents see each session closed (`i18_closed`)
I19    an idle handle only is evicted: tests/test_evictor.py; here, that no caller is harmed (`i20_isolation`)
I23    shields are finite, and from one place: tests/test_house_rules.py, tests/test_service.py
=====  ======================================================================
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from .._outcomes import Completed, Failed, Stopped, TimedOut
from ._scenario_world import LIMITS
from .trace_check import Checker
from .turn_model import SLACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._agent_connection import Received
    from ._scenario_world import World

    Law = Callable[[World], Iterator[str]]

_C, _J = LIMITS.cleanup, LIMITS.join
_HANG_UP: Final = 5.0  # what AcpRuntime takes to hang up
_SAID: Final = re.compile(r"\bsay ([^;]*)")
_LATE_BY_A_JUMP: Final = re.compile(r"I17 .*: settled\(|I16 .*: store_failed ")
"""A jump may end a wait before what is waited for could run: a caller's for the actor, or the actor's for a write."""
_HONEST_CROSSING: Final = "for the idle session"  # a cancel and the answer may meet on the wire
_USES: Final = {"session/prompt", "session/resume", "session/load"}
_ORDERLY: Final = {1000, 1001, 1005, 1006}  # how a WebSocket may end; others are somebody's mistake


def model(run: World) -> Iterator[str]:
    """I1, I3, I5 to I11, I13, I16, I17: the trace is a run of the model (`turn_model.py`), in its bounds."""
    checker = Checker(slack=SLACK + run.jumped)
    for record in run.trace.records:
        checker.record(record)
    for broken in checker.finish():
        if not (run.jumped and _LATE_BY_A_JUMP.match(broken)):
            yield broken


def i2_wire(run: World) -> Iterator[str]:
    """I2: at most one unanswered prompt for each backend session, and nothing else that an agent may complain of."""
    yield from (text for text in run.agent.violations if _HONEST_CROSSING not in text)


def i3_silence(run: World) -> Iterator[str]:
    """I3: what a turn has said is complete when its caller goes on; nothing is added later."""
    for seen in run.prompted:
        if seen.reply is not None and seen.turn.reply != seen.reply:
            yield f"{seen.text!r}: {seen.reply} became {seen.turn.reply}"


def i4_attribution(run: World) -> Iterator[str]:
    """I4: what a turn has got is what its own prompt made the agent say."""
    if not run.scene.liar:  # what a turn is sent that was answered before cannot be told from the next one's
        for seen in run.prompted:
            for text in seen.texts:
                if text.strip(" x") not in seen.text and not text.startswith("permission: "):
                    yield f"{seen.text!r} got {text!r}"


def i5_one_cancel(run: World) -> Iterator[str]:
    """I5: at most one ``session/cancel`` for each prompt."""
    sent = Counter((entry.method, _session_of(entry)) for entry in run.agent.log)
    for (method, session), count in sent.items():
        if method == "session/cancel" and count > sent["session/prompt", session]:
            yield f"{count} cancels for {sent['session/prompt', session]} prompts of {session}"


def i6_targeted(run: World) -> Iterator[str]:
    """I6: a ``session/cancel`` goes to a session that was sent a prompt over this connection, and no cancel since."""
    prompted: set[tuple[int, str]] = set()
    for entry in run.agent.log:
        where = (entry.connection, _session_of(entry))
        if entry.method == "session/prompt":
            prompted.add(where)
        elif entry.method == "session/cancel":
            if where not in prompted:
                yield f"a cancel for {where[1]}, which has no turn"
            prompted.discard(where)


def i6_reached(run: World) -> Iterator[str]:
    """I6: a turn that is stopped while its agent works on it, and does not end in the same instant, is cancelled there.

    If nothing else failed: a connection that is lost takes no cancel.
    """
    if not run.is_peaceful:
        return
    told = {_session_of(entry) for entry in run.agent.log if entry.method == "session/cancel"}
    for seen in run.prompted:
        records = [record for record in run.trace.records if record.turn == seen.turn.request_id]
        stopped = [record.time for record in records if record.name == "ladder.cancel"]
        ended = [record.time for record in records if record.name == "settled"]
        session = _sent_to(run, seen.text)
        if stopped and ended and ended[0] > stopped[0] + SLACK and session is not None and session not in told:
            yield f"{seen.text!r} was stopped at {stopped[0]:g}, and its agent was not told"


def i7_bound(run: World) -> Iterator[str]:
    """I7: from the queue to the outcome, a turn takes no longer than T+G+C (+C) +2J."""
    begun = {record.turn: record.time for record in run.trace.records if record.name == "dequeued"}
    longest = LIMITS.turn + LIMITS.grace + 2 * _C + 2 * _J + run.jumped + SLACK
    for record in run.trace.records:
        if record.name == "settled" and record.turn in begun and record.time - begun[record.turn] > longest:
            yield f"a turn took {record.time - begun[record.turn]:g} s"


def i8_latency(run: World) -> Iterator[str]:
    """I8: who is cancelled goes on within the bound, and so does who leaves the manager."""
    callers = 2 * _C + 2 * _J
    leaving = callers + _C + 2 * _J + _HANG_UP + _C
    for name in ("cancel", "call:shutdown", "call:vanish"):
        for time in run.struck(name):
            if run.callers_ended - time > callers + run.jumped + SLACK:
                yield f"{name} at {time:g}, but the callers went on at {run.callers_ended:g}"
            if name != "cancel" and run.manager_ended - time > leaving + run.jumped + SLACK:
                yield f"{name} at {time:g}, but the manager was left at {run.manager_ended:g}"


def i9_queue(run: World) -> Iterator[str]:
    """I9: what is cancelled in the queue is withdrawn in zero time, and never reaches the agent."""
    sent = _prompts(run)
    for seen in run.prompted:
        records = [record for record in run.trace.records if record.turn == seen.turn.request_id]
        names = [record.name for record in records]
        if "withdrawn" in names and seen.text in sent:
            yield f"{seen.text!r} was withdrawn, and sent"
        # What was stopped before it was admitted, in the same instant, is not withdrawn.
        if names[1:2] == ["cause"] and records[1].time > records[0].time:
            yield f"{seen.text!r} was stopped in the queue, and stayed there"


def i10_coverage(run: World) -> Iterator[str]:
    """I10: once somebody wanted a turn to end, it is not submitted."""
    stopped: set[str] = set()
    for record in run.trace.records:
        # A failure is followed by the one retry, if nothing was started.
        if record.name == "cause" and record.data["cause"] != "failure":
            stopped.add(record.turn)
        elif record.name == "submitted" and record.turn in stopped:
            yield f"submitted at {record.time:g}, after a cause"


def i11_sticky(run: World) -> Iterator[str]:
    """I11: no prompt is sent twice."""
    yield from (f"{text!r} was sent {times} times" for text, times in _prompts(run).items() if times > 1)


def i12_propagation(run: World) -> Iterator[str]:
    """I12: who was cancelled does not come to a normal end later: nobody swallows it, or makes it something else."""
    for time in run.struck("cancel"):
        if run.finished is not None and run.finished > time + run.jumped + SLACK:
            yield f"cancelled at {time:g}, but the callers came to their end at {run.finished:g}"


def i13_truth(run: World) -> Iterator[str]:
    """I13: a turn completed only if the agent has said all of it, and failed only if something failed."""
    for seen in run.prompted:
        outcome, reply = seen.turn.outcome, seen.turn.reply
        if isinstance(outcome, Completed) and reply is not None and not run.scene.liar:
            missing = [said for said in _SAID.findall(seen.text) if said.strip() not in reply.text]
            if missing:
                yield f"{seen.text!r} is completed without {missing}"
        if isinstance(outcome, Failed | TimedOut) and run.is_peaceful:
            yield f"{seen.text!r} ended with {outcome}, although nothing failed"


def i14_outcome(run: World) -> Iterator[str]:
    """I14: every turn that was admitted has an outcome, and the very one of the trace, whatever its caller got."""
    settled = {record.turn: record.data for record in run.trace.records if record.name == "settled"}
    for seen in run.prompted:
        outcome, told = seen.turn.outcome, settled.get(seen.turn.request_id)
        by = outcome.by if isinstance(outcome, Stopped) else None
        if "admitted" not in run.trace.names(seen.turn.request_id):
            if outcome is not None:
                yield f"{seen.text!r} was not admitted, and has the outcome {outcome}"
        elif outcome is None or told is None or (type(outcome).__name__, by) != (told["outcome"], told["by"]):
            yield f"{seen.text!r} has the outcome {outcome}, and the trace {told}"


def i15_metadata(run: World) -> Iterator[str]:
    """I15: no stored session says that it runs, or belongs to the manager, once that was left.

    A jump may take away the seconds for giving rows back; then the owner that they name is dead.
    """
    for row in run.rows:
        if row.state == "running" or (row.owner is not None and not run.jumped):
            yield f"{row.key} is {row.state}, of {row.owner}"


def i16_settle_first(run: World) -> Iterator[str]:
    """I16: who leaves a turn, however it comes about, goes on only when that has settled."""
    for seen in run.prompted:
        if seen.left and seen.reply is None and "admitted" in run.trace.names(seen.turn.request_id):
            yield f"{seen.text!r} had not settled when its caller went on"


def i18_closed(run: World) -> Iterator[str]:
    """I18: a session that was used is closed at its agent, before the connection is, unless that or the clock failed.

    One that was not used since may have been opened for somebody who was gone when the answer came.
    """
    if run.jumped:
        return
    last = {(entry.connection, _session_of(entry)): entry.method for entry in run.agent.log if entry.method in _USES}
    for connection, session, time in run.agent.abandoned:
        if last.get((connection, session)) == "session/prompt" and time not in run.wire.cuts:
            yield f"{session} was open when its connection was closed at {time:g}"


def i20_isolation(run: World) -> Iterator[str]:
    """I20: a caller gets an error only if something failed; what one user cancels harms nobody else."""
    if run.is_peaceful:
        yield from (f"a caller got {error!r}" for error in run.errors)


def i21_closure(run: World) -> Iterator[str]:
    """I21: once the manager was left, nothing is open, taken, or owed."""
    if run.wire.open:
        yield f"{run.wire.open} connections are open"
    s = run.statistics
    if s is None:
        return
    stragglers = s.stragglers_now if run.jumped else s.stragglers  # a jump may end the wait for one that would end
    if (s.capacity.taken, s.open_handles, stragglers, s.suspects) != (0, 0, 0, 0):
        yield f"not everything was given back: {s}"


def i22_reverse_requests(run: World) -> Iterator[str]:
    """I22: what an agent asked is answered before its turn settles; one that waits for that would be suspect."""
    if run.is_peaceful and not run.scene.liar:
        yield from (f"suspect at {record.time:g}" for record in run.trace.records if record.name == "suspect")


def i22_withdrawn(run: World) -> Iterator[str]:
    """I22: what is asked by an agent that was told to stop is answered ``cancelled``; nothing is allowed any more."""
    told: set[int] = set()
    for entry in run.agent.log:  # of one connection, in the order in which this side has sent it
        if entry.method == "session/cancel":
            told.add(entry.connection)
        elif entry.method == "session/prompt":
            told.discard(entry.connection)
        elif entry.kind == "response" and entry.connection in told:
            outcome = entry.params.get("outcome") if isinstance(entry.params, dict) else None
            if isinstance(outcome, dict) and outcome.get("outcome") == "selected":
                yield f"after a cancel, the agent was told {outcome}"


def i24_frames(run: World) -> Iterator[str]:
    """I24: no frame is torn: everything that arrived can be read, and no peer had to close for a broken one."""
    yield from (f"not readable: {entry.params!r}" for entry in run.agent.log if entry.kind == "invalid")
    yield from (f"a WebSocket was closed with {code}" for code in run.wire.codes if code not in _ORDERLY)


def i25_accounting(run: World) -> Iterator[str]:
    """I25: every turn is counted once, and none is counted as waiting or running in the end."""
    s, ends = run.statistics, Counter(r.data["outcome"] for r in run.trace.records if r.name == "settled")
    if s is None:
        return
    if (s.queued, s.active, s.depth) != (0, 0, 0):
        yield f"turns still count as open: {s}"
    counted = {"Completed": s.completed, "Failed": s.failed, "TimedOut": s.timed_out, "Stopped": s.stopped}
    if s.submitted != ends.total() or any(ends[name] != number for name, number in counted.items()):
        yield f"{dict(ends)} ended, but counted were {s}"


def at_every_instant(run: World) -> Iterator[str]:
    """I12, I17, I18, I20, I25: what was found to be wrong while it ran; each begins with its law."""
    yield from run.trace.faults
    yield from run.faults


LAWS: Final[tuple[Law, ...]] = (
    *(model, at_every_instant, i2_wire, i3_silence, i4_attribution, i5_one_cancel, i6_targeted, i6_reached),
    *(i7_bound, i8_latency, i9_queue, i10_coverage, i11_sticky, i12_propagation, i13_truth, i14_outcome, i15_metadata),
    *(i16_settle_first, i18_closed, i20_isolation, i21_closure, i22_reverse_requests, i22_withdrawn, i24_frames),
    i25_accounting,
)
AFTER_AN_INTERRUPT: Final[tuple[Law, ...]] = (i2_wire, i3_silence, i4_attribution, i14_outcome, i24_frames)
"""What is true even if Ctrl-C ends the program, where nobody promises that the rest is done."""


def check(run: World, *, interrupted: bool = False) -> None:
    """Hold a run against the laws.

    Raises:
        AssertionError: it broke some; the message has one line for each.
    """
    laws = AFTER_AN_INTERRUPT if interrupted else LAWS
    broken = [f"{law.__name__}: {text}" for law in laws for text in law(run)]
    if interrupted and run.wire.open:
        broken.append(f"i21_closure: {run.wire.open} connections are open")
    if broken:
        raise AssertionError("\n".join(broken))


def _session_of(entry: Received) -> str:
    return str(entry.params.get("sessionId")) if isinstance(entry.params, dict) else ""


def _sent_to(run: World, text: str) -> str | None:
    """Return the id of the session that got a prompt; None if none did."""
    for entry in run.agent.log:
        if entry.method == "session/prompt" and isinstance(entry.params, dict):
            prompt = entry.params["prompt"][0]["text"]
            if prompt == text:
                return _session_of(entry)
    return None


def _prompts(run: World) -> Counter[str]:
    return Counter(
        entry.params["prompt"][0]["text"]
        for entry in run.agent.log
        if entry.method == "session/prompt" and isinstance(entry.params, dict)
    )
