"""THE TURN: what happens between a prompt's admission and its outcome.

Two rules.  Everything that decides about a turn is in this file and in
`_turn_state.py`, which has its state; `_retry.py` judges its error.  Nothing
here waits for an adapter longer than for a cause or a deadline: adapters run in
sibling tasks (`_calls.py`), all but one call.  The adapter's `run_turn` runs in
the actor's own task, since mostly nothing comes before its end; if something
does, the lane is handed on in that very step to a new task, which cleans up,
and the old one is left to the adapter.

Symbols, all in seconds (`Limits`): T = ``turn``, G = ``grace``, C = ``cleanup``,
J = ``join``.  D = the instant the turn left its queue, plus T.

States
------
``queued``     in the session's lane; withdrawing costs nothing.
``preparing``  owns the lane; metadata is read and claimed, the ledger told if
               the session works for another one, a handle opened or reused, and
               told the session's options if they changed.
               Nothing was submitted: a cause ends the setup call at once.
``running``    the adapter's `run_turn` is alive.
``cleaning``   the outcome is decided; the ladder runs.
``settled``    the outcome is set, the caller goes on, nothing is delivered.

docs/turn-model.md draws it finer, with the bound of each step, from the model
that checks the trace of every test (`testing/turn_model.py`).

Causes are entries in the turn's log, appended synchronously by whoever has
one: the caller, `cancel`, `close`, leaving the block, the deadline, shutdown,
the adapter's end or error, an overfull buffer.  The first entry decides, once
(except that the one retry begins with an empty log); later ones are kept and
change nothing.  Whether a cancel scope "caught"
anything is never asked: between "woken" and "run" a cause can arrive.

The ladder, if `run_turn` is still alive when the outcome is decided:

1. `cancel`, while `run_turn` is still alive, within C of the first cause;
2. once it has returned, `run_turn` has J, within the same C, to end by itself;
3. both are cancelled, and have J to obey;
4. a oneshot is closed, within another C (if it ended by itself, its runtime
   may be asked for its ids before that, within the first C);
5. if `cancel` did not return properly or `run_turn` did not end, the handle is
   *suspect*: the next operation finds it quiet, or closes it and resumes.

Guarantees, each with the test that shows it
--------------------------------------------
G1 Bound.  A started turn settles by D+G, +C (+C for a oneshot), whatever the
   adapter does that honours cancellation; +2J if it does not.
   (test_turn_bounds.py::test_a_hung_turn_returns_at_the_exact_second)
G2 Withdrawal.  A caller cancelled in the queue leaves no trace, in zero time.
   (test_turn_cancel.py::test_a_withdrawn_prompt_costs_nothing_and_never_reaches_the_agent)
G3 Propagation.  A caller's cancellation is delivered within C (+C) (+2J) and is
   never swallowed.  (test_turn_cancel.py::test_a_cancelled_caller_gets_cancelled_within_the_bound)
G4 One outcome.  Exactly one, decided by the first cause.
   (test_turn_cancel.py::test_the_first_cause_decides)
G5 One cancel.  The adapter is asked to stop at most once per turn, and only
   for a turn that was submitted.
   (test_turn_cancel.py::test_many_causes_make_one_cancel)
G6 Nothing after a cause.  No prompt is submitted after a cause was accepted.
   (test_turn_cancel.py::test_a_cancel_between_woken_and_run_submits_nothing)
G7 Silence.  Nothing is delivered after the turn settled.
   (test_turn_events.py::test_nothing_is_accepted_after_the_turn_settled)
G8 Order.  Turns of one session run one at a time, in order of admission.
   (test_turn_queue.py::test_turns_of_a_session_run_one_at_a_time_in_order)
G9 One attempt.  A turn is submitted twice only if the adapter says that nothing
   was started, no event was seen and no cause was logged.
   (test_turn_retry.py::test_a_turn_is_retried_once_if_nothing_was_started)
   (test_turn_retry.py::test_no_retry_when_something_may_have_started)

Bounds
------
Of a turn: G1.  Of its caller: G2 and G3.  Of its events: what waits for the
consumer is at most ``max_buffered`` characters, or one event of any size.
(test_turn_events.py::test_a_slow_consumer_fails_its_own_turn_only)

Not promised: that code which blocks the event loop, or a killed process,
keeps any bound; that a backend really stopped because its adapter says so;
that a store write abandoned at its deadline did not happen.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from ._background import begin_task
from ._calls import Call
from ._claims import release_if_closed
from ._controls import apply_controls
from ._ensure import ensure_runtime_handle, known_record
from ._errors import AcpError, TurnFailed
from ._options import timeout_of
from ._outcomes import Failed, Stopped
from ._ownership import FREE, opened
from ._refresh import before_closing, listen
from ._retry import nothing_was_started, session_was_lost
from ._turn_state import Cause, Phase, TurnState
from .abc import TurnRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._cache import CacheEntry
    from ._context import Context
    from ._outcomes import CleanupState, Outcome
    from ._records import SessionRecord
    from .abc import Done, Runtime


HandOn: TypeAlias = "Callable[[TurnState, CacheEntry, Call[Done]], None]"
"""Starts another task, which has the lane from now on and begins with `end_turn`."""


async def run_turn(ctx: Context, turn: TurnState, hand_on: HandOn) -> None:
    """Run one turn from the head of its queue to its outcome, or until the lane was handed on; it is ours meanwhile."""
    turn.started = trio.current_time()
    turn.enter(Phase.PREPARING)
    ctx.counters.dequeued()
    ctx.trace("dequeued", turn, limits=turn.limits)
    ctx.recorder.begin(turn, ctx.wall_clock)
    entry, call = await _attempt(ctx, turn, hand_on)
    if call is not None and call.left:
        return
    if _may_retry(turn, entry):
        if _is_lost(turn, entry):
            # Not written: the next write of this session is, with the new ids.
            ctx.remember(turn.key, {"identity": None})
        if entry is not None:
            ctx.cache.take_out(turn.key)
            ctx.capacity.keep(turn.key)
            ctx.close_late(ctx.runtime(entry.record.agent), entry.handle)
        if turn.phase is Phase.RUNNING:
            turn.enter(Phase.PREPARING)
        turn.forget_log()
        ctx.trace("retried", turn)
        entry, call = await _attempt(ctx, turn, hand_on)
        if call is not None and call.left:
            return
    await end_turn(ctx, turn, entry, call)


async def end_turn(ctx: Context, turn: TurnState, entry: CacheEntry | None, call: Call[Done] | None) -> None:
    """Clean up after a turn that is decided, and settle it; the lane is ours meanwhile."""
    if turn.phase is not Phase.SETTLED:  # else its caller could not wait any longer; what is left is tidying up
        turn.enter(Phase.CLEANING)
        oneshot = entry is not None and entry.record.mode == "oneshot"
        ctx.trace("decided", turn, cause=turn.log[0].kind, limits=turn.limits, oneshot=oneshot)
    settle(ctx, turn, turn.decide(await _clean_up(ctx, turn, entry, call)))


def settle(ctx: Context, turn: TurnState, outcome: Outcome) -> None:
    """Fix a turn's outcome, count it, and let its caller go on; the first call counts."""
    if turn.settle(outcome):
        ctx.counters.settled(outcome, turn.started, trio.current_time())
        by = outcome.by if isinstance(outcome, Stopped) else None
        detail = outcome.error.detail if isinstance(outcome, Failed) else None
        ctx.trace("settled", turn, outcome=type(outcome).__name__, by=by, detail=detail)
        if turn.background is not None:
            turn.background.settle(outcome)
        if turn.record is not None:
            turn.record.settle(outcome)


