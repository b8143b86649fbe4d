"""Imports ``trio-acp`` once and forks for each command that a test wants run: see `tests.forks`.

The descriptor of a socket is its argument.  A message there has the arguments,
the environment and the directory of a command, and with it come the command's
three streams and a pipe.  That is told the process id, and at the end the
exit code.  It ends when the other end of the socket is closed.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import selectors
import socket
import sys
import termios
from pathlib import Path
from typing import Any, Final

import trio

import trio_acp
from trio_acp.cli import main

MAIN: Final = str(Path(trio_acp.__file__).parent / "__main__.py")


def next_command(channel: socket.socket) -> dict[str, Any] | None:
    """Fork for each command; return what a child is to run, in that child; None at the end."""
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is not None:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    tell(key.data)
                    continue
                message, fds, _, _ = socket.recv_fds(channel, 2**20, 4)
                if not message:
                    return None
                *streams, report = fds
                pid = os.fork()
                if pid == 0:
                    for number, stream in enumerate(streams):
                        os.dup2(stream, number)
                    for other in (*fds, channel.detach()):
                        os.close(other)
                    command: dict[str, Any] = json.loads(message)
                    return command
                for stream in streams:
                    os.close(stream)
                os.write(report, f"{pid}\n".encode())
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, report))


def tell(ended: tuple[int, int]) -> None:
    """Reap a command, and tell how it has ended."""
    pid, report = ended
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(report, f"{code}\n".encode())
    os.close(report)


def become(command: dict[str, Any]) -> None:
    """Be as a process that was started afresh for this command."""
    if command["terminal"]:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(command["cwd"])
    os.environ.clear()
    os.environ.update(command["env"])
    sys.argv = [MAIN, *command["args"]]
    lines = 1 if os.isatty(1) else -1
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - it stays open, like the other two
    sys.stdout = open(1, "w", lines, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    trio._core._run._r.seed()  # else all of them have one order of tasks


if __name__ == "__main__":
    gc.freeze()
    if command := next_command(socket.socket(fileno=int(sys.argv[1]))):
        become(command)
        sys.exit(main())
    os._exit(0)  # what measures coverage shall write nothing: by now pytest has put together what the commands wrote
