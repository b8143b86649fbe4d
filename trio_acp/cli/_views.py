"""One session, and a whole store, in words and as JSON."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs

from .._owner import is_alive
from ._stored import agent_of, owner_of, session_value, stamp, state_of
from ._tables import ago, table, values

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .._audit import AuditRecord
    from .._records import SessionRecord
    from .._tasks import TaskRecord
    from .._transcript import TranscriptEntry
    from ..abc import Capabilities, RuntimeStatus

RECENT = 5
"""Tasks and permissions that are shown of many."""


def session_table(records: Sequence[SessionRecord], now: float, columns: int) -> list[str]:
    """Return the lines of ``sessions list``."""
    rows = [
        (
            record.key,
            state_of(record),
            ago(now - record.last_activity) if record.last_activity else "",
            owner_of(record.owner) or "-",
            record.working_directory or "",
        )
        for record in records
    ]
    return table(("SESSION", "STATE", "ACTIVE", "OPEN IN", "DIRECTORY"), rows, columns, keep_end=True)


def session_lines(record: SessionRecord, entries: Sequence[TranscriptEntry], now: float) -> list[str]:
    """Return what is stored of a session, a line for each thing."""
    active = f"{stamp(record.last_activity)} ({ago(now - record.last_activity)})" if record.last_activity else ""
    turns = len({entry.turn for entry in entries})
    told = attrs.asdict(record.options, filter=lambda _, value: value is not None, recurse=False)
    options = {**{name: value for name, value in told.items() if name != "extras"}, **record.options.extras}
    return values(
        [
            ("session", record.key),
            ("label", record.label or ""),
            ("state", state_of(record)),
            ("last error", record.last_error or ""),
            ("active", active),
            ("open in", owner_of(record.owner) or "no process"),
            ("agent", agent_of(record)),
            ("directory", record.working_directory or ""),
            ("mode", record.mode),
            ("options", ", ".join(f"{name}={value}" for name, value in options.items())),
            ("session id", record.session_id or "none; the next prompt begins a conversation"),
            ("agent's id", record.agent_session_id or ""),
            ("works for", record.requester or ""),
            ("recorded", "" if not turns else f"{turns} turns" if turns > 1 else "1 turn"),
        ]
    )


def task_lines(tasks: Sequence[TaskRecord], now: float, columns: int) -> list[str]:
    """Return the lines about the last tasks."""
    if not tasks:
        return []
    rows = [
        (task.outcome or task.status, ago(now - task.started), task.session, task.error or task.task)
        for task in tasks[: -RECENT - 1 : -1]
    ]
    return ["", *table(("TASK", "BEGAN", "SESSION", "WHAT"), rows, columns)]


def audit_lines(records: Sequence[AuditRecord], now: float, columns: int) -> list[str]:
    """Return the lines about the last permissions."""
    if not records:
        return []
    rows = [(record.decision, ago(now - record.time), record.rule) for record in records[: -RECENT - 1 : -1]]
    return ["", *table(("PERMISSION", "WHEN", "BY"), rows, columns)]


def agent_lines(status: RuntimeStatus, offered: Capabilities) -> list[str]:
    """Return what the agent said when it was asked."""
    told = {name.replace("_", " "): value for name, value in status.details.items() if value not in (None, {}, False)}
    pairs = [
        (name, ", ".join(map(str, value)) if isinstance(value, dict) else str(value)) for name, value in told.items()
    ]
    can = ", ".join(sorted(offered.controls)) or "nothing"
    return ["", *values([("asked now", status.summary), *pairs, ("can be told", can)])]


def store_lines(path: Path, records: Sequence[SessionRecord], tasks: Sequence[TaskRecord]) -> list[str]:
    """Return the whole store in a few lines."""
    states = Counter(map(state_of, records))
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    open_tasks = sum(task.is_open for task in tasks)
    owners = Counter(owner_of(record.owner) for record in records if record.owner is not None)
    size = f"{path.stat().st_size / 1024:.0f} KiB" if path.exists() else "no file yet"
    pairs = [
        ("store", f"{path} ({size})"),
        ("sessions", f"{len(records)}: {counts}" if records else "none"),
        (
            "open in",
            ", ".join(f"{owner}: {count} session{'s' * (count > 1)}" for owner, count in sorted(owners.items())),
        ),
        ("tasks", f"{open_tasks} running, {len(tasks) - open_tasks} ended" if tasks else ""),
    ]
    pairs += [
        ("running", f"{record.key} in {owner_of(record.owner)}") for record in records if state_of(record) == "running"
    ]
    pairs += [("error", f"{record.key}: {record.last_error or state_of(record)}") for record in broken(records)]
    return values(pairs)


def broken(records: Sequence[SessionRecord]) -> list[SessionRecord]:
    """Return the sessions whose last turn went wrong, the latest first."""
    wrong = [record for record in records if state_of(record) not in {"idle", "running", "closed"}]
    return sorted(wrong, key=lambda record: -record.last_activity)


def store_value(path: Path, records: Sequence[SessionRecord], tasks: Sequence[TaskRecord]) -> dict[str, Any]:
    """Return the whole store as JSON."""
    owners = {record.owner.pid: is_alive(record.owner) for record in records if record.owner is not None}
    return {
        "type": "status",
        "store": str(path),
        "sessions": [session_value(record) for record in records],
        "owners": [{"pid": pid, "alive": alive} for pid, alive in owners.items()],
        "tasks": [task_value(task) for task in tasks],
    }


def task_value(task: TaskRecord) -> dict[str, Any]:
    """Return a task as JSON."""
    return {"type": "task"} | attrs.asdict(task, filter=lambda field, _: field.name != "owner")


def audit_value(record: AuditRecord) -> dict[str, Any]:
    """Return an audit record as JSON."""
    return {"type": "audit"} | attrs.asdict(record)
