"""What the kernel tells about processes under ``/proc``; nothing, where there is no such thing.

Synchronous: it reads files that the kernel makes up.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

_STATE, _GROUP, _SESSION, _START_TIME = 0, 2, 3, 19
"""Fields 3, 5, 6 and 22 of ``/proc/PID/stat``, counted from the field after the command's name."""


@attrs.frozen
class ProcessStat:
    """A process, or what is left of it.

    Attributes:
        pid: Its process id.
        ended: Whether it has exited and only waits for its parent to notice.
        group: The id of its process group.
        session: The id of its session.
        start_time: When it started, in clock ticks since boot.
    """

    pid: int
    ended: bool
    group: int
    session: int
    start_time: int


def look_up(pid: int) -> ProcessStat | None:
    """Return what there is to know about a process; None if there is none, or no ``/proc``."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # The name, in parentheses, may itself contain spaces and parentheses; nothing after it does.
    fields = stat.rpartition(")")[2].split()
    return ProcessStat(
        pid=pid,
        ended=fields[_STATE] in {"Z", "X"},
        group=int(fields[_GROUP]),
        session=int(fields[_SESSION]),
        start_time=int(fields[_START_TIME]),
    )


def all_processes() -> Iterator[ProcessStat]:
    """Yield every process there is, except those that come and go meanwhile."""
    for name in os.listdir("/proc"):  # noqa: PTH208 - a few hundred names, of which no Path is needed
        if name.isdecimal() and (found := look_up(int(name))) is not None:
            yield found


def has_variable(pid: int, name: str, value: str) -> bool:
    """Whether a process was started with this environment variable; False if that cannot be seen."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{name}={value}".encode() in environment.split(b"\0")


def boot_id() -> str:
    """Return the kernel's id of this boot; empty where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
