"""The token that a client of ``trio-acp serve`` has to know.

Programs send it as ``Authorization: Bearer TOKEN``.  Web pages cannot set
headers; they offer it as the subprotocol ``acp.bearer.TOKEN``, and another one
beside it, such as ``acp.v1``: a browser wants one of its offers chosen, and the
token is never sent back.  It is not taken from the URL, which others log.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import shlex
import stat
from typing import TYPE_CHECKING, Final

from .._errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SHORTEST: Final = 32
"""Bytes of a token.  As hexadecimal digits they are 128 bits, which nobody guesses."""
SUBPROTOCOL: Final = "acp.bearer."

_LONGEST = 4096
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
_OTHERS = 0o077


class BearerToken:
    """Knows its token when it sees it; keeps only a hash of it, which no repr shows."""

    def __init__(self, token: bytes) -> None:
        self._digest = _digest(token)

    def admits(self, headers: Iterable[tuple[bytes, bytes]], subprotocols: Iterable[str]) -> bool:
        """Whether a request has the token and claims no other; takes as long for a wrong one as for the right one.

        Args:
            headers: Of the request.
            subprotocols: That it offers.
        """
        right = [hmac.compare_digest(self._digest, _digest(claim)) for claim in _claims(headers, subprotocols)]
        return bool(right) and all(right)


def choose_subprotocol(offered: Iterable[str]) -> str | None:
    """Return the first offer in which no token can be: what is chosen is sent back in the open."""
    for name in offered:
        # The length alone does it for our token, in whatever place it was put by mistake.
        if 0 < len(name) < SHORTEST and not name.lower().startswith(SUBPROTOCOL):
            return name
    return None


def read_token_file(path: Path) -> BearerToken:
    """Read the token from the file that ``--token-file`` names.

    Raises:
        InvalidOption: it cannot be read, others can read it too, or what it has is no token or a short one.
    """
    make = f"to make one: (umask 077; openssl rand -hex 32 > {shlex.quote(str(path))})"
    try:
        with path.open("rb") as file:
            _require_private(os.fstat(file.fileno()), "--token-file", path)
            token = file.read(_LONGEST + 1).strip()
    except FileNotFoundError:
        raise InvalidOption(f"--token-file {path}: there is no such file; {make}", detail="invalid-token") from None
    except OSError as error:
        raise InvalidOption(f"--token-file {path}: {error.strerror}", detail="invalid-token") from None
    # What is wrong is told without a byte of it.
    if len(token) < SHORTEST:
        words = f"has {len(token)} bytes, a token needs at least {SHORTEST}"
        raise InvalidOption(f"--token-file {path}: it {words}; {make}", detail="invalid-token")
    if len(token) > _LONGEST or not _TOKEN.fullmatch(token):
        words = f"at most {_LONGEST} letters, digits and -._~+/ in one word"
        raise InvalidOption(f"--token-file {path}: a token is {words}; {make}", detail="invalid-token")
    return BearerToken(token)


def require_private(path: Path, option: str) -> None:
    """Refuse a file of ours that other users can read; others' files are their business, as for ssh.

    Raises:
        InvalidOption: they can.
        OSError: it cannot be looked at.
    """
    _require_private(path.stat(), option, path)


def _require_private(status: os.stat_result, option: str, path: Path) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid == os.getuid() and mode & _OTHERS:
        words = f"other users may use it (mode {mode:04o}); to change that: chmod 600 {shlex.quote(str(path))}"
        raise InvalidOption(f"{option} {path}: {words}", detail="insecure-file")


def _claims(headers: Iterable[tuple[bytes, bytes]], subprotocols: Iterable[str]) -> Iterator[bytes]:
    for name, value in headers:
        if name.lower() == b"authorization":
            scheme, _, claim = value.partition(b" ")
            # Another scheme is a claim as well, of something that is never the token.
            yield claim.strip(b" ") if scheme.lower() == b"bearer" else b""
    for offer in subprotocols:
        if offer.lower().startswith(SUBPROTOCOL):
            yield offer[len(SUBPROTOCOL) :].encode("utf-8", "surrogatepass")


def _digest(token: bytes) -> bytes:
    # Of equal length whatever was sent, so that comparing tells not even that.
    return hashlib.sha256(token).digest()
