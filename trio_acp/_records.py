"""What is stored about a session."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

Mode: TypeAlias = Literal["persistent", "oneshot"]
SessionState: TypeAlias = Literal["idle", "running", "error"]
Origin: TypeAlias = Literal["new", "resumed", "replaced", "reused"]
"""How an open backend session was come by: see `Session.origin`."""


@attrs.frozen(kw_only=True)
class Owner:
    """The process and manager that run a session's turn; identifies a dead one after a crash.

    Attributes:
        pid: Process id.
        start_time: When the process started, in the system's own unit; with
            `boot_id` it tells a recycled pid from the original.
        boot_id: Identifies the boot of the machine; empty where unknown.
        manager_id: Random, one for each open manager.
    """

    pid: int
    start_time: int
    boot_id: str
    manager_id: str


@attrs.frozen(kw_only=True)
class SessionRecord:
    """The stored metadata of one session.

    Attributes:
        key: The session's canonical key.
        agent: The name of the runtime that serves it.
        mode: ``persistent`` or ``oneshot``.
        cwd: The absolute working directory; None lets the runtime choose.
        session_id: The ACP session id, once known.
        agent_session_id: The agent's own id of the conversation, if it told one.
        state: ``idle``, ``running`` or ``error``.
        last_error: Why it is in ``error``; None otherwise.
        last_activity: Wall-clock time of the last write, seconds since the epoch.
        owner: Who runs it, exactly while `state` is ``running``.
    """

    key: str
    agent: str
    mode: Mode = "persistent"
    cwd: str | None = None
    session_id: str | None = None
    agent_session_id: str | None = None
    state: SessionState = "idle"
    last_error: str | None = None
    last_activity: float = 0.0
    owner: Owner | None = None
