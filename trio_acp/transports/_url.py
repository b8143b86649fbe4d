"""WebSocket addresses: what is allowed in one, and what of it may be shown."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

import attrs

from trio_acp._errors import InvalidOption

_PORTS = {"ws": 80, "wss": 443}
_PRINTABLE = re.compile(r"[!-~]+")


@attrs.frozen(kw_only=True)
class WebSocketUrl:
    """A WebSocket address that was checked.  Its text form leaves out the query, which may hold a secret.

    Attributes:
        resource: The path and the query, as the request line has them.
        host: Without the brackets of an IPv6 address.
    """

    scheme: str
    host: str
    port: int
    path: str
    resource: str = attrs.field(repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """The host, with the port if it is not the scheme's own: the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def secure(self) -> bool:
        """Whether what is sent there is encrypted."""
        return self.scheme == "wss"

    @property
    def loopback(self) -> bool:
        """Whether what is sent there stays on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_url(url: str) -> WebSocketUrl:
    """Check and take apart a ``ws://`` or ``wss://`` address.

    Raises:
        InvalidOption: it is not one; the message does not quote secrets.
    """
    if not _PRINTABLE.fullmatch(url):
        raise _invalid("must be printable ASCII without spaces; percent-encode the rest")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # The standard library's message quotes the address, which may hold a secret.
        raise _invalid("has a malformed host or port") from None
    if parts.scheme not in _PORTS:
        raise _invalid(f"must begin with ws:// or wss://, not {parts.scheme!r}")
    if parts.username is not None or parts.password is not None:
        raise _invalid("must not hold a user name or password; pass a token file or a header")
    if not parts.hostname:
        raise _invalid("names no host")
    if "#" in url:
        raise _invalid("must not have a fragment")
    path = parts.path or "/"
    return WebSocketUrl(
        scheme=parts.scheme,
        host=parts.hostname,
        port=_PORTS[parts.scheme] if port is None else port,
        path=path,
        resource=f"{path}?{parts.query}" if parts.query else path,
    )


def _invalid(what: str) -> InvalidOption:
    return InvalidOption(f"the WebSocket URL {what}", detail="invalid-url")
