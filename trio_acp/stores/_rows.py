"""A session's record as a row of the table ``sessions``, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import attrs

from .._records import (
    Identity,
    IdentitySource,
    IdentityState,
    Mode,
    ProcessGroup,
    RuntimeOptions,
    SessionRecord,
    SessionState,
)
from ._columns import NUMBER, OWNER, TEXT, Columns, one_of, or_none

_PLAIN: Final = {
    "key": TEXT,
    "agent": TEXT,
    "mode": one_of(Mode),
    "cwd": or_none(TEXT),
    "state": one_of(SessionState),
    "last_error": or_none(TEXT),
    "last_activity": NUMBER,
    "requester": or_none(TEXT),
    "label": or_none(TEXT),
}
"""Columns that are attributes of the record as they are."""
_IDENTITY: Final = {
    "identity_state": "state",
    "session_id": "session_id",
    "agent_session_id": "agent_session_id",
    "record_id": "record_id",
    "identity_source": "source",
    "identity_updated": "updated",
}
"""Columns of the identity, and its attributes; without a state there is none."""
_KINDS: Final = {
    "identity_state": or_none(one_of(IdentityState)),
    "session_id": or_none(TEXT),
    "agent_session_id": or_none(TEXT),
    "record_id": or_none(TEXT),
    "identity_source": or_none(one_of(IdentitySource)),
    "identity_updated": or_none(NUMBER),
}
_TABLE: Final = Columns("sessions", ("key",), {**_PLAIN, **OWNER, **_KINDS, "options": TEXT, "processes": TEXT})
_COLUMNS: Final = tuple(_TABLE.kinds)

SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM sessions"  # noqa: S608 - the names above
PUT: Final = (
    f"INSERT OR REPLACE INTO sessions ({', '.join(_COLUMNS)}) "  # noqa: S608 - the names above
    f"VALUES ({', '.join('?' * len(_COLUMNS))})"
)

_TEXTS: Final = ("mode", "model", "cwd", "permission_profile")


def to_row(record: SessionRecord) -> tuple[Any, ...]:
    """Return the values for `PUT`."""
    o = record.owner
    owner = (None,) * 4 if o is None else (o.pid, o.start_time, o.boot_id, o.manager_id)
    plain = (getattr(record, name) for name in _PLAIN)
    identity = (None if record.identity is None else getattr(record.identity, name) for name in _IDENTITY.values())
    processes = json.dumps([[group.pgid, group.start_time] for group in record.processes])
    return (*plain, *owner, *identity, _options_to_json(record.options), processes)


def from_row(row: tuple[Any, ...]) -> SessionRecord:
    """Return the record of a row that `SELECT` found.

    Raises:
        DamagedRow: a column has what we do not write.
    """
    values = _TABLE.read(row)
    owner = _TABLE.take_owner(values)
    options, processes = _TABLE.json(values, "options"), _TABLE.json(values, "processes")
    if not isinstance(options, dict):
        raise _TABLE.damaged(values, "options", "it is no JSON object")
    if not isinstance(processes, list) or not all(map(_is_pair_of_ints, processes)):
        raise _TABLE.damaged(values, "processes", "it is no list of pairs of numbers")
    identity = None
    if values["identity_state"] is not None:
        for name in ("identity_source", "identity_updated"):
            if values[name] is None:
                raise _TABLE.damaged(values, name, "it is missing")
        identity = Identity(**{name: values[column] for column, name in _IDENTITY.items()})
    return SessionRecord(
        **{name: values[name] for name in _PLAIN},
        owner=owner,
        identity=identity,
        options=_read_options(options),
        processes=tuple(ProcessGroup(pgid=pgid, start_time=start_time) for pgid, start_time in processes),
    )


def _options_to_json(options: RuntimeOptions) -> str:
    return json.dumps(attrs.asdict(options, filter=lambda _, value: bool(value), value_serializer=_plain))


def _plain(_: object, __: object, value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _read_options(stored: dict[str, Any]) -> RuntimeOptions:
    """Read options; a member that has not its type is none, as if it had never been set."""
    texts = {name: value for name in _TEXTS if isinstance(value := stored.get(name), str)}
    seconds, extras = stored.get("timeout_seconds"), stored.get("extras")
    return RuntimeOptions(
        **texts,
        timeout_seconds=seconds if type(seconds) is int else None,
        extras={k: v for k, v in extras.items() if isinstance(v, str)} if isinstance(extras, dict) else {},
    )


def _is_pair_of_ints(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and all(type(number) is int for number in item)
