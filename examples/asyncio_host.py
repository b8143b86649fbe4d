"""Use trio_acp from an asyncio program: Trio runs as its guest, in the same thread.

A bot framework, a notebook or a GUI that owns asyncio's loop stays as it is::

    python examples/asyncio_host.py
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

import trio

import trio_acp
from trio_acp.testing import ScriptedAgent, dial_agent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from outcome import Outcome

T = TypeVar("T")


async def run_trio(async_fn: Callable[[], Awaitable[T]]) -> T:
    """Run an async function of Trio to its end, from asyncio.

    If asyncio cancels this, Trio is cancelled, and waited for: it has bounded
    cleanup to do.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Outcome[T]] = loop.create_future()
    scope = trio.CancelScope()

    async def guest() -> T:
        with scope:
            return await async_fn()
        raise asyncio.CancelledError

    trio.lowlevel.start_guest_run(
        guest,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        done_callback=ended.set_result,
        host_uses_signal_set_wakeup_fd=True,
    )
    try:
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        scope.cancel(reason="the asyncio task was cancelled")
        while not ended.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(ended)
        raise
    return ended.result().unwrap()


async def ask() -> str:
    """Be the part that is written for Trio."""
    runtime = trio_acp.AcpRuntime(dial_agent(ScriptedAgent()))
    async with trio_acp.open_session_manager({"agent": runtime}) as manager:
        reply = await manager.ask("sleep 0.1; say Hello from Trio", agent="agent")
        return f"{reply}: {reply.outcome}"


async def main() -> None:
    """Be the asyncio program, whose own tasks go on meanwhile."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    print(await run_trio(ask))
    ticking.cancel()
    print("asyncio went on meanwhile:", ticks > 1)


if __name__ == "__main__":
    asyncio.run(main())
