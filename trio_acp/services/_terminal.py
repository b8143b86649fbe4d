"""One command of an agent: its process group, its output, and its end.

A task in the connection's nursery owns the process from its start on.  Others
only ask that task to end it, synchronously, and wait for `Terminal.done`.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import attrs
import trio

from .._service import ServiceScope, shielded
from ..transports._group_process import GroupProcess
from ._refused import Refused
from ._ring import OutputRing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_log = logging.getLogger(__name__)

TERM_SECONDS: Final = 0.5
"""How long a command has to heed SIGTERM."""
KILL_SECONDS: Final = 0.5
"""How long it may take to be gone after SIGKILL."""
LAST_WORDS_SECONDS: Final = 0.25
"""How long its output is read after it has exited: something that has left its group may hold the pipe for ever."""
END_SECONDS: Final = TERM_SECONDS + KILL_SECONDS + LAST_WORDS_SECONDS

_PIECE: Final = 2**16
# By this name a child can be started in a directory that is known by its descriptor, and so cannot be swapped.
_DESCRIPTORS: Final = "/proc/self/fd"
_HAS_DESCRIPTORS: Final = Path(_DESCRIPTORS).is_dir()


@attrs.frozen
class Exit:
    """How a command ended: one of the two is None."""

    code: int | None
    signal: str | None


class Terminal(GroupProcess):
    """A command, from its start until it is released.

    Attributes:
        done: Set when it has exited, its group is gone, and its output is complete.
    """

    def __init__(self, process: trio.Process, *, limit: int, wall: float) -> None:
        super().__init__(process)
        self._stdout = cast("trio.abc.ReceiveStream", process.stdout)  # it was asked for
        self._ring = OutputRing(limit)
        self._wall = wall
        self._unwanted = trio.Event()
        self._output_complete = trio.Event()
        self.done = trio.Event()

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it runs, or its output is still being read."""
        if self.status is None or not self.done.is_set():
            return None
        if self.status >= 0:
            return Exit(self.status, None)
        try:
            return Exit(None, signal.Signals(-self.status).name)
        except ValueError:
            return Exit(None, f"SIG{-self.status}")

    def output(self) -> tuple[str, bool]:
        """Return the end of its output so far, and whether its beginning is missing."""
        return self._ring.text(complete=self.done.is_set())

    def end(self) -> None:
        """Have it ended, if it has not exited; returns at once: wait for `done`."""
        self._unwanted.set()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Own the process until it is gone.  If cancelled, it is ended, within `END_SECONDS`.  Raises nothing.

        Ended means: SIGTERM to its group, and soon after SIGKILL.
        """
        try:
            # Its tasks outlive a cancelled body, so that the end can be watched.
            async with ServiceScope("terminal") as nursery:
                nursery.start_soon(self.watch_exit, name="trio_acp terminal exit")
                nursery.start_soon(self._read, name="trio_acp terminal output")
                try:
                    await self._wait_for_a_reason(nursery)
                finally:
                    await self.shut_down()
        except Exception:  # noqa: BLE001 - our fault: one command pays, not the connection
            _log.exception("looking after the command %d failed", self.pid)
        finally:
            if self.status is None:  # also if the scope above could not even begin
                self.signal_group(signal.SIGKILL)
                _log.warning("the command %d was killed but has not exited", self.pid)
            self.done.set()

    async def _wait_for_a_reason(self, nursery: trio.Nursery) -> None:
        """Wait for its exit, the wish for its end, or the wall limit.  Cancellable."""
        either = trio.Event()

        async def tell(event: trio.Event) -> None:
            await event.wait()
            either.set()

        nursery.start_soon(tell, self.exited, name="trio_acp terminal watch")
        nursery.start_soon(tell, self._unwanted, name="trio_acp terminal watch")
        with trio.move_on_after(self._wall) as limit:
            await either.wait()
        if limit.cancelled_caught:
            _log.info("the command %d is ended: it ran longer than %g s", self.pid, self._wall)

    async def shut_down(self) -> None:
        """End it if it runs, read its last words, and close its output.  Cancelled or not, it does the same."""
        for signum, seconds in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
            if not self.exited.is_set():
                self.signal_group(signum)
                with shielded(seconds):
                    await self.exited.wait()
        with shielded(LAST_WORDS_SECONDS):
            await self._output_complete.wait()
        with shielded(LAST_WORDS_SECONDS):
            await trio.aclose_forcefully(self._stdout)

    @trio.lowlevel.enable_ki_protection
    async def _read(self) -> None:
        """Read its output to the end, so that it never blocks on it; cancelled, it stops reading."""
        with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            while data := await self._stdout.receive_some(_PIECE):
                self._ring.write(data)
        self._output_complete.set()


async def start_terminal(
    argv: Sequence[str], *, name: str, directory: int, path: str, env: Mapping[str, str], limit: int, wall: float
) -> Terminal:
    """Start a command in a group of its own.  Starting cannot be interrupted; no checkpoint follows it.

    Args:
        argv: An absolute path, then the arguments.
        name: What the agent calls it, for errors: where it is, is not the agent's concern.
        directory: The descriptor of its working directory.
        path: The directory's path, for where a descriptor cannot say it.
        env: Its whole environment.
        limit: How many bytes of its output are kept.
        wall: Seconds that it may run.

    Raises:
        Refused: it cannot be started.
    """
    cwd = f"{_DESCRIPTORS}/{directory}" if _HAS_DESCRIPTORS else path
    try:
        process = await trio.lowlevel.open_process(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=dict(env),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise Refused("failed", f"{name!r} cannot be started: {why}") from error
    return Terminal(process, limit=limit, wall=wall)
