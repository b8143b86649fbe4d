"""Reconciling: confirming the ids of stored sessions that were never confirmed, after a crash for instance.

Every session is asked in its own lane, so nothing of it can run meanwhile, and
has its own deadline, so one that hangs keeps no other from its turn.  It is
resumed if it is not open; nothing begins anew, nobody's handle is closed to
make room, and a oneshot, which is never resumed, is left alone.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

import attrs
import trio

from ._ensure import ensure_runtime_handle, known_record
from ._errors import TooManySessions
from ._identity import is_pending, resume_id, tells_more
from ._refresh import ask, learn, listen, store_identity, tells_ids
from ._serving import serve
from ._session import Session

if TYPE_CHECKING:
    from ._context import Context
    from ._records import SessionRecord
    from ._requests import Control

_log = logging.getLogger(__name__)


@attrs.frozen
class ReconcileReport:
    """What `SessionManager.reconcile_identities` did.

    Attributes:
        checked: Sessions whose ids were not confirmed.
        resolved: Those of them whose ids are confirmed now.
        failed: Those that could not be asked, in time or at all; one, if the
            sessions could not even be listed.  The log says why.
    """

    checked: int
    resolved: int
    failed: int


async def reconcile_stored(ctx: Context, concurrency: int) -> ReconcileReport:
    """Reconcile all stored sessions, `concurrency` at a time; each has ``setup`` seconds, its queue included.

    If cancelled, those not begun are left alone, and those begun are given up within `cleanup` seconds.
    """
    limits = ctx.settings.limits
    records: tuple[SessionRecord, ...] | None = None
    problem = f"no answer within {limits.probe:g} s"
    with trio.move_on_after(limits.probe):
        try:
            records = await ctx.store.list()
        except Exception as error:  # noqa: BLE001 - whatever a store raises, the sessions can still be used
            problem = repr(error)
    if records is None:
        _log.warning("the stored sessions could not be listed to reconcile them: %s", problem)
        return ReconcileReport(0, 0, 1)
    waiting = deque(record.key for record in records if _is_unconfirmed(record))
    checked = len(waiting)
    resolved: list[str] = []
    failed: list[str] = []

    async def work() -> None:
        while waiting:
            key = waiting.popleft()
            serve(key)
            try:
                with trio.move_on_after(limits.setup) as scope:
                    if await Session(ctx, key)._operate(lambda control: _reconcile(ctx, control)):
                        resolved.append(key)
                if scope.cancelled_caught:
                    _log.warning("reconciling session %s took too long", key)
                    failed.append(key)
            except Exception as error:  # noqa: BLE001 - one session's fault: the others are not concerned
                _log.warning("session %s could not be reconciled: %r", key, error)
                failed.append(key)

    async with trio.open_nursery() as nursery:
        for _ in range(min(concurrency, checked)):
            nursery.start_soon(work, name="trio_acp reconcile")
    return ReconcileReport(checked, len(resolved), len(failed))


def _is_unconfirmed(record: SessionRecord) -> bool:
    return record.mode == "persistent" and is_pending(record.identity) and resume_id(record.identity) is not None


async def _reconcile(ctx: Context, control: Control) -> bool | None:
    """Reconcile one session, in its lane; say whether its ids are confirmed now, or None if it is to stop.

    Raises:
        TooManySessions: it is not open, and there is no free slot.
        AcpError: what `known_record` and `ensure_runtime_handle` raise.
    """
    limits = ctx.settings.limits
    deadline = trio.current_time() + limits.setup
    record = await known_record(ctx, control, deadline, to_open=True)
    if record is None:
        return None
    if not _is_unconfirmed(record):  # not any more, that is
        return not is_pending(record.identity)
    capacity = ctx.capacity
    if ctx.cache.get(control.key) is None and capacity.limit is not None and capacity.taken >= capacity.limit:
        raise TooManySessions(f"{capacity.taken} of {capacity.limit} sessions are open")
    entry = await ensure_runtime_handle(ctx, control, record, deadline, cleanup=limits.cleanup, begin_anew=False)
    if entry is None:
        return None
    listen(ctx, entry)
    if tells_ids(ctx.runtime(record.agent)):
        call = await ask(ctx, control, entry, deadline)
        entry.asked = call.ok
        learn(ctx, entry, call.value)
    if tells_more(record.identity, entry.record.identity):
        patience = min(deadline, trio.current_time() + limits.cleanup)
        await control.interruptibly(patience, store_identity, ctx, control, entry, patience)
    return not is_pending(entry.record.identity)
