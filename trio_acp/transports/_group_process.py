"""A child process that leads a process group of its own.

When it exits, by itself or because it is told to, everything else in its group
is killed in the same step: between reaping a process and signalling its group
the number could otherwise be given to a stranger.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import trio


class GroupProcess:
    """A process that was started with ``start_new_session``.

    Attributes:
        pid: The process id, which is also the id of its group.
        status: The exit status once it has exited, negative for a signal.
        exited: Set when the process has exited and its group was killed.
    """

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self.pid = process.pid
        self.exited = trio.Event()
        self.status: int | None = None

    @trio.lowlevel.enable_ki_protection
    async def watch_exit(self) -> None:
        """Reap the process when it exits, and kill what is left of its group; cancelled, it stops watching."""
        self.status = await self._process.wait()
        self.signal_group(signal.SIGKILL)
        self.exited.set()

    def signal_group(self, signum: signal.Signals) -> None:
        """Send a signal to the process and all that it has started; only while it has not `exited`."""
        # No such group: all have gone.  Not permitted: some systems say so of a group that has only zombies.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signum)
