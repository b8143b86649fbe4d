"""Who may use a stored session: its row, and nobody else, says so.

A row names its owner from before that manager opens a backend session for it
until after that is closed, or for good if the manager dies.
These are the steps that a row can take, each from the old row to the new one,
to be made inside one atomic update of the store.  Which owners live is
passed in.  So however many managers share a store:

* at most one *live* manager owns a row;
* nobody but its owner changes a row that has a live one;
* the row of a dead owner is repaired exactly once: by whoever takes it over,
  or by the recovery of whoever starts next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from ._errors import SessionInUse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._records import Owner, SessionRecord

INTERRUPTED: Final = "interrupted"
"""The `last_error` of a session whose owner died while it ran a turn."""

FREE: Final[Mapping[str, Any]] = {"owner": None, "processes": ()}
"""What a row says of a session that is not open."""


def free_for(row: SessionRecord | None, us: Owner, is_alive: Callable[[Owner], bool]) -> SessionRecord | None:
    """Return the row, or None for none, if we may do with it what we want.

    Raises:
        SessionInUse: a live manager that is not us owns it.
    """
    if row is not None and row.owner is not None and row.owner != us and is_alive(row.owner):
        raise SessionInUse(f"session {row.key!r} is in use by process {row.owner.pid}", pid=row.owner.pid)
    return row


def claimed(
    row: SessionRecord | None, us: Owner, is_alive: Callable[[Owner], bool], changes: Mapping[str, Any]
) -> SessionRecord | None:
    """Return the row as ours, with changes of ours that could not be written before; None if there is no row.

    What a dead owner left is repaired.  Its process groups stay in the row
    until others take their place.

    Raises:
        SessionInUse: a live manager that is not us owns it.
    """
    row = free_for(row, us, is_alive)
    if row is None:
        return None
    if row.owner in {None, us}:
        return attrs.evolve(row, **{**(changes if are_due(row, us, changes) else {}), "owner": us})
    return attrs.evolve(repaired(row), owner=us, processes=row.processes)


def changed(row: SessionRecord | None, us: Owner, changes: Mapping[str, Any]) -> SessionRecord | None:
    """Return the row with changes of ours; unchanged if there is none, or if it has become another's meanwhile."""
    return row if row is None or not are_due(row, us, changes) else attrs.evolve(row, **changes)


def are_due(row: SessionRecord, us: Owner, changes: Mapping[str, Any]) -> bool:
    """Whether changes of ours are still to be made to a row.

    A write that was given up may have been made all the same, and freed the
    row; what others have stored there since then is not to be undone.  That
    needs no clock, for nobody but we frees a row of ours.  What was to be
    written into a row that is not ours (how a turn failed before its claim, an
    option taken back, a discard) is judged by time stamps if it has one, so as
    well as the clocks of the managers agree: at worst it replaces what another
    stored later, or is given up although nobody did.
    """
    if row.owner is not None:
        return row.owner is us or row.owner == us  # mostly it is the very same
    if changes.get("owner", us) is None:
        return False  # they were to free the row, and did
    return bool("last_activity" not in changes or row.last_activity <= changes["last_activity"])


def opened(record: SessionRecord) -> dict[str, Any]:
    """Return what opening a session may have changed of its record."""
    return {"identity": record.identity, "cwd": record.cwd, "owner": record.owner, "processes": record.processes}


def is_left_behind(row: SessionRecord, is_alive: Callable[[Owner], bool]) -> bool:
    """Whether the row needs to be repaired: its owner is dead, or it runs without one."""
    return row.state == "running" if row.owner is None else not is_alive(row.owner)


def repaired(row: SessionRecord) -> SessionRecord:
    """Return the row of a dead owner as it should have left it; the ids stay, so the session can be resumed."""
    if row.state == "running":
        row = attrs.evolve(row, state="error", last_error=INTERRUPTED)
    return attrs.evolve(row, **FREE)
