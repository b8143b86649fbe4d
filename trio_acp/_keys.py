"""Session keys: the names under which sessions are stored and addressed.

A key is any text; case and surrounding white space do not matter.  Two forms
mean something: ``agent:<id>:<rest>`` belongs to an agent, and a key whose rest
(or the whole) begins with ``acp:`` is *ACP-shaped*: it was made for a session,
so that one without metadata has lost it.  ``main`` is an alias of the default
agent's main session, which `Settings` names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ._errors import SessionMissing, UsageError

if TYPE_CHECKING:
    from ._limits import Settings

MAX_AGENT_ID: Final = 64
"""Characters that an agent's id may have."""

_FOREIGN: Final = re.compile(r"[^a-z0-9_-]+")
_AGENT_ID: Final = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{MAX_AGENT_ID - 1}}}")
_RESERVED: Final = frozenset({"global", "unknown"})


def agent_id(name: str) -> str:
    """Return a name as an agent's id: lower-case letters, digits, dashes and underscores; ``main`` if none is left."""
    text = name.strip().lower()
    if _AGENT_ID.fullmatch(text):
        return text
    return _FOREIGN.sub("-", text).strip("-")[:MAX_AGENT_ID] or "main"


def _agent_and_rest(key: str) -> tuple[str, str] | None:
    parts = [part for part in key.strip().lower().split(":") if part]
    if len(parts) < 3 or parts[0] != "agent":
        return None
    return parts[1], ":".join(parts[2:])


def is_acp_shaped(key: str) -> bool:
    """Whether a key was made for a session of an agent, by its form."""
    scoped = _agent_and_rest(key)
    return (key.strip().lower() if scoped is None else scoped[1]).startswith("acp:")


def agent_of(key: str) -> str | None:
    """Return the id of the agent that a key belongs to, or None if it is not of that form."""
    scoped = _agent_and_rest(key)
    return None if scoped is None else agent_id(scoped[0])


def normalise_key(key: object, settings: Settings) -> str:
    """Return the canonical form of a key, in which it is stored; empty if there is nothing in it."""
    text = key.strip().lower() if isinstance(key, str) else ""
    if not text or text in _RESERVED:
        return text
    main = settings.main_key.strip().lower()
    if _agent_and_rest(text) is None:
        return _main_session(settings, settings.default_agent) if text in {"main", main} else text
    agent = agent_of(text)
    if agent is not None and text in {f"agent:{agent}:main", f"agent:{agent}:{main}"}:
        return _main_session(settings, agent)
    return text


def _main_session(settings: Settings, agent: str) -> str:
    return "global" if settings.global_scope else f"agent:{agent_id(agent)}:{settings.main_key.strip().lower()}"


def canonical_key(key: object, settings: Settings) -> str:
    """Return the canonical form of a key.

    Raises:
        UsageError: the key is not a string, or nothing is left of it.
    """
    canonical = normalise_key(key, settings)
    if not canonical:
        raise UsageError("a session key is required", detail="empty-key")
    return canonical


def missing(key: str) -> SessionMissing:
    """Return the error for a key without metadata; its `detail` tells a session that lost it from none at all."""
    if is_acp_shaped(key):
        return SessionMissing(f"the ACP metadata is missing of session {key!r}; start it again", detail="stale-session")
    return SessionMissing(f"there is no session {key!r}; start it first")
