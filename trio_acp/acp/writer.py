"""The one task that sends: it writes what is in the outbox, and the time of each write is bounded."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from .._alarm import Alarm
from .._errors import ConnectionLost
from .._serving import serve

if TYPE_CHECKING:
    from ..abc import Transport
    from .outbox import Outbox


class Writer:
    """Two tasks: one writes, one watches that it gets on.

    A scope for each write would cost as much as the write of a small frame, and
    nearly all of them end at once: so the watcher wakes when the first would be
    too late, and looks at the one that is under way then.

    Args:
        outbox: What is to be written.
        transport: Where to.
        stall: Seconds after which a write that does not end has failed.
    """

    def __init__(self, outbox: Outbox, transport: Transport, stall: float) -> None:
        self._outbox = outbox
        self._transport = transport
        self._stall = stall
        self._too_late = math.inf  # when the write that is under way will have failed
        self._suspect = math.inf  # the same, of the write that was found too late once
        self._alarm = Alarm(lambda: self._too_late, self._check)

    async def write(self) -> ConnectionLost:
        """Write until the connection has ended, and return why.  If cancelled, a frame may have been sent in part."""
        while True:
            frames = await self._outbox.take()
            serve(*frames[0].served)
            self._too_late = trio.current_time() + self._stall
            self._alarm.not_after(self._too_late)
            try:
                await self._transport.send_many([frame.text for frame in frames])
            except ConnectionLost as error:
                return error
            finally:
                self._too_late = math.inf

    async def watch(self) -> None:
        """Wait until a write takes too long.  If cancelled, nobody watches any more.

        Raises:
            ConnectionLost: it does; whoever gets this has to cancel it.
        """
        await self._alarm.run()

    def _check(self) -> None:
        if self._too_late > trio.current_time():
            return
        # If the whole program was busy or stopped, the write may have ended, and its task had no turn yet to say so.
        # The alarm rings again at once; by then it had one.
        if self._suspect == self._too_late:
            raise ConnectionLost(f"the agent read nothing for {self._stall:g} s", detail="write-stalled")
        self._suspect = self._too_late
