"""Stands between a client and an agent, and writes down what passes, with times.

Usage: ``python tee.py DIRECTORY -- AGENT ARGUMENT...``.

Each connection writes one file: a line for each message, and one for the
agent's end.  Whoever closes, is closed towards the other side as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO


class Recorder:
    """Writes lines of JSON; one writer at a time."""

    def __init__(self, directory: Path) -> None:
        # Named for its start, so that files are in the order of the connections.
        self._file = (directory / f"{time.monotonic_ns():020d}-{os.getpid()}.jsonl").open("w", encoding="utf-8")
        self._lock = threading.Lock()

    def write(self, **entry: object) -> None:
        """Write an entry with the time."""
        with self._lock:
            self._file.write(json.dumps({"at": time.monotonic(), **entry}) + "\n")
            self._file.flush()


def pass_on(source: IO[bytes], target: IO[bytes], to: str, recorder: Recorder) -> None:
    """Pass on lines until either side closes; then close the target."""
    try:
        for line in source:
            recorder.write(to=to, message=json.loads(line))
            target.write(line)
            target.flush()
    except OSError:
        pass  # the target is closed
    finally:
        with suppress(OSError):
            target.close()


def main(argv: list[str]) -> int:
    """Run the agent; return its exit code."""
    directory, _, *command = argv
    recorder = Recorder(Path(directory))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
        assert agent.stdin is not None
        assert agent.stdout is not None
        arguments = (sys.stdin.buffer, agent.stdin, "agent", recorder)
        threading.Thread(target=pass_on, args=arguments, daemon=True).start()
        pass_on(agent.stdout, sys.stdout.buffer, "client", recorder)
        agent.stdout.close()
        code = agent.wait()
        recorder.write(exited=code)
    sys.stdout = None  # closed above; nothing is left to flush
    return code


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # the thread may still wait for the client
