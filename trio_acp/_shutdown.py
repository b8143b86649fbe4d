"""The end of a manager: everything stopped, closed and written, in parallel and bounded."""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import trio

from ._errors import ManagerClosed
from ._outcomes import Stopped
from ._requests import Control
from ._service import shielded
from ._serving import serving
from ._turn import settle
from ._turn_state import TurnState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._calls import Call
    from ._context import Context
    from ._errors import AcpError
    from ._requests import Request

_log = logging.getLogger(__name__)

MOST_NAMED: Final = 10
"""Sessions whose failed closing is logged each for itself."""


@trio.lowlevel.enable_ki_protection
async def shut_down(ctx: Context) -> None:
    """Stop everything, in parallel; bounded, whatever the adapters do."""
    ctx.closing = True
    limits = ctx.settings.limits
    running: list[Request] = []
    for key in ctx.queue.busy():
        for request in ctx.queue.requests(key):
            waiting = ctx.queue.withdraw(key, request)
            closed = ManagerClosed("the session manager was closed")
            match request:
                case TurnState() if waiting:
                    ctx.trace("withdrawn", request)
                    settle(ctx, request, Stopped(by="shutdown"))
                case TurnState():
                    request.stop("shutdown", trio.current_time())
                    running.append(request)
                case Control() if waiting:
                    request.settle(error=closed)
                case Control():
                    request.stop(closed)
                    running.append(request)
                case _:
                    pass
    with shielded(2 * limits.cleanup + 2 * limits.join):
        for request in running:
            await request.settled.wait()
    with shielded(limits.cleanup + 2 * limits.join):
        others: list[Call[None]] = [ctx.calls.start("save", ctx.save_unsaved, trio.current_time() + limits.cleanup)]
        if ctx.book is not None:
            others.append(ctx.calls.start("ledger", ctx.book.flush, trio.current_time() + limits.cleanup))
        closing: dict[str, Call[AcpError | None]] = {}
        for key in ctx.cache:
            entry = ctx.cache.take_out(key)
            assert entry is not None
            runtime = ctx.runtime(entry.record.agent)
            with serving(key):
                closing[key] = ctx.calls.start(
                    "close", ctx.try_close, runtime, entry.handle, "shutdown", limits.cleanup
                )
        everything: list[Call[Any]] = [*others, *closing.values()]
        for call in everything:
            await call.wait(trio.current_time() + limits.cleanup + limits.join)
        _report({key: call.value for key, call in closing.items() if not call.ok or call.value is not None})


def _report(failed: Mapping[str, AcpError | None]) -> None:
    """Log whose session was not closed: the first ones, and how many more."""
    for key, error in islice(failed.items(), MOST_NAMED):
        with serving(key):
            _log.warning("closing the session of %s (shutdown) failed: %s", key, error or "no answer in time")
    if len(failed) > MOST_NAMED:
        _log.warning("closing %d more sessions (shutdown) failed", len(failed) - MOST_NAMED)
