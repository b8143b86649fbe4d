"""Ending what is left of dead managers' agents, and nothing else.

A group of processes is ended only if it is proven to be the one that was
recorded.  On Linux that is so:

* if its leader has the recorded start time (it may have exited and wait for
  its parent), and the boot is the same: the kernel does not give the number
  of a group to another one while a member is left;
* if the leader is gone: for those members that are of the session with this
  number, and that carry the dead owner's mark in their environment.

Each is signalled through a descriptor, not by its number, so that a number
that is given to a stranger meanwhile changes nothing.  Where there is no
``/proc`` nothing can be proven, so nothing is ended.
"""

from __future__ import annotations

import logging
import os
import signal
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import trio

from ._owner import MARK, current_owner, mark
from ._procfs import ProcessStat, all_processes, has_variable, look_up

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._records import Owner, ProcessGroup

_log = logging.getLogger(__name__)

_PAUSE: Final = 0.02

Suspect: TypeAlias = "tuple[ProcessGroup, Owner]"
"""A group that was recorded, and the dead owner that recorded it."""


@attrs.frozen
class Reaped:
    """What became of groups, by their ids.

    Attributes:
        reaped: Those of which a process was alive and is not any more.
        left: Those that may be alive: not proven to be ours, or not ended in time.
    """

    reaped: tuple[int, ...] = ()
    left: tuple[int, ...] = ()


async def end_groups(suspects: Iterable[Suspect], *, patience: float) -> Reaped:
    """End recorded groups by SIGTERM and, after `patience` seconds, by SIGKILL; takes twice that at most.

    If cancelled, what is proven to be ours is killed at once.
    """
    here = current_owner("")
    # Of another boot nothing is alive.  0 and 1 are never an agent's.
    wanted: set[Suspect] = {(g, o) for g, o in suspects if g.pgid > 1 and o.boot_id == here.boot_id}
    if not wanted:
        return Reaped()
    if not here.start_time:
        return _reported(set(), {group.pgid for group, _ in wanted if _exists(group.pgid)})
    ended: set[int] = set()
    ours, doubtful = _look_for(wanted)
    try:
        for signum in (signal.SIGTERM, signal.SIGKILL):
            deadline = trio.current_time() + patience
            told: set[ProcessStat] = set()
            while ours and (not told or trio.current_time() < deadline):
                ended |= {member.group for member in ours}
                for member in ours - told:
                    _signal(member, signum)
                told |= ours
                await trio.sleep(_PAUSE)
                ours, doubtful = _look_for(wanted)
    finally:
        for member in ours:
            _signal(member, signal.SIGKILL)
    left = doubtful | {member.group for member in ours}
    return _reported(ended - left, left)


def _reported(ended: set[int], left: set[int]) -> Reaped:
    for pgid in sorted(ended):
        _log.warning("ended the processes of the group %d, which a dead manager's agent had left", pgid)
    for pgid in sorted(left):
        _log.warning("the process group %d may be of a dead manager's agent; it was left alone", pgid)
    return Reaped(tuple(sorted(ended)), tuple(sorted(left)))


def _look_for(wanted: Iterable[Suspect]) -> tuple[set[ProcessStat], set[int]]:
    """Return the live processes that are proven to be ours, and the groups that have others."""
    members = defaultdict[int, list[ProcessStat]](list)
    for process in all_processes():
        members[process.group].append(process)
    ours: set[ProcessStat] = set()
    doubtful: set[int] = set()
    for group, owner in wanted:
        proven = _proven(members[group.pgid], group, owner)
        if proven is not None:
            ours |= proven
            if any(not member.ended and member not in proven for member in members[group.pgid]):
                doubtful.add(group.pgid)
    return ours, doubtful


def _proven(members: list[ProcessStat], group: ProcessGroup, owner: Owner) -> set[ProcessStat] | None:
    """Return which live members are ours; None if this is a group of strangers, so nothing is left of ours."""
    living = {member for member in members if not member.ended}
    for member in members:
        if member.pid == group.pgid:
            return living if member.start_time == group.start_time else None
    return {m for m in living if m.session == group.pgid and has_variable(m.pid, MARK, mark(owner))}


def _signal(process: ProcessStat, signum: signal.Signals) -> None:
    # It may end at any moment, and it may be another user's by now.
    with suppress(ProcessLookupError, PermissionError):
        descriptor = os.pidfd_open(process.pid)
        try:
            now = look_up(process.pid)
            if now is not None and now.start_time == process.start_time:
                signal.pidfd_send_signal(descriptor, signum)
        finally:
            os.close(descriptor)


def _exists(pgid: int) -> bool:
    try:
        os.killpg(pgid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
