"""Writing records in order, in the background: nobody waits for it, and it decides nothing.

Whoever has a record hands it over with one synchronous call.  One task writes
what there is, in batches, each under a deadline; what could not be written is
tried again, so whatever is written to must know a record that it has already.
"""

from __future__ import annotations

import logging
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

_log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY: Final = 1.0
"""Seconds between two attempts to write."""
BATCH: Final = 256
"""Records that are written at once, at most."""


class Appender(Generic[T]):
    """Writes records through `write`, oldest first.

    Args:
        name: What is written to, for the log.
        write: Writes some records, all or none.
        patience: Seconds that one write may take.
        most: The weight of the records that may wait; further ones are lost.
        linger: Seconds that a record waits for others to be written with it.

    Attributes:
        failures: Writes that failed or exceeded their deadline.
        lost: Records that were never written.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[Sequence[T]], Awaitable[None]],
        *,
        patience: float,
        most: int,
        linger: float = 0.0,
    ) -> None:
        self.failures = 0
        self.lost = 0
        self._name = name
        self._write = write
        self._patience = patience
        self._most = most
        self._linger = linger
        self._waiting: deque[tuple[T, int]] = deque()
        self._weight = 0
        self._news = trio.Event()
        self._hurry = trio.Event()
        self._stopped = trio.Event()

    def add(self, record: T, weight: int = 1, *, first: bool = False) -> bool:
        """Take a record to be written; False if too much waits already.

        What matters more, `first`, may take as much room again, and then as
        much as it needs if nothing else waits.
        """
        most = 2 * self._most if first else self._most
        if self._weight + weight > most and (self._waiting or not first):
            if not self.lost:
                _log.error("the %s does not keep up: records are lost", self._name)
            self.lost += 1
            return False
        self._waiting.append((record, weight))
        self._weight += weight
        self._news.set()
        return True

    def grow(self, weight: int) -> bool:
        """Count what the newest record has grown by; False if too much waits already, and it must not."""
        if self._weight + weight > self._most or not self._waiting:
            return False
        record, before = self._waiting.pop()
        self._waiting.append((record, before + weight))
        self._weight += weight
        return True

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Write what comes.  If cancelled, a batch that is being written may be in it or not, as a whole."""
        pause = self._linger
        while True:
            while not self._waiting and not self._hurry.is_set():
                self._news = trio.Event()
                await self._news.wait()
            with trio.move_on_after(pause):
                await self._hurry.wait()
            last = self._hurry.is_set()
            written = await self._write_batch()
            pause = self._linger if written else RETRY
            if last and (not written or not self._waiting):
                self._stopped.set()
                return

    def finish(self) -> None:
        """Try once more to write all that waits, at once; see `finished`."""
        self._hurry.set()
        self._news.set()

    async def finished(self) -> None:
        """Wait until that was tried.  If cancelled, it goes on as long as `run` does."""
        await self._stopped.wait()

    def give_up(self) -> None:
        """Say how much was not written, if anything."""
        if self._waiting:
            self.lost += len(self._waiting)
            _log.error("the %s lacks its last %d records", self._name, len(self._waiting))

    async def _write_batch(self) -> bool:
        batch = tuple(islice(self._waiting, BATCH))
        if not batch:
            return True
        problem = f"no answer within {self._patience:g} s"
        try:
            with trio.move_on_after(self._patience):
                await self._write([record for record, _ in batch])
                for _ in batch:
                    self._weight -= self._waiting.popleft()[1]
                return True
        # Outside of the scope: a nursery in there may put an error and our cancellation into one group.
        except Exception as error:  # noqa: BLE001 - whatever is raised there, it decides nothing
            problem = str(error) or repr(error)
        self.failures += 1
        _log.warning("the %s did not take %d records: %s", self._name, len(batch), problem)
        return False
