"""The end of a manager: everything stopped, closed and written, in parallel and bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from ._errors import ManagerClosed
from ._outcomes import Stopped
from ._requests import Control
from ._service import shielded
from ._serving import serving
from ._turn import settle
from ._turn_state import TurnState

if TYPE_CHECKING:
    from ._calls import Call
    from ._context import Context
    from ._requests import Request


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
        closing: list[Call[Any]] = [ctx.calls.start("save", ctx.save_unsaved, trio.current_time() + limits.cleanup)]
        if ctx.book is not None:
            closing.append(ctx.calls.start("ledger", ctx.book.flush, trio.current_time() + limits.cleanup))
        for key in ctx.cache:
            entry = ctx.cache.take_out(key)
            assert entry is not None
            runtime = ctx.runtime(entry.record.agent)
            with serving(key):
                closing.append(
                    ctx.calls.start("close", ctx.close_handle, runtime, entry.handle, "shutdown", limits.cleanup)
                )
        for call in closing:
            await call.wait(trio.current_time() + limits.cleanup + limits.join)
