"""A task as a row of the table ``tasks``, and back."""

from __future__ import annotations

from typing import Any, Final

from .._tasks import TaskOutcome, TaskRecord, TaskStatus
from ._columns import NUMBER, OWNER, TEXT, Columns, one_of, or_none

_PLAIN: Final = {
    "run_id": TEXT,
    "requester": TEXT,
    "session": TEXT,
    "label": or_none(TEXT),
    "task": TEXT,
    "status": one_of(TaskStatus),
    "started": NUMBER,
    "last_event": or_none(NUMBER),
    "ended": or_none(NUMBER),
    "error": or_none(TEXT),
    "progress": or_none(TEXT),
    "summary": or_none(TEXT),
    "outcome": or_none(one_of(TaskOutcome)),
}
"""Columns that are attributes of the record as they are."""
_TABLE: Final = Columns("tasks", ("run_id",), {**_PLAIN, **OWNER})
_COLUMNS: Final = tuple(_TABLE.kinds)

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
    """Return the task of a row that `SELECT` found.

    Raises:
        DamagedRow: a column has what we do not write.
    """
    values = _TABLE.read(row)
    owner = _TABLE.take_owner(values)
    return TaskRecord(**values, owner=owner)


def _storable(value: Any) -> Any:
    """Join surrogates that came in two pieces of a text; replace those without the other half."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value
