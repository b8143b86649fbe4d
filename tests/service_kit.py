"""What the tests of commands share: finding the processes of one test, wherever they have gone."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is true that tells nobody, such as what processes do."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - there is no event
            await trio.sleep(0.01)


class Marker:
    """A variable of the environment by which a test knows its own processes, grandchildren included."""

    def __init__(self) -> None:
        self.name, self.value = "TEST_MARKER", uuid.uuid4().hex

    def pids(self) -> set[int]:
        """Return the processes that carry it and have not exited."""
        line = f"{self.name}={self.value}".encode()
        found = set()
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                if line in (process / "environ").read_bytes().split(b"\0"):
                    found.add(int(process.name))
            except OSError:
                continue
        return found

    async def wait_for(self, count: int) -> None:
        """Wait until there are so many."""
        await until(lambda: len(self.pids()) == count)
