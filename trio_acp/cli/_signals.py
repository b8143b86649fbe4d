"""Running a command until it ends or a signal asks for its end."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import trio

from .._service import ServiceScope
from ._exits import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


def run(command: Callable[[], Awaitable[int]]) -> int:
    """Run a command under Trio and return its exit code.

    SIGINT or SIGTERM cancels it, and the exit code is then 130; it does its
    bounded cleanup first.  A second signal leaves at once, without cleanup.
    """
    return trio.run(_until_signal, command)


async def _until_signal(command: Callable[[], Awaitable[int]]) -> int:
    code = INTERRUPTED
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with ServiceScope("signals") as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(_watch, signals, scope)
                code = await command()
            return INTERRUPTED if scope.cancel_called else code


async def _watch(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for number in signals:
        if scope.cancel_called:
            os._exit(INTERRUPTED)
        scope.cancel(reason=f"interrupted by {signal.Signals(number).name}")
