"""TLS for both ends of the command line: contexts from files, and the server's side of the handshake."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING, Final

import trio

from .._errors import InvalidOption
from ._bearer import require_private

if TYPE_CHECKING:
    from pathlib import Path
    from typing import NoReturn

_log = logging.getLogger(__name__)

_SPEAKS_TLS: Final = "This port speaks TLS: connect to it with wss://.\n"
_PLAIN_ANSWER: Final = (
    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    f"Content-Length: {len(_SPEAKS_TLS)}\r\n\r\n{_SPEAKS_TLS}"
).encode("ascii")


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """Make a server's context, TLS 1.2 or newer, from PEM files; asks for no pass phrase.

    Raises:
        InvalidOption: a file cannot be used; the message has its name and option.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _require_readable("--tls-cert", cert)
    _require_readable("--tls-key", key)
    require_private(key, "--tls-key")
    # OpenSSL does not tell which of two files it does not like.  A context for clients takes certificates alone.
    _load_certificates("--tls-cert", cert)
    try:
        context.load_cert_chain(cert, key, password=_no_pass_phrase)
    except _EncryptedKey:
        raise _invalid("--tls-key", key, "the key is encrypted; a server needs one without a pass phrase") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _invalid("--tls-key", key, f"it is not the key of the certificate in {cert}") from None
        raise _invalid("--tls-key", key, "there is no private key in PEM form in it") from None
    return context


def client_context(ca_file: Path) -> ssl.SSLContext:
    """Make a client's context that trusts the certificates in this file, and no others.

    Raises:
        InvalidOption: the file cannot be used.
    """
    _require_readable("--ca-file", ca_file)
    return _load_certificates("--ca-file", ca_file)


async def accept_tls(stream: trio.abc.Stream, context: ssl.SSLContext) -> trio.SSLStream[trio.abc.Stream] | None:
    """Do the server's part of a TLS handshake; None if it failed.  If cancelled, the stream is of no more use.

    Whoever speaks HTTP without TLS is told so in HTTP.
    """
    tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
    try:
        await tls.do_handshake()
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        why = getattr(error.__cause__, "reason", None) or "the client hung up"
        _log.info("a TLS handshake failed: %s", why)
        if why == "HTTP_REQUEST":
            try:
                await stream.send_all(_PLAIN_ANSWER)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                _log.debug("a client that spoke no TLS was gone before it could be told")
        return None
    return tls


class _EncryptedKey(Exception):
    """OpenSSL wants a pass phrase."""


def _no_pass_phrase() -> NoReturn:
    # Without this, OpenSSL would ask on the terminal and wait for ever where there is none.
    raise _EncryptedKey


def _require_readable(option: str, path: Path) -> None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise _invalid(option, path, str(error.strerror)) from None


def _load_certificates(option: str, path: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise _invalid(option, path, "there is no certificate in PEM form in it") from None


def _invalid(option: str, path: Path, what: str) -> InvalidOption:
    return InvalidOption(f"{option} {path}: {what}", detail="invalid-tls-file")
