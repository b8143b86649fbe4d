"""The bundled scripted agent as a process of its own behind a loopback WebSocket, for the demonstration."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from .._errors import BackendUnavailable
from .._service import shielded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_START_SECONDS = 20.0
_STOP_SECONDS = 8.0
_KILL_SECONDS = 2.0
_LONGEST_URL = 1000


@asynccontextmanager
async def bundled_agent(state_dir: Path) -> AsyncIterator[str]:
    """Start ``trio-acp serve`` with the scripted agent; yield its URL; stop it at the end, within 10 seconds.

    If cancelled, it is stopped in the same way.

    Raises:
        BackendUnavailable: it did not start.
    """
    agent = [sys.executable, "-m", "trio_acp.testing.agent", "--state-dir", str(state_dir)]
    serve = [sys.executable, "-m", "trio_acp", "serve", "--port", "0", "--insecure-no-token", "--", *agent]
    process = await trio.lowlevel.open_process(serve, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        yield await _read_url(process)
    finally:
        process.terminate()
        with shielded(_STOP_SECONDS):
            await process.wait()
        process.kill()  # does nothing to a process that has been waited for
        with shielded(_KILL_SECONDS):
            await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()


async def _read_url(process: trio.Process) -> str:
    assert process.stdout is not None
    line = b""
    with trio.move_on_after(_START_SECONDS):
        while not line.endswith(b"\n") and len(line) < _LONGEST_URL:
            data = await process.stdout.receive_some()
            if not data:
                break
            line += data
    if not line.endswith(b"\n"):
        raise BackendUnavailable("the bundled agent's server did not start")
    return line.decode().strip()


def processes_mentioning(word: str) -> int | None:
    """Count the other processes whose command line has `word`; None where the system does not show them."""
    proc = Path("/proc")
    if not (proc / "self" / "cmdline").exists():
        return None
    count = 0
    for entry in proc.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            count += os.fsencode(word) in (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
    return count
