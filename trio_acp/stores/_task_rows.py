"""A task as a row of the table ``tasks``, and back."""

from __future__ import annotations

from typing import Any, Final

from .._records import Owner
from .._tasks import TaskRecord

_PLAIN: Final = (
    "run_id", "requester", "session", "label", "task", "status", "started", "last_event", "ended", "error", "progress",
    "summary", "outcome",
)  # fmt: skip
"""Columns that are attributes of the record as they are."""
_OWNER: Final = ("owner_pid", "owner_start_time", "owner_boot_id", "owner_manager_id")
_COLUMNS: Final = (*_PLAIN, *_OWNER)

# What has ended stays as it is.
PUT: Final = f"""
    INSERT INTO tasks ({", ".join(_COLUMNS)}) VALUES ({", ".join("?" * len(_COLUMNS))})
    ON CONFLICT (run_id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])}
    WHERE tasks.ended IS NULL
"""  # noqa: S608 - the names above
SELECT: Final = f"""
    SELECT {", ".join(_COLUMNS)} FROM tasks
    WHERE ended IS NULL OR (ended >= ? AND ?) ORDER BY started, run_id
"""  # noqa: S608 - the names above
EXPIRE: Final = "DELETE FROM tasks WHERE ended < ?"


def to_row(task: TaskRecord) -> tuple[Any, ...]:
    """Return the values for `PUT`."""
    o = task.owner
    owner = (None,) * 4 if o is None else (o.pid, o.start_time, o.boot_id, o.manager_id)
    return (*(_storable(getattr(task, name)) for name in _PLAIN), *owner)


def from_row(row: tuple[Any, ...]) -> TaskRecord:
    """Return the task of a row that `SELECT` found."""
    values = dict(zip(_COLUMNS, row, strict=True))
    pid, start_time, boot_id, manager_id = (values.pop(name) for name in _OWNER)
    owner = None
    if pid is not None:
        owner = Owner(pid=pid, start_time=start_time, boot_id=boot_id, manager_id=manager_id)
    return TaskRecord(**values, owner=owner)


def _storable(value: Any) -> Any:
    """Join surrogates that came in two pieces of a text; replace those without the other half."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value
