"""What starting a session makes of what is stored under its key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from ._errors import SessionExists
from ._options import merge, must_reopen, normalise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._records import SessionRecord


def record_to_start(stored: SessionRecord | None, wanted: SessionRecord, changes: Mapping[str, Any]) -> SessionRecord:
    """Return the record of the session to be started.

    Args:
        stored: What is to be resumed, if anything.
        wanted: The session as asked for.
        changes: Of its options, as `check_changes` returned them.

    Raises:
        SessionExists: what is stored has another agent or mode.
        InvalidOption: there would be too many extras.
    """
    if stored is None:
        record = wanted
    elif (stored.agent, stored.mode) != (wanted.agent, wanted.mode):
        raise SessionExists(
            f"session {stored.key!r} is stored as {stored.mode} of {stored.agent!r}, "
            f"not {wanted.mode} of {wanted.agent!r}; fresh=True discards it"
        )
    else:
        record = attrs.evolve(
            stored, requester=wanted.requester or stored.requester, label=wanted.label or stored.label
        )
        if wanted.cwd is not None:
            record = attrs.evolve(record, cwd=wanted.cwd, options=attrs.evolve(stored.options, cwd=None))
    return attrs.evolve(record, options=merge(record.options, changes)) if changes else record


def can_stay_open(live: SessionRecord, record: SessionRecord) -> bool:
    """Whether the backend session that is open for `live` can go on as that of `record`."""
    if (live.agent, live.working_directory) != (record.agent, record.working_directory):
        return False
    # Where it works was compared: whether by an option does not matter to it.
    before, after = (attrs.evolve(normalise(r.options), cwd=None) for r in (live, record))
    return not must_reopen(before, after)
