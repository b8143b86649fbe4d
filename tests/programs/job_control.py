"""A shell at its smallest: runs a program in the foreground, tells of the terminal when it stops, continues it.

It touches no attribute of the terminal, which real shells put right after every job.
"""

from __future__ import annotations

import os
import signal
import sys
import termios


def main(argv: list[str]) -> int:
    """Run the program; return its exit code."""
    before = termios.tcgetattr(0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execv(argv[0], argv)  # noqa: S606 - the program of a test
    while True:
        _, status = os.waitpid(pid, os.WUNTRACED)
        same = termios.tcgetattr(0) == before
        if not os.WIFSTOPPED(status):
            return os.waitstatus_to_exitcode(status) if same else 99
        print(f"stopped; the terminal is {'as it was' if same else 'changed'}", flush=True)
        os.killpg(pid, signal.SIGCONT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
