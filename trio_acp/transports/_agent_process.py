"""An agent that runs as a child process, and of which nothing is left behind."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import trio

from trio_acp._errors import BackendUnavailable
from trio_acp._owner import MARK, current_owner, mark
from trio_acp._service import shielded

from ._group_process import GroupProcess
from ._redact import redact, secrets_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_log = logging.getLogger(__name__)

_TAIL = 8192
_QUOTED = 400
# How the time for closing is divided: after the end of input, after SIGTERM, after SIGKILL.
_FOR_EOF, _FOR_TERM, _FOR_KILL = 0.5, 0.25, 0.25
_STREAM_SECONDS = 1.0


class AgentProcess(GroupProcess, trio.abc.AsyncResource):
    """Owns the process, its pipes and its end."""

    def __init__(self, process: trio.Process, *, close_timeout: float, secrets: Sequence[str] = ()) -> None:
        super().__init__(process)
        self._secrets = secrets
        self._close_timeout = close_timeout
        # All three were asked for, so they are there.
        self.stdin = cast("trio.abc.SendStream", process.stdin)
        self.stdout = cast("trio.abc.ReceiveStream", process.stdout)
        self._stderr = cast("trio.abc.ReceiveStream", process.stderr)
        self._tail = bytearray()
        self._tail_complete = trio.Event()

    @property
    def stderr_tail(self) -> str:
        """The last 8 KiB of what the process wrote to its standard error, without the secrets of its environment."""
        return self.redacted(self._tail.decode(errors="replace"))

    def redacted(self, said: str) -> str:
        """Return what the process wrote, without the secrets of its environment."""
        return redact(said, self._secrets)

    @trio.lowlevel.enable_ki_protection
    async def drain_stderr(self) -> None:
        """Read standard error to its end, so that the agent never blocks on it; cancelled, it stops reading."""
        unfinished = b""
        with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            while data := await self._stderr.receive_some():
                self._tail += data
                del self._tail[:-_TAIL]
                if _log.isEnabledFor(logging.DEBUG):
                    *lines, unfinished = (unfinished + data).split(b"\n")
                    unfinished = unfinished[-_TAIL:]
                    for line in lines:
                        _log.debug("agent %d: %s", self.pid, self.redacted(line.decode(errors="replace")))
        self._tail_complete.set()
        await trio.lowlevel.checkpoint()

    async def describe_exit(self, seconds: float) -> str | None:
        """Wait at most `seconds` for the exit and the last words; None if it has not exited.  Cancellable."""
        with trio.move_on_after(seconds):
            await self.exited.wait()
            await self._tail_complete.wait()
        if self.status is None:
            return None
        if self.status < 0:
            try:
                how = f"agent was killed by {signal.Signals(-self.status).name}"
            except ValueError:
                how = f"agent was killed by signal {-self.status}"
        else:
            how = f"agent exited with code {self.status}"
        words = " | ".join(line.strip() for line in self.stderr_tail.splitlines() if line.strip())
        return f"{how}: {words[-_QUOTED:]}" if words else how

    async def stop(self) -> None:
        """End the process: end of input, SIGTERM, SIGKILL, within the close timeout.

        Half of the time is for the end of input, a quarter for each signal.
        If cancelled, the group is killed at once.  Nothing of it survives.
        """
        try:
            await self.stdin.aclose()
            with trio.move_on_after(self._close_timeout * _FOR_EOF):
                await self.exited.wait()
            if not self.exited.is_set():
                self.signal_group(signal.SIGTERM)
                with trio.move_on_after(self._close_timeout * _FOR_TERM):
                    await self.exited.wait()
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """End the process by force, and close its pipes.  Cancelled or not, it does the same."""
        if not self.exited.is_set():
            self.signal_group(signal.SIGKILL)
            with shielded(self._close_timeout * _FOR_KILL):
                await self.exited.wait()
        if not self.exited.is_set():
            _log.warning("agent %d was killed but has not exited", self.pid)
        for stream in (self.stdin, self.stdout, self._stderr):
            with shielded(_STREAM_SECONDS):
                await trio.aclose_forcefully(stream)


async def open_agent_process(
    argv: Sequence[str], *, cwd: str | None, env: Mapping[str, str] | None, close_timeout: float
) -> AgentProcess:
    """Start a program in a group of its own.  Starting cannot be interrupted; no checkpoint follows it.

    Raises:
        BackendUnavailable: it cannot be started; `detail` and the message say why.
    """
    program = argv[0]
    inherited = os.environ if env is None else env
    try:
        process = await trio.lowlevel.open_process(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**inherited, MARK: mark(current_owner(""))},
            start_new_session=True,
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        if cwd is not None and error.filename == cwd:
            raise BackendUnavailable(f"there is no directory {cwd!r}", detail="no-such-directory") from error
        raise BackendUnavailable(f"there is no program {program!r}", detail="no-such-program") from error
    except OSError as error:
        raise BackendUnavailable(f"cannot start {program!r}: {error.strerror}", detail="cannot-start") from error
    return AgentProcess(process, close_timeout=close_timeout, secrets=secrets_of(inherited))
