"""A session's record as a row of the table ``sessions``, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import attrs

from .._records import Identity, Owner, ProcessGroup, RuntimeOptions, SessionRecord

_PLAIN: Final = (
    "key", "agent", "mode", "cwd", "state", "last_error", "last_activity", "requester", "label",
)  # fmt: skip
"""Columns that are attributes of the record as they are."""
_OWNER: Final = ("owner_pid", "owner_start_time", "owner_boot_id", "owner_manager_id")
_IDENTITY: Final = {
    "identity_state": "state",
    "session_id": "session_id",
    "agent_session_id": "agent_session_id",
    "record_id": "record_id",
    "identity_source": "source",
    "identity_updated": "updated",
}
"""Columns of the identity, and its attributes; without a state there is none."""
_COLUMNS: Final = (*_PLAIN, *_OWNER, *_IDENTITY, "options", "processes")

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
        ValueError: what is stored cannot be read.
    """
    values = dict(zip(_COLUMNS, row, strict=True))
    pid, start_time, boot_id, manager_id = (values[name] for name in _OWNER)
    if not isinstance(values["last_activity"], int | float) or not isinstance(pid, int | None):
        raise ValueError("the last activity or the owner's process is no number")  # SQLite keeps any type in a column
    owner = None
    if pid is not None:
        owner = Owner(pid=pid, start_time=start_time, boot_id=boot_id, manager_id=manager_id)
    identity = None
    if values["identity_state"] is not None:
        identity = Identity(**{name: values[column] for column, name in _IDENTITY.items()})
    return SessionRecord(
        **{name: values[name] for name in _PLAIN},
        owner=owner,
        identity=identity,
        options=_options_from_json(values["options"]),
        processes=_processes_from_json(values["processes"]),
    )


def _options_to_json(options: RuntimeOptions) -> str:
    return json.dumps(attrs.asdict(options, filter=lambda _, value: bool(value), value_serializer=_plain))


def _plain(_: object, __: object, value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _options_from_json(text: str) -> RuntimeOptions:
    """Read options; a member that has not its type is none, as if it had never been set."""
    stored = json.loads(text)
    if not isinstance(stored, dict):
        raise ValueError("the options are no JSON object")
    texts = {name: value for name in _TEXTS if isinstance(value := stored.get(name), str)}
    seconds, extras = stored.get("timeout_seconds"), stored.get("extras")
    return RuntimeOptions(
        **texts,
        timeout_seconds=seconds if type(seconds) is int else None,
        extras={k: v for k, v in extras.items() if isinstance(v, str)} if isinstance(extras, dict) else {},
    )


def _processes_from_json(text: str) -> tuple[ProcessGroup, ...]:
    stored = json.loads(text)
    if not isinstance(stored, list) or not all(_is_pair_of_ints(item) for item in stored):
        raise ValueError("the process groups are no list of pairs")
    return tuple(ProcessGroup(pgid=pgid, start_time=start_time) for pgid, start_time in stored)


def _is_pair_of_ints(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and all(type(number) is int for number in item)
