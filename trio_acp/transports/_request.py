"""The headers of a WebSocket request, and the bearer token that may be among them.

A token is read anew at each dial, so that it can be replaced on disk; it is
never part of a repr, an exception or a log record.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import trio

from trio_acp._errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LONGEST_TOKEN = 65536
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t -~]*")
_TOKEN = re.compile(r"[!-~]+")


def encode_headers(headers: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Check and encode request headers.

    Raises:
        InvalidOption: one could not be sent as it is.
    """
    for name, value in headers:
        if not _HEADER_NAME.fullmatch(name):
            raise InvalidOption(f"{name!r} is not the name of an HTTP header", detail="invalid-header")
        if not _HEADER_VALUE.fullmatch(value):
            # The value may be a secret.
            raise InvalidOption(f"the value of header {name} must be printable ASCII", detail="invalid-header")
    return [(name.encode("ascii"), value.strip().encode("ascii")) for name, value in headers]


async def read_token(token_file: Path | None, token_env: str | None) -> str | None:
    """Return the bearer token from a file or the environment, or None if neither is given.

    If cancelled, nothing was read.

    Raises:
        InvalidOption: there is none there, or it is not a token.
    """
    if token_env is not None:
        where, token = f"environment variable {token_env}", os.environ.get(token_env)
        if token is None:
            raise InvalidOption(f"the token's {where} is not set", detail="invalid-token")
    elif token_file is not None:
        where = f"file {token_file}"
        try:
            # Abandoned, not awaited, when the dial is over: a named pipe can block for ever.
            token = await trio.to_thread.run_sync(_read, token_file, abandon_on_cancel=True)
        except OSError as error:
            raise InvalidOption(f"cannot read the token's {where}: {error.strerror}", detail="invalid-token") from None
    else:
        return None
    if not _TOKEN.fullmatch(token.strip()):
        raise InvalidOption(f"the token in {where} must be one word of printable ASCII", detail="invalid-token")
    return token.strip()


def _read(path: Path) -> str:
    with path.open(encoding="ascii", errors="replace") as file:
        return file.read(_LONGEST_TOKEN)
