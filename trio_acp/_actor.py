"""The actor: the task that serves one session's lane while the lane is busy.

Two rules.  An actor is started by the admission that found the lane idle, in
the step of that admission, or by the actor before it that is kept by an
adapter, which serves the lane no more from that step on; by nothing else.  So
a busy lane has exactly one.  Nothing here waits for an adapter beyond a cause
or a deadline (`_turn.py` says how).

States of the task
------------------
``started``   the lane has its first request, and the task has not run yet.
``serving``   one request runs; its `settled` tells its caller, here at the latest.
``asking``    a turn's caller went on; the runtime is asked for the session's ids
              (`_refresh.py`), which gives way to whoever comes.
``released``  between two requests: a slot that was kept and not used is free,
              and other tasks run.
``ended``     nothing waits: the lane is gone and its handle, if any, begins to age.

Guarantees, each with the test that shows it
--------------------------------------------
G1 One at a time.  Requests of a session run one after the other, in order of
   admission; those of different sessions do not wait for each other.
   (test_turn_queue.py::test_turns_of_a_session_run_one_at_a_time_in_order)
   (test_turn_queue.py::test_turns_of_different_sessions_run_together)
G2 Containment.  A request whose code raises fails with detail
   ``internal-error``, its handle is suspect, and the lane serves the next one.
   (test_manager_exit.py::test_a_crashing_actor_harms_nobody_else)
G3 Settled.  Every request that was taken is settled when its lane goes on,
   also if the task is cancelled or crashes meanwhile.
   (test_actor.py::test_a_request_is_settled_however_its_actor_ends)
G4 Nothing kept.  A slot that a request kept for a new handle and did not use
   is free before the next one runs.
   (test_evictor.py::test_a_slot_kept_for_nothing_is_free)
G5 No task for an idle session.
   (test_actor.py::test_an_idle_session_has_no_task)

Bounds
------
A lane is held for as long as its turns (G1 of `_turn.py`) and controls take,
whose deadlines are theirs; then ``settle`` (and ``join``) at most for the ids of
a turn's session, cut by whoever comes, and ``cleanup`` for the row of a session
that is not open any more.  (test_manager_machine.py::TestManager)
(test_refresh.py::test_the_caller_does_not_wait_for_it_and_the_lane_does)
(test_refresh.py::test_whoever_comes_next_cuts_it)

Not promised: fairness between sessions beyond that of Trio's scheduler; that a
bug of ours is survived by the session's backend (it is closed and resumed).
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import attrs
import trio

from ._claims import release_if_closed, store_opening
from ._errors import StoreError, TurnFailed
from ._outcomes import Failed
from ._refresh import after_turn
from ._requests import Control
from ._serving import serve
from ._turn import end_turn, run_turn, settle
from ._turn_state import TurnState

if TYPE_CHECKING:
    from ._cache import CacheEntry
    from ._calls import Call
    from ._context import Context
    from ._requests import Request
    from .abc import Done

_log = logging.getLogger(__name__)


@trio.lowlevel.enable_ki_protection
def admit(ctx: Context, request: Request) -> None:
    """Put a request into its session's lane, and see that somebody serves the lane.

    Raises:
        QueueFull: too many requests wait already; nothing changed.
    """
    current = ctx.queue.current(request.key)
    if ctx.queue.admit(request.key, request):
        _start(ctx, request.key)
    elif isinstance(current, Control) and current.gives_way:
        current.stop()


@attrs.frozen
class _Ending:
    """What an actor that takes over begins with: a turn that is decided while its adapter still runs."""

    turn: TurnState
    entry: CacheEntry
    call: Call[Done]


@attrs.define(eq=False)
class Actor:
    """The task that has a lane; `ours` until it is handed on, whatever comes out of the adapter that keeps it then."""

    ctx: Context
    key: str
    ours: bool = True
    task: trio.lowlevel.Task = attrs.field(init=False)

    @trio.lowlevel.enable_ki_protection
    async def serve(self, ending: _Ending | None = None) -> None:
        """Serve the lane until nothing waits, or another task has it."""
        ctx, key, self.task = self.ctx, self.key, trio.lowlevel.current_task()
        while (request := ctx.queue.take(key) if ending is None else ending.turn) is not None:
            serve(key, request.id if isinstance(request, TurnState) else "")
            try:
                if isinstance(request, Control):
                    await _run_control(ctx, request)
                elif isinstance(request, TurnState):
                    if ending is not None:
                        await end_turn(ctx, request, ending.entry, ending.call)
                    else:
                        await run_turn(ctx, request, self._hand_on)
                    if self.ours and (rest := after_turn(ctx, request)) is not None:
                        ctx.queue.follow(key, rest)
                        await _run_control(ctx, rest)
            except Exception as error:  # noqa: BLE001 - our fault, or an adapter's: this request pays, nobody else
                _log.exception("the actor of %s failed", key)
                if self.ours:
                    _fail(ctx, request, error)
            finally:
                if self.ours and not request.settled.is_set():
                    _fail(ctx, request, None)
            if not self.ours:
                return
            ending = None
            await store_opening(ctx, request)
            await release_if_closed(ctx, request)
            ctx.capacity.let_go(key)
            ctx.trace("released", request)
            if ctx.queue.waiting(key):
                await trio.lowlevel.cancel_shielded_checkpoint()  # neither adapter nor store need have had any
        ctx.evictor.lane_released(key)
        ctx.gone(key)  # a handle went while all there was in the lane was withdrawn before it was taken

    def _hand_on(self, turn: TurnState, entry: CacheEntry, call: Call[Done]) -> None:
        self.ours = False
        self.task.name = call.task_name  # for whoever asks what does not end
        # Not in the context of whoever stopped the turn: a lane stays in that of the admission that found it idle.
        self.task.context.copy().run(_start, self.ctx, self.key, _Ending(turn, entry, call))


def _start(ctx: Context, key: str, ending: _Ending | None = None) -> None:
    ctx.nursery.start_soon(Actor(ctx, key).serve, ending, name=f"trio_acp actor {key}")


async def _run_control(ctx: Context, control: Control) -> None:
    if not control.internal:
        ctx.counters.controls += 1
    result: Any = None
    failure: Exception | None = None
    try:
        result = None if control.stopping else await control.run(control)
    except Exception as error:  # noqa: BLE001 - handed to the caller, whatever it is
        failure = error
    if not isinstance(failure, StoreError):  # from a store that has just failed he waits for nothing more
        # Before the caller goes on: he may want to open the session elsewhere.
        await control.interruptibly(math.inf, release_if_closed, ctx, control)
    control.settle(result, failure)


def _fail(ctx: Context, request: Request, error: Exception | None) -> None:
    failure = TurnFailed("trio_acp failed while it served this request; see the log", detail="internal-error")
    failure.__cause__ = error
    entry = ctx.cache.get(request.key)
    if entry is not None:
        entry.suspect = True
    if isinstance(request, TurnState):
        settle(ctx, request, Failed(failure))
    elif isinstance(request, Control):
        request.settle(error=failure)
