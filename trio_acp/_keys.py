"""Session keys: the names under which sessions are stored and addressed."""

from __future__ import annotations

from ._errors import UsageError


def canonical_key(key: object) -> str:
    """Return `key` trimmed and lower-cased, the form in which it is stored.

    Raises:
        UsageError: the key is not a string, or nothing is left of it.
    """
    canonical = key.strip().lower() if isinstance(key, str) else ""
    if not canonical:
        raise UsageError("a session key is required", detail="empty-key")
    return canonical
