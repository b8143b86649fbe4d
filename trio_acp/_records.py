"""What is stored about a session."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

Mode: TypeAlias = Literal["persistent", "oneshot"]
"""How long a session lives: until it is closed, or for one turn, after which it is never resumed."""

SessionState: TypeAlias = Literal["idle", "running", "error"]
"""At rest, in a turn, or at rest after a turn that failed, timed out, or died with its manager."""

IdentityState: TypeAlias = Literal["pending", "resolved"]
IdentitySource: TypeAlias = Literal["ensure", "status", "event"]
Origin: TypeAlias = Literal["new", "resumed", "replaced", "reused"]
"""How an open backend session was come by: see `Session.origin`."""


@attrs.frozen(kw_only=True)
class Owner:
    """The process and manager that have a session open; identifies a dead one after a crash.

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
class ProcessGroup:
    """A group of processes that serves an open session: an agent and what it started.

    Attributes:
        pgid: The group's id, which is the process id of its leader.
        start_time: When the leader started, in the system's own unit; see `Owner`.
    """

    pgid: int
    start_time: int


@attrs.frozen(kw_only=True)
class Identity:
    """By which ids a session's backend session is known.

    Attributes:
        state: ``resolved`` once the backend has confirmed an id that can be
            resumed by, ``pending`` until then.
        session_id: The ACP session id.
        agent_session_id: The agent's own id of the conversation, if it told one.
        record_id: The adapter's id of what it keeps about the session; nothing can be resumed by it.
        source: Where the last observation came from: ``ensure`` (opening it),
            ``event`` (the handle, after a turn) or ``status`` (the runtime's answer).
        updated: Wall-clock time of the last observation, seconds since the
            epoch; two identities that differ in nothing else are equal.
    """

    state: IdentityState = "pending"
    session_id: str | None = None
    agent_session_id: str | None = None
    record_id: str | None = None
    source: IdentitySource = "ensure"
    updated: float = attrs.field(default=0.0, eq=False)


def _frozen(extras: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(extras))


@attrs.frozen(kw_only=True)
class RuntimeOptions:
    """What a session was told besides its agent; None is the agent's, or the manager's, own choice.

    Attributes:
        mode: The agent's mode, such as ``plan``.
        model: The agent's model.
        cwd: An absolute working directory, instead of the one the session was started with.
        permission_profile: The agent's own policy for its tools.
        timeout_seconds: The deadline of each turn in seconds, instead of the manager's `Limits.turn`.
        extras: Other options of the agent, by their keys; immutable.
    """

    mode: str | None = None
    model: str | None = None
    cwd: str | None = None
    permission_profile: str | None = None
    timeout_seconds: int | None = None
    extras: Mapping[str, str] = attrs.field(factory=dict, converter=_frozen, hash=False)


@attrs.frozen(kw_only=True)
class SessionRecord:
    """The stored metadata of one session.

    Attributes:
        key: The session's canonical key.
        agent: The name of the runtime that serves it.
        mode: ``persistent`` or ``oneshot``.
        cwd: The absolute working directory it was started with, or that the runtime
            has chosen; None lets the runtime choose.  Its `options` may have another.
        identity: By which ids the backend session is known, once it was opened.
        state: ``idle``, ``running`` or ``error``.
        last_error: Why it is in ``error``; None otherwise.
        last_activity: Wall-clock time of the last write, seconds since the epoch.
        owner: Who has it open, is about to open it, or has just closed it; as
            long as that manager lives, nobody else may use it.  None for nobody.
        options: What every turn of it runs with.
        requester: The key of the session on whose behalf it works, if there is one.
        label: A name for people.
        processes: The agents' process groups that serve its open backend
            session, for whoever has to end them if the `owner` dies.
    """

    key: str
    agent: str
    mode: Mode = "persistent"
    cwd: str | None = None
    identity: Identity | None = None
    state: SessionState = "idle"
    last_error: str | None = None
    last_activity: float = 0.0
    owner: Owner | None = None
    options: RuntimeOptions = attrs.field(factory=RuntimeOptions)
    requester: str | None = None
    label: str | None = None
    processes: tuple[ProcessGroup, ...] = ()

    @property
    def session_id(self) -> str | None:
        """The ACP session id, once known."""
        return None if self.identity is None else self.identity.session_id

    @property
    def agent_session_id(self) -> str | None:
        """The agent's own id of the conversation, if it told one."""
        return None if self.identity is None else self.identity.agent_session_id

    @property
    def working_directory(self) -> str | None:
        """The working directory in force."""
        return self.options.cwd or self.cwd
