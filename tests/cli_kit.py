"""What the tests of the command line share: running it, and serving an agent to it."""

from __future__ import annotations

import functools
import json
import os
import shlex
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from tests.forks import Command, can_fork, fork
from trio_acp.cli._accept import Doorkeeper
from trio_acp.transports.stdio import dial_stdio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

CLI = [sys.executable, "-m", "trio_acp"]
AGENT = [sys.executable, "-m", "trio_acp.testing.agent"]
STDIO = shlex.join(AGENT)
# An agent that sends back every line it reads.
ECHO = [sys.executable, "-uc", "import sys\nfor line in sys.stdin: sys.stdout.write(line); sys.stdout.flush()"]


@asynccontextmanager
async def serving(doorkeeper: Doorkeeper) -> AsyncIterator[str]:
    """Serve in this process; yield the URL."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(functools.partial(trio.serve_listeners, doorkeeper.serve, listeners))
        yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/acp"
        nursery.cancel_scope.cancel()


def doorkeeper(argv: Sequence[str] = AGENT, **options: Any) -> Doorkeeper:
    """Return one that starts `argv` for each client."""
    return Doorkeeper(dial=dial_stdio(argv), **options)


async def run_cli(
    *args: str, stdin: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a process, to its end."""
    whole = {**os.environ, **(env or {})}
    with trio.fail_after(30):
        if not can_fork(whole):
            return await trio.run_process(
                [*CLI, *args], stdin=stdin, capture_stdout=True, capture_stderr=True, check=False, env=whole
            )
        command = await fork(args, env=whole)
        said: dict[str, bytes] = {}

        async def hear(name: str, stream: trio.abc.ReceiveStream | None) -> None:
            said[name] = await read_all(stream)

        async def tell() -> None:
            assert command.stdin is not None
            async with command.stdin:
                with suppress(trio.BrokenResourceError):
                    await command.stdin.send_all(stdin)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tell)
                nursery.start_soon(hear, "stdout", command.stdout)
                nursery.start_soon(hear, "stderr", command.stderr)
                code = await command.wait()
        finally:
            await ended(command)
        return subprocess.CompletedProcess([*CLI, *args], code, said["stdout"], said["stderr"])


@asynccontextmanager
async def started_cli(*args: str, env: dict[str, str] | None = None) -> AsyncIterator[trio.Process | Command]:
    """Start the command as a process, with pipes; kill it at the end if it still runs."""
    whole = {**os.environ, **(env or {})}
    process: trio.Process | Command
    if can_fork(whole):
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            process = await fork(args, env=whole, streams=(nothing, None, None))
        finally:
            os.close(nothing)
    else:
        process = await trio.lowlevel.open_process(
            [*CLI, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=whole
        )
    try:
        with trio.fail_after(30):
            yield process
            await trio.lowlevel.checkpoint()
    finally:
        await ended(process)


async def ended(process: trio.Process | Command) -> None:
    """Kill a process, if it still runs, and close what we have of it."""
    process.kill()
    with trio.fail_after(10) as scope:
        scope.shield = True
        await process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                await stream.aclose()


async def read_until(stream: trio.abc.ReceiveStream | None, end: bytes) -> bytes:
    """Read until `end` has come, or all."""
    assert stream is not None
    data = b""
    while end not in data and (more := await stream.receive_some()):
        data += more
    return data


async def read_all(stream: trio.abc.ReceiveStream | None) -> bytes:
    """Read to the end."""
    assert stream is not None
    data = b""
    while more := await stream.receive_some():
        data += more
    return data


def json_lines(data: bytes) -> list[dict[str, Any]]:
    """Decode the lines."""
    return [json.loads(line) for line in data.decode("ascii").splitlines()]


async def wait_gone(pid: int) -> None:
    """Wait until there is no such process; a zombie whose parent has died counts as gone."""
    with trio.fail_after(10):
        while True:
            try:
                os.kill(pid, 0)
                if Path(f"/proc/{pid}/stat").exists() and b") Z" in Path(f"/proc/{pid}/stat").read_bytes():
                    return
            except ProcessLookupError:
                return
            await trio.sleep(0.01)
