"""Who we are, in terms that outlive us: the `Owner` written beside a running turn.

A process id alone is recycled.  Together with the time the process started
and the boot it belongs to, it names one process for good.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from ._records import Owner

_STAT_START_TIME = 19
"""Field 22 of ``/proc/PID/stat``, counted from the field after the command's name."""


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 where that cannot be told.

    Synchronous: it reads a file that the kernel makes up.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return 0
    # The name, in parentheses, may itself contain spaces and parentheses; nothing after it does.
    return int(stat.rpartition(")")[2].split()[_STAT_START_TIME])


def boot_id() -> str:
    """Return the kernel's id of this boot; empty where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


# Keyed by pid: a forked child is another process.
_own_start_time = cache(start_time)
_own_boot_id = cache(boot_id)


def current_owner(manager_id: str) -> Owner:
    """Return the identity of this process, running the manager `manager_id`."""
    pid = os.getpid()
    return Owner(pid=pid, start_time=_own_start_time(pid), boot_id=_own_boot_id(), manager_id=manager_id)