def _may_retry(turn: TurnState, entry: CacheEntry | None) -> bool:
    first = turn.log[0]
    if len(turn.log) > 1 or first.error is None or turn.saw_event:
        return False
    return nothing_was_started(first.error) or _is_lost(turn, entry)


def _is_lost(turn: TurnState, entry: CacheEntry | None) -> bool:
    """Whether nothing was started because the backend session, which was to be resumed, is lost."""
    error = turn.log[0].error
    resumable = entry is not None and entry.record.mode == "persistent"
    return turn.submitted and resumable and error is not None and session_was_lost(error)


async def _attempt(ctx: Context, turn: TurnState, hand_on: HandOn) -> tuple[CacheEntry | None, Call[Done] | None]:
    """Prepare and run; on return the log has an entry, unless the lane was handed on."""
    try:
        await _prepare(ctx, turn)
    except AcpError as error:
        turn.note(Cause(kind="failure", time=trio.current_time(), error=error))
    entry = ctx.cache.get(turn.key)  # also if it was opened and the preparation failed after that
    turn.check_gate(trio.current_time())
    if entry is None or turn.stopping:
        return entry, None
    call = _submit(ctx, turn, entry, hand_on)  # should anything else decide the turn, the lane is not ours any more
    request = TurnRequest(
        handle=entry.handle, prompt=turn.prompt, mode=turn.mode, request_id=turn.id, permissions=ctx.permissions
    )
    await ctx.calls.run(call, ctx.runtime(entry.record.agent).run_turn, request, turn)
    if not call.left:
        ctx.gates.forget(turn)
        turn.on_stop = None
    return entry, call


