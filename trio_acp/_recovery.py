"""What a manager does first: repairing what dead ones left in its store.

Only rows whose owner is dead are touched, so it may run at any time, in
several managers at once, and again.  Everything else comes before the row is
repaired: should we die in between, the next one finds the row as it was.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import attrs
import trio

from ._claims import settle_tasks
from ._owner import is_alive
from ._ownership import is_left_behind, repaired
from ._reaper import end_groups

if TYPE_CHECKING:
    from ._limits import Limits
    from ._records import SessionRecord
    from .abc import Ledger, SessionStore

_log = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class RecoveryReport:
    """What was left by managers that had died, and what became of it.

    Attributes:
        repaired: The keys of the sessions whose rows were repaired here.
        reaped: The ids of the agents' process groups that were ended.
        left: The ids of those that may live on: they could not be proven to be
            the ones that were recorded, or did not end in time.
    """

    repaired: tuple[str, ...] = ()
    reaped: tuple[int, ...] = ()
    left: tuple[int, ...] = ()


async def recover(store: SessionStore, ledger: Ledger | None, limits: Limits) -> RecoveryReport:
    """Repair rows of dead owners, settle their tasks, and end the process groups in the rows, within `probe` seconds.

    What fails is logged, and left to the next one.  If cancelled, each row is repaired or as it was.
    """
    report = RecoveryReport()
    with trio.move_on_after(limits.probe) as scope:
        rows = await _left_behind(store)
        suspects = [(group, row.owner) for row in rows if row.owner is not None for group in row.processes]
        # Three times that at the very most, so that there is time left for the rows.
        patience = min(limits.cleanup, 0.25 * limits.probe)
        groups = await end_groups(suspects, patience=patience)
        report = attrs.evolve(report, reaped=groups.reaped, left=groups.left)
        if ledger is not None:
            await settle_tasks(ledger, patience, time.time)
        for row in rows:
            if await _repair(store, row):
                report = attrs.evolve(report, repaired=(*report.repaired, row.key))
    if scope.cancelled_caught:
        _log.warning("repairing what dead managers left in the store took more than %g s", limits.probe)
    return report


async def _left_behind(store: SessionStore) -> list[SessionRecord]:
    try:
        return [row for row in await store.list() if is_left_behind(row, is_alive)]
    except Exception:  # noqa: BLE001 - whatever a store raises, the manager opens
        _log.exception("what dead managers left in the store could not be read")
        return []


async def _repair(store: SessionStore, found: SessionRecord) -> bool:
    """Repair one row, unless it has become another's since it was found; say whether it was done here."""
    done = False

    def repair(row: SessionRecord | None) -> SessionRecord | None:
        nonlocal done
        done = row is not None and row.owner == found.owner and is_left_behind(row, is_alive)
        return repaired(row) if row is not None and done else row

    try:
        await store.update(found.key, repair)
    except Exception:  # noqa: BLE001 - whatever a store raises, the others are repaired
        _log.exception("session %s, left by a dead manager, could not be repaired", found.key)
        return False
    if done:
        pid = "unknown" if found.owner is None else found.owner.pid
        how = "was interrupted" if found.state == "running" else "was left open"
        _log.warning("session %s %s: the process %s is gone", found.key, how, pid)
    return done
