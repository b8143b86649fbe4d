"""Misbehaves in the one way that its first argument names."""

import os
import signal
import subprocess
import sys
import time


def say(text: str) -> None:
    """Write to standard output at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def ignore_eof() -> None:
    """Say which signal came, on standard error, and go on only until then."""
    say("{}\n")
    signal.pause()


def ignore_term() -> None:
    """Heed nothing but SIGKILL."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("{}\n")
    while True:
        signal.pause()


def heed_term() -> None:
    """Exit with 7 on SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    say("{}\n")
    while True:
        signal.pause()


GRANDCHILD = "import signal; signal.signal(15, signal.SIG_IGN); print('{}', flush=True); signal.pause()"


def grandchild() -> None:
    """Start a process that heeds nothing and keeps descriptor 9; exit after one line, or at the end, of input."""
    subprocess.Popen([sys.executable, "-c", GRANDCHILD], pass_fds=[9])
    sys.stdin.readline()


def fail() -> None:
    """Complain and exit with 3."""
    sys.stderr.write("first line\n\nno licence found\n")
    sys.exit(3)


def chatter() -> None:
    """Write much to standard error, then one message, then die by a signal."""
    for n in range(5000):
        sys.stderr.write(f"line {n}\n")
    sys.stderr.flush()
    say("{}\n")
    os.kill(os.getpid(), signal.SIGKILL)


def odd_signal() -> None:
    """Die by a signal without a name."""
    os.kill(os.getpid(), 40)


def banner() -> None:
    """Print what is no message around two that are."""
    say('Welcome!\r\n\n  \n{"n": 1}\r\nwarning: x\n[2]\n')
    sys.stdin.read()


def long_line() -> None:
    """Write a message that is too long, and much after it."""
    say('{"n": 1}\n{"x": "' + "x" * 100_000 + '"}\n')
    say('{"n": 3}\n' * 100_000)
    sys.exit(0)


def torn() -> None:
    """Exit in the middle of a line."""
    say('{"n": 1}\n{"n"')


def close_output() -> None:
    """Close standard output and stay."""
    os.close(1)
    sys.stdin.read()


def deaf() -> None:
    """Never read standard input."""
    say("{}\n")
    signal.pause()


def closed_ears() -> None:
    """Close standard input and stay."""
    os.close(0)
    say("{}\n")
    signal.pause()


def slow_start() -> None:
    """Do nothing, for a long time."""
    time.sleep(1000)


globals()[sys.argv[1]]()
