"""A connection pool with a bug, and the explorer finding it.  No ACP here.

Run it (``python examples/explore_pool.py``), or see more with
``trio-acp explore examples/explore_pool.py::pool``.
"""

from __future__ import annotations

import trio

from trio_acp.explore import Cancel, Case, Plan, Scenario, explore


class Pool:
    """So many connections, lent to one task each."""

    def __init__(self, size: int) -> None:
        self.free = size
        self.waiting: list[trio.Event] = []

    async def acquire(self) -> None:
        """Wait for a free connection."""
        await trio.lowlevel.checkpoint()
        if self.free:
            self.free -= 1
            return
        event = trio.Event()
        self.waiting.append(event)
        await event.wait()  # the bug: who is cancelled here keeps its place in the queue

    def release(self) -> None:
        """Give the connection to the next in the queue, or back."""
        if self.waiting:
            self.waiting.pop(0).set()
        else:
            self.free += 1


class MendedPool(Pool):
    """The same, but who is cancelled leaves the queue, or passes on what it was given."""

    async def acquire(self) -> None:
        """Wait for a free connection; if cancelled, the pool is as before."""
        await trio.lowlevel.checkpoint()
        if self.free:
            self.free -= 1
            return
        event = trio.Event()
        self.waiting.append(event)
        try:
            await event.wait()
        except trio.Cancelled:
            if event.is_set():
                self.release()
            else:
                self.waiting.remove(event)
            raise


async def use(pool: Pool, seconds: float) -> None:
    """Use a connection for a while."""
    await pool.acquire()
    try:
        await trio.sleep(seconds)
    finally:
        pool.release()


async def check(pool: Pool, case: Case) -> None:
    """Let two tasks share one connection, the second of which may be cancelled at any point."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(use, pool, 1)
        await trio.sleep(0.5)
        with case.scope:
            await use(pool, 1)
    assert pool.free == 1, "a connection was lost"


async def with_bug(case: Case) -> None:
    """The scenario with the bug."""
    await check(Pool(1), case)


async def without_bug(case: Case) -> None:
    """The scenario without it."""
    await check(MendedPool(1), case)


pool = Scenario(with_bug, "pool", (Cancel(),))
mended = Scenario(without_bug, "mended", (Cancel(),))

if __name__ == "__main__":
    print(explore(pool))
    print()
    print(explore(mended, Plan(schedules=100)))
    print("\nCompleted: the bug is found, and the mended pool has none.")
