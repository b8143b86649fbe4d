"""Secrets of an agent's environment, taken out of what the agent says where nobody should read them.

An agent that crashes may print its whole environment.  Its last words go into
exceptions and logs, and over ``trio-acp serve`` to its client.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

REPLACEMENT: Final = "[secret]"

_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL", re.IGNORECASE)
_SHORTEST = 8


def secrets_of(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values that the names of their variables tell to be secret, line by line, the longest first.

    Values of less than 8 characters are left out: they would be found in ordinary words.
    """
    values = {
        line.strip() for name, value in env.items() if _NAME.search(name) is not None for line in value.splitlines()
    }
    return tuple(sorted((value for value in values if len(value) >= _SHORTEST), key=len, reverse=True))


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return the text without the secrets."""
    for secret in secrets:
        text = text.replace(secret, REPLACEMENT)
    return text
