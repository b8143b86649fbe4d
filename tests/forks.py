"""Commands as processes of their own, without the second that Python takes to import all of it each time.

One process for each worker of pytest imports the command and forks for every
run.  So a command has its own arguments, environment, streams, signals and exit
code, like one that was started afresh; what it shares is the interpreter's
start.  A test that changes how Python starts gets a fresh one.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UTF_8: Final = ("utf-8", "utf8")
_PIDS: Final[set[int]] = set()


def _start(env: Mapping[str, str]) -> tuple[object, ...]:
    """Return what of an environment decides how Python starts."""
    language = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or "utf-8"
    python = sorted((name, value) for name, value in env.items() if name.startswith("PYTHON"))
    return language.lower().endswith(_UTF_8), env.get("TZ"), python


@functools.cache
def _forker() -> socket.socket:
    """Start the process that forks, once; it ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        argv = [sys.executable, "-m", "tests.programs.forks", str(theirs.fileno())]
        process = subprocess.Popen(
            argv, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    _PIDS.add(process.pid)
    return ours


def forkers() -> frozenset[int]:
    """Return the id of the process that forks, if it was started."""
    return frozenset(_PIDS)


_AT_FIRST: Final = _start(os.environ)


def can_fork(env: Mapping[str, str]) -> bool:
    """Whether a command with this environment can be had without a fresh start of Python."""
    return sys.platform == "linux" and _AT_FIRST[0] is True and _start(env) == _AT_FIRST


class Command:
    """A command that runs, with what tests use of `trio.Process`."""

    def __init__(self, report: int) -> None:
        self._report = trio.lowlevel.FdStream(report)
        self._told = b""
        self._lock = trio.Lock()
        self.pid = 0
        self.returncode: int | None = None
        self.stdin: trio.abc.SendStream | None = None
        self.stdout: trio.abc.ReceiveStream | None = None
        self.stderr: trio.abc.ReceiveStream | None = None

    async def line(self) -> int:
        """Return the next number that is told of it."""
        while b"\n" not in self._told:
            data = await self._report.receive_some()
            if not data:
                raise RuntimeError("the process that forks commands has ended")
            self._told += data
        line, _, self._told = self._told.partition(b"\n")
        return int(line)

    def send_signal(self, signum: int) -> None:
        """Send a signal, if it has not ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def kill(self) -> None:
        """Kill it, if it has not ended."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end, if it has not ended."""
        self.send_signal(signal.SIGTERM)

    async def wait(self) -> int:
        """Wait for its end; return the exit code, negative for a signal."""
        async with self._lock:
            if self.returncode is None:
                self.returncode = await self.line()
                await self._report.aclose()
        return self.returncode


async def fork(
    args: Sequence[str],
    *,
    env: Mapping[str, str],
    streams: tuple[int | None, int | None, int | None] = (None, None, None),
    cwd: str | None = None,
    terminal: bool = False,
) -> Command:
    """Start ``trio-acp`` with these arguments; `can_fork` was asked before.

    Args:
        args: Its arguments.
        env: Its whole environment.
        streams: Descriptors for its standard streams; a pipe to us for each that is None.
        cwd: Its directory; ours if None.
        terminal: Whether the first stream is a terminal, which becomes that of a new session.
    """
    read, write = os.pipe()
    command = Command(read)
    theirs: list[int] = []
    for number, stream in enumerate(streams):
        if stream is not None:
            theirs.append(os.dup(stream))
            continue
        near, far = os.pipe()
        if number == 0:
            near, far = far, near
            command.stdin = trio.lowlevel.FdStream(near)
        elif number == 1:
            command.stdout = trio.lowlevel.FdStream(near)
        else:
            command.stderr = trio.lowlevel.FdStream(near)
        theirs.append(far)
    message = {"args": list(args), "env": dict(env), "cwd": cwd or os.getcwd(), "terminal": terminal}  # noqa: PTH109
    try:
        socket.send_fds(_forker(), [json.dumps(message).encode()], [*theirs, write])
    finally:
        for fd in (*theirs, write):
            os.close(fd)
    command.pid = await command.line()
    return command
