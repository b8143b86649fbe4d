"""By which ids a session's backend session is known, and what to make of another observation.

Synchronous and without I/O.  Ids are observed when a session is opened
(``ensure``), on its handle after a turn (``event``) and in the runtime's answer
to a status request (``status``).  An observation is an `Identity` of its own
and is merged into the known one:

============  ============  ====================================================================
known         observed      result
============  ============  ====================================================================
none          none          none
none          X             X
C             none          C, its time stamp too
resolved      pending       C: what is not confirmed replaces nothing that is
else          X             each id of X, or C's where X has none; ``resolved`` if one of them can
                            be resumed by, or if C was, else X's state
============  ============  ====================================================================

The result has X's source, but for the fourth row, and the time of the merge.
If C and X have different record ids, they are of different sessions, and C
counts as none.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs

from ._records import Identity

if TYPE_CHECKING:
    from ._records import IdentitySource, IdentityState
    from .abc import Handle, RuntimeStatus

_IDS = ("session_id", "agent_session_id", "record_id")


def _text(value: object) -> str | None:
    return (value.strip() or None) if isinstance(value, str) else None


# -- what is known ------------------------------------------------------------


def normalise(identity: Identity | None, now: float) -> Identity | None:
    """Return a stored identity without ids that say nothing, and with a time."""
    if identity is None:
        return None
    ids: dict[str, Any] = {name: _text(getattr(identity, name)) for name in _IDS}
    return attrs.evolve(identity, **ids, updated=identity.updated if math.isfinite(identity.updated) else now)


def is_pending(identity: Identity | None) -> bool:
    """Whether no id was confirmed yet; it is so if there is none."""
    return identity is None or identity.state != "resolved"


def resume_id(identity: Identity | None) -> str | None:
    """Return the id by which the backend session can be resumed: the ACP session id, else the agent's."""
    return None if identity is None else _text(identity.session_id) or _text(identity.agent_session_id)


def fits(known: Identity | None, stored: Identity | None) -> bool:
    """Whether two identities can be of one backend session: no id that both have differs."""
    if known is None or stored is None:
        return True
    pairs = ((_text(getattr(known, name)), _text(getattr(stored, name))) for name in _IDS)
    return all(ours == theirs for ours, theirs in pairs if ours and theirs)


# -- what is observed ---------------------------------------------------------


def ids_of(handle: Handle) -> tuple[str | None, ...]:
    """Return a handle's ids as they are now, to tell later whether they have changed."""
    return handle.session_id, handle.agent_session_id, handle.record_id


def _told(handle: Handle) -> dict[str, str | None]:
    return {name: _text(getattr(handle, name)) for name in _IDS}


def from_ensure(handle: Handle, now: float) -> Identity | None:
    """Return what opening a session told; nothing of it is confirmed."""
    return _observed(_told(handle), "pending", "ensure", now)


def from_event(handle: Handle, now: float) -> Identity | None:
    """Return what the handle tells after a turn; the agent's own id confirms it."""
    ids = _told(handle)
    return _observed(ids, "resolved" if ids["agent_session_id"] else "pending", "event", now)


def from_status(status: RuntimeStatus | None, now: float) -> Identity | None:
    """Return what the runtime answered; an id that can be resumed by is confirmed by it."""
    if status is None:
        return None
    ids = {name: _text(getattr(status, name)) or _text(status.details.get(name)) for name in _IDS}
    stable = ids["session_id"] or ids["agent_session_id"]
    return _observed(ids, "resolved" if stable else "pending", "status", now)


def _observed(ids: dict[str, str | None], state: IdentityState, source: IdentitySource, now: float) -> Identity | None:
    return Identity(**ids, state=state, source=source, updated=now) if any(ids.values()) else None


# -- both together ------------------------------------------------------------


def merge(known: Identity | None, observed: Identity | None, now: float) -> Identity | None:
    """Return what is known after an observation: see the table above."""
    current = normalise(known, now)
    if observed is None:
        return current
    if current is not None and observed.record_id and current.record_id not in {None, observed.record_id}:
        current = None
    if current is None:
        return attrs.evolve(observed, updated=now)
    if current.state == "resolved" and observed.state == "pending":
        return attrs.evolve(current, updated=now)
    ids: dict[str, Any] = {name: getattr(observed, name) or getattr(current, name) for name in _IDS}
    stable = ids["session_id"] or ids["agent_session_id"]
    state: IdentityState = "resolved" if stable or current.state == "resolved" else observed.state
    return Identity(**ids, state=state, source=observed.source, updated=now)


def tells_more(before: Identity | None, after: Identity | None) -> bool:
    """Whether two identities differ in what matters after a crash: an id, or the state."""
    if before is None or after is None:
        return before is not after
    return before != attrs.evolve(after, source=before.source)
