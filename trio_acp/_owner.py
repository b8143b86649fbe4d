"""Who we are, in terms that outlive us: the `Owner` written into the row of each session we hold.

A process id alone is recycled.  Together with the time the process started
and the boot it belongs to, it names one process for good.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Final

from ._procfs import boot_id, look_up
from ._records import Owner

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK: Final = "TRIO_ACP_OWNER"
"""The environment variable by which an agent's processes are known as ours: see `mark`."""

# The one thing here that belongs to the process and not to a manager.  Two managers of one process have the
# same pid and start time, so a row cannot tell whether the one that wrote it is still open; only we can.
_open_managers: set[str] = set()


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 where that cannot be told."""
    found = look_up(pid)
    return 0 if found is None else found.start_time


# Keyed by pid: a forked child is another process.
_own_start_time = cache(start_time)
_own_boot_id = cache(boot_id)


def current_owner(manager_id: str) -> Owner:
    """Return the identity of this process, running the manager `manager_id`."""
    pid = os.getpid()
    return Owner(pid=pid, start_time=_own_start_time(pid), boot_id=_own_boot_id(), manager_id=manager_id)


@contextmanager
def alive(owner: Owner) -> Iterator[None]:
    """Have the other managers of this process know that this one is open."""
    _open_managers.add(owner.manager_id)
    try:
        yield
    finally:
        _open_managers.discard(owner.manager_id)


def is_alive(owner: Owner) -> bool:
    """Whether the owner can still be at work: its process lives and, if that is ours, its manager is open.

    A manager that was left in another process which lives on counts as alive:
    it has given its rows back, unless the store failed it.  Without ``/proc``
    any process of that id counts.  Processes that share a store must be able
    to see each other.
    """
    ours = current_owner(owner.manager_id)
    if owner == ours:
        return owner.manager_id in _open_managers
    if owner.pid in {ours.pid, 0} or owner.pid < 0 or (owner.boot_id and ours.boot_id != owner.boot_id):
        return False
    if ours.start_time and owner.start_time:
        found = look_up(owner.pid)
        return found is not None and not found.ended and found.start_time == owner.start_time
    try:
        os.kill(owner.pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def mark(owner: Owner) -> str:
    """Return the value of `MARK` in the environment of agents that the owner's process starts."""
    return f"{owner.pid}.{owner.start_time}.{owner.boot_id}"
