"""How long things may take and how much may wait.  Seconds, as float."""

from __future__ import annotations

import math
from typing import Any

import attrs

from ._errors import InvalidOption

_MUST_BE_FINITE = frozenset({"grace", "cleanup", "settle", "join"})


def is_seconds(value: object) -> bool:
    """Whether a value is a number of seconds above 0, perhaps infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _positive_seconds(instance: object, attribute: attrs.Attribute[float], value: Any) -> None:
    name = attribute.name
    if isinstance(value, int) and value.bit_length() > 1000:  # no float can be that large
        raise InvalidOption(f"{name} is more seconds than a clock can count", detail=f"invalid-{name}")
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise InvalidOption(f"{name} must be a number of seconds, not {value!r}", detail=f"invalid-{name}")
    if value <= 0:
        raise InvalidOption(f"{name} must be more than 0 seconds, not {value!r}", detail=f"invalid-{name}")
    if name in _MUST_BE_FINITE and math.isinf(value):
        raise InvalidOption(f"{name} must be finite: cleanup is always bounded", detail=f"invalid-{name}")


def _name(instance: object, attribute: attrs.Attribute[str], value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise InvalidOption(f"{attribute.name} must be a text, not {value!r}", detail=f"invalid-{attribute.name}")


def _positive_count(instance: object, attribute: attrs.Attribute[int], value: Any) -> None:
    name = attribute.name
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidOption(f"{name} must be a whole number of at least 1, not {value!r}", detail=f"invalid-{name}")


@attrs.frozen(kw_only=True)
class Limits:
    """The deadlines of a turn and of the calls around it, in seconds.

    ``math.inf`` switches a limit off; `grace`, `cleanup`, `settle` and `join`
    must be finite, because the end of a turn depends on each of them.

    Attributes:
        turn: From leaving the queue to the agent's last word.  Setup counts.
        grace: How long after `turn` the turn still accepts events.
        cleanup: For the agent to stop a turn, and again to close a oneshot; for
            each close, and each write that nothing depends on.
        setup: For connecting and opening a session, within `turn` if a turn does it.
        probe: For one status request, for reading what is stored when a program
            asks for it, and for the repairs when a manager is opened.
        controls: For applying a session's options, within `setup` if a turn does it.
        settle: For asking the runtime, after a turn, what it has learned of
            the session's ids.  Nobody waits for it, and whoever comes next cuts it.
        join: For a call to end by itself once it has no more reason to run.

    Raises:
        InvalidOption: one of them is not a positive number, or infinite where it must be finite.
    """

    turn: float = attrs.field(default=172_800.0, validator=_positive_seconds)
    grace: float = attrs.field(default=1.0, validator=_positive_seconds)
    cleanup: float = attrs.field(default=2.0, validator=_positive_seconds)
    setup: float = attrs.field(default=60.0, validator=_positive_seconds)
    probe: float = attrs.field(default=5.0, validator=_positive_seconds)
    controls: float = attrs.field(default=15.0, validator=_positive_seconds)
    settle: float = attrs.field(default=5.0, validator=_positive_seconds)
    join: float = attrs.field(default=0.1, validator=_positive_seconds)


@attrs.frozen(kw_only=True)
class Settings:
    """What a session manager is told once.

    Attributes:
        limits: The default deadlines of every turn.
        idle_ttl: Seconds after which an unused backend session is closed; the
            next request resumes it.  One that cannot be resumed stays open.
            ``math.inf`` keeps them all open, except those that still owe an
            answer, which are closed after 60 s.
        max_sessions: Backend sessions that may be open at once, those being
            opened or closed included.  Who needs another one closes the
            longest idle; `TooManySessions` if none is idle.  None: any number.
        max_queued: Requests that may wait behind the running one of a session.
        max_buffered: Characters of events that may wait for the consumer of one turn.
            What one read of a connection brings, up to 64 KiB, comes at once.
        main_key: The name of each agent's main session: ``main``, and this, are
            aliases of it.
        default_agent: Whose main session a key means that names no agent.
        global_scope: Whether all agents share one main session, ``global``.

    Raises:
        InvalidOption: one of them cannot have that value.
    """

    limits: Limits = attrs.field(factory=Limits)
    idle_ttl: float = attrs.field(default=600.0, validator=_positive_seconds)
    max_sessions: int | None = attrs.field(default=None, validator=attrs.validators.optional(_positive_count))
    max_queued: int = attrs.field(default=32, validator=_positive_count)
    max_buffered: int = attrs.field(default=4 * 2**20, validator=_positive_count)
    main_key: str = attrs.field(default="main", validator=_name)
    default_agent: str = attrs.field(default="main", validator=_name)
    global_scope: bool = False
