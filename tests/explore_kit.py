"""What the tests of the explorer share: exploring in one line, and small programs with known faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from trio_acp.explore import Cancel, Plan, Report, Scenario, explore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_acp.explore import Case
    from trio_acp.explore._actions import Action


def scenario(function: Callable[[Case], Awaitable[object]], *actions: Action, max_steps: int = 2000) -> Scenario:
    """Return a scenario named for its function."""
    return Scenario(function, function.__name__, actions, max_steps)


def report_of(function: Callable[[Case], Awaitable[object]], *actions: Action, **plan: Any) -> Report:
    """Explore a function; plan as in `Plan`."""
    return explore(scenario(function, *actions), Plan(**plan))


def kinds(report: Report) -> list[str]:
    """Return the kinds of what was found."""
    return [finding.kind for finding in report.findings]


async def workers(count: int, steps: int, log: list[int]) -> None:
    """Run tasks that each write their number `steps` times, with a checkpoint before each."""

    async def work(number: int) -> None:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
            log.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(work, number)


class LeakyPool:
    """A pool whose cancelled waiter stays in the queue: the lost wake-up."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.waiting: list[trio.Event] = []

    async def acquire(self) -> None:
        """Wait for a free one."""
        await trio.lowlevel.checkpoint()
        if self.free == 0:
            event = trio.Event()
            self.waiting.append(event)
            await event.wait()
        else:
            self.free -= 1

    def release(self) -> None:
        """Give it to the next, or back."""
        if self.waiting:
            self.waiting.pop(0).set()
        else:
            self.free += 1


async def lost_wake_up(case: Case) -> None:
    """Wait behind another user of a leaky pool."""
    pool = LeakyPool(1)

    async def use() -> None:
        await pool.acquire()
        await trio.sleep(1)
        pool.release()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(use)
        await trio.sleep(0.5)
        with case.scope:
            await use()
    assert 1 == pool.free


async def woken_but_not_yet_run(case: Case) -> None:
    """Classify a receiver by `cancelled_caught`, which misses a cancel between its waking and its running."""
    send, receive = trio.open_memory_channel[str](0)
    accepted = False

    async def finish() -> None:
        await trio.sleep(1)
        await send.send("end")

    def stop() -> None:
        nonlocal accepted
        if not ended:
            accepted = True
            scope.cancel(reason="stop")

    case.on("stop", stop)
    ended = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(finish)
        with trio.CancelScope() as scope:
            await receive.receive()
        ended = True
        nursery.cancel_scope.cancel()
    assert accepted == scope.cancelled_caught, "a stop was accepted, and yet the outcome is completed"


async def check_then_act(case: Case) -> None:
    """Close an idle connection after looking twice, with an await between the last look and the closing."""
    closed, used = False, 0

    async def evict() -> None:
        nonlocal closed
        if used == 0:
            await trio.lowlevel.checkpoint()  # it looks, it waits, it acts
            closed = True

    async def use() -> None:
        nonlocal used
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        if closed:
            return  # a new one would be opened
        used += 1
        await trio.lowlevel.checkpoint()
        assert not closed, "it was closed while in use"
        used -= 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(evict)
        nursery.start_soon(use)


CANCEL = Cancel()