# -- preparing ----------------------------------------------------------------


async def _prepare(ctx: Context, turn: TurnState) -> None:
    """Have a handle in the cache, with the session's options applied, unless the turn is to stop."""
    setup_ends = trio.current_time() + turn.limits.setup
    try:
        deadline = min(turn.gate, setup_ends)
        record = turn.ephemeral_record or await known_record(ctx, turn, deadline, to_open=True)
        if record is None:
            return
        turn.adopt_timeout(timeout_of(record.options))
        deadline = min(turn.gate, setup_ends)  # the gate may have moved
        if record.requester is not None:
            await begin_task(ctx, turn, record, deadline)
        entry = await ensure_runtime_handle(ctx, turn, record, deadline, cleanup=turn.limits.cleanup)
        if entry is None:
            return
        if entry.applied is not entry.record.options:  # nearly always it is
            await apply_controls(ctx, turn, entry, deadline)
    except TurnFailed as error:
        if error.detail in {"setup-timeout", "controls-timeout"} and turn.check_gate(trio.current_time()):
            return
        raise
    if turn.stopping:
        return
    ctx.trace("ready", turn, agent=entry.record.agent)
    if turn.ephemeral_record is None:
        turn.marked = True
        await ctx.save(turn, _running(ctx, entry.record), deadline, interruptible=True)


def _running(ctx: Context, record: SessionRecord) -> dict[str, Any]:
    activity = ctx.wall_clock()
    return {"state": "running", "last_error": None, "last_activity": activity, **opened(record)}


# -- running ------------------------------------------------------------------


def _submit(ctx: Context, turn: TurnState, entry: CacheEntry, hand_on: HandOn) -> Call[Done]:
    """Return the call of the adapter's turn, to be made at once."""
    call: Call[Done] = Call(name="run_turn")
    call.on_end = partial(turn.ended, call)
    turn.enter(Phase.RUNNING)
    turn.submitted = True
    turn.on_stop = partial(_stopped, ctx, turn, entry, call, hand_on)  # before anybody hears of it
    ctx.gates.watch(turn)
    ctx.trace("submitted", turn)
    return call


def _stopped(ctx: Context, turn: TurnState, entry: CacheEntry, call: Call[Done], hand_on: HandOn) -> None:
    if not call.finished:
        call.left = True
        ctx.gates.forget(turn)
        turn.on_stop = None
        hand_on(turn, entry, call)


