"""A cache that looks, waits and then acts: a bug that no cancellation shows, only another order of tasks.

Run it (``python examples/explore_cache.py``), or as a test: pytest calls
``test_what_is_in_use_is_not_closed``, which explores it and fails.
"""

from __future__ import annotations

import trio

from trio_acp.explore import Case, ExplorationFailed, Plan, explored


class Handle:
    """Something expensive that is opened, used and closed."""

    def __init__(self) -> None:
        self.users = 0
        self.closed = False

    async def use(self) -> None:
        """Work with it for a moment."""
        assert not self.closed, "it was closed while in use"
        self.users += 1
        await trio.lowlevel.checkpoint()
        assert not self.closed, "it was closed while in use"
        self.users -= 1


async def close_if_idle(handle: Handle) -> None:
    """Close a handle that nobody uses."""
    if handle.users == 0:
        await trio.lowlevel.checkpoint()  # the bug: meanwhile, somebody may have begun
        handle.closed = True


@explored(plan=Plan(schedules=200))
async def test_what_is_in_use_is_not_closed(case: Case) -> None:
    """Close a handle at the time when somebody begins to use it, unless it is closed already."""
    handle = Handle()

    async def user() -> None:
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        if not handle.closed:
            await handle.use()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close_if_idle, handle)
        nursery.start_soon(user)


if __name__ == "__main__":
    try:
        test_what_is_in_use_is_not_closed()
    except ExplorationFailed as failure:
        print(failure.report)
        print("\nCompleted: the bug is found.")
