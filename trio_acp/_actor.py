"""The actor: the task that serves one session's lane while the lane is busy.

Two rules.  An actor is started by the admission that found the lane idle and by
nothing else, in the step of that admission; so a busy lane has exactly one.
Nothing here awaits an adapter: turns (`_turn.py`) and controls do that by
sibling tasks.

States of the task
------------------
``started``   the lane has its first request, and the task has not run yet.
``serving``   one request runs; its `settled` tells its caller, here at the latest.
``asking``    a turn's caller went on; the runtime is asked for the session's ids
              (`_refresh.py`), which gives way to whoever comes.
``released``  between two requests: a slot that was kept and not used is free.
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

import trio

from ._claims import release_if_closed, store_opening
from ._errors import StoreError, TurnFailed
from ._outcomes import Failed
from ._refresh import after_turn
from ._requests import Control
from ._serving import serve
from ._turn import run_turn, settle
from ._turn_state import TurnState

if TYPE_CHECKING:
    from ._context import Context
    from ._requests import Request

_log = logging.getLogger(__name__)


def admit(ctx: Context, request: Request) -> None:
    """Put a request into its session's lane, and see that somebody serves the lane.

    Raises:
        QueueFull: too many requests wait already; nothing changed.
    """
    current = ctx.queue.current(request.key)
    if ctx.queue.admit(request.key, request):
        ctx.nursery.start_soon(_serve_lane, ctx, request.key, name=f"trio_acp actor {request.key}")
    elif isinstance(current, Control) and current.gives_way:
        current.stop()


@trio.lowlevel.enable_ki_protection
async def _serve_lane(ctx: Context, key: str) -> None:
    while (request := ctx.queue.take(key)) is not None:
        serve(key, request.id if isinstance(request, TurnState) else "")
        try:
            if isinstance(request, TurnState):
                await run_turn(ctx, request)
                if (rest := after_turn(ctx, request)) is not None:
                    ctx.queue.follow(key, rest)
                    await _run_control(ctx, rest)
            elif isinstance(request, Control):
                await _run_control(ctx, request)
        except Exception as error:  # noqa: BLE001 - our fault, or an adapter's: this request pays, nobody else
            _log.exception("the actor of %s failed", key)
            _fail(ctx, request, error)
        finally:
            if not request.settled.is_set():
                _fail(ctx, request, None)
        await store_opening(ctx, request)
        await release_if_closed(ctx, request)
        ctx.capacity.let_go(key)
        ctx.trace("released", request)
    ctx.evictor.lane_released(key)
    ctx.gone(key)  # a handle went while all there was in the lane was withdrawn before it was taken


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