# -- cleaning -----------------------------------------------------------------


async def _clean_up(ctx: Context, turn: TurnState, entry: CacheEntry | None, call: Call[Done] | None) -> CleanupState:
    """Run the ladder and, beside it, write how the turn ended; say whether the backend stopped in time."""
    limits = turn.limits
    now = trio.current_time()
    save: Call[None] | None = None
    if entry is not None and call is not None and turn.log[0].kind != "deadline":
        if call.finished:
            entry.doubtful |= turn.log[0].kind == "failure"
            if entry.record.mode == "oneshot":
                await before_closing(ctx, turn, entry)
                now = trio.current_time()
        listen(ctx, entry)
    end = None if turn.background is None else turn.background.settle(turn.decide("finished"))
    if turn.ephemeral_record is None and (turn.marked or turn.log[0].kind in {"failure", "deadline"}):
        deadline = now + limits.cleanup
        if (call is None or call.finished) and (entry is None or entry.record.mode == "persistent"):
            await ctx.save(turn, _terminal(ctx, turn, entry), deadline)
        else:
            save = ctx.calls.start("save", ctx.save, turn, _terminal(ctx, turn, entry), deadline)
    stopped = True
    if entry is not None:
        runtime = ctx.runtime(entry.record.agent)
        if call is not None and not call.finished:
            stopped = await _stop_backend(ctx, turn, entry, call, runtime)
        if entry.record.mode == "oneshot":
            ctx.trace("ladder.close", turn)
            ctx.cache.take_out(turn.key)
            reason = "oneshot-complete" if turn.log[0].kind == "response" else f"oneshot-{turn.log[0].kind}"
            stopped &= await ctx.close_handle(runtime, entry.handle, reason, limits.cleanup)
        elif not stopped:
            entry.suspect = True
            ctx.trace("suspect", turn)
    for write in (save, end):
        if write is not None:
            await write.wait(now + limits.cleanup + limits.join)
    # Whoever hears of the outcome may want to open the session elsewhere.
    rungs = 2 if entry is not None and entry.record.mode == "oneshot" else 1
    await release_if_closed(ctx, turn, turn.log[0].time + rungs * limits.cleanup)
    return "finished" if stopped else "deadline"


async def _stop_backend(ctx: Context, turn: TurnState, entry: CacheEntry, call: Call[Done], runtime: Runtime) -> bool:
    first = turn.log[0]
    ctx.trace("ladder.cancel", turn)
    reason = first.reason or first.kind
    cancelling = ctx.calls.start("cancel", runtime.cancel, entry.handle, reason)
    budget_end = first.time + turn.limits.cleanup
    if await cancelling.wait(budget_end) and cancelling.ok:
        ctx.trace("ladder.join", turn)
        await call.wait(min(budget_end, trio.current_time() + turn.limits.join))
    unfinished = [c for c in (cancelling, call) if not c.finished]
    if unfinished:
        ctx.trace("ladder.stop", turn)
        await ctx.calls.stop(*unfinished, reason=f"the turn is over: {first.kind}")
        for straggler in unfinished:
            if not straggler.finished:
                ctx.trace("straggler", turn, call=straggler.name)
    return call.finished and cancelling.ok


def _terminal(ctx: Context, turn: TurnState, entry: CacheEntry | None) -> dict[str, Any]:
    first = turn.log[0]
    error: str | None = None
    if first.kind == "failure":
        error = str(first.error)
    elif first.kind == "deadline":
        error = f"the turn timed out after {turn.limits.turn:g} s"
    state = "idle" if error is None else "error"
    # A turn that failed before it was marked as running may have opened a session whose ids are not stored yet.
    known = {} if entry is None else opened(entry.record)
    # One write for both.  What was never claimed is not ours to free.
    freed = FREE if turn.key in ctx.held and ctx.is_closed(turn.key) else {}
    return {"state": state, "last_error": error, "last_activity": ctx.wall_clock(), **known, **freed}
