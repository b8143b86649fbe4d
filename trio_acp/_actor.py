"""The actor: the task that serves one session's lane while the lane is busy."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from ._errors import TurnFailed
from ._outcomes import Failed
from ._refresh import after_turn
from ._requests import Control
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
        ctx.capacity.let_go(key)
        ctx.trace("released", request)
    ctx.evictor.lane_released(key)


async def _run_control(ctx: Context, control: Control) -> None:
    if not control.internal:
        ctx.counters.controls += 1
    try:
        result = None if control.stopping else await control.run(control)
    except Exception as error:  # noqa: BLE001 - handed to the caller, whatever it is
        control.settle(error=error)
    else:
        control.settle(result)


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
