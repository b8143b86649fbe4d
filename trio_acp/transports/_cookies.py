"""Cookies that a server set when a connection was opened, for the next connection to the same address.

Load balancers use them to send a client to the server that knows its session.
A cookie goes back to the very address it came from and nowhere else, so Domain
and Path need no rules here.
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from ._url import parse_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MOST_COOKIES = 50
_LONGEST_COOKIE = 4096


class Cookies:
    """Remembers the cookies of each address; synchronous, one object for as many dials as wanted.

    Of RFC 6265 it has expiry; a cookie goes back to the very address that set it.

    Args:
        now: Wall-clock time in seconds; cookies expire by it.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._jars: dict[tuple[str, str, int, str], dict[str, tuple[str, float]]] = {}

    def __repr__(self) -> str:
        return f"<Cookies of {len(self._jars)} addresses>"  # never their values: they may be credentials

    def store(self, url: str, set_cookie: Iterable[str]) -> None:
        """Take the values of the Set-Cookie headers of one response; an expired cookie is deleted.

        Raises:
            InvalidOption: the address is none.
        """
        jar = self._jars.setdefault(_key(url), {})
        for header in set_cookie:
            pair, *attributes = header.split(";")
            name, equals, value = (part.strip() for part in pair.partition("="))
            if not equals or not name or len(pair) > _LONGEST_COOKIE:
                continue
            expires = self._expiry(attributes)
            jar.pop(name, None)
            if expires > self._now() and len(jar) < _MOST_COOKIES:
                jar[name] = (value, expires)

    def header(self, url: str) -> str | None:
        """Return the Cookie header for an address, or None if it has no cookie.

        Raises:
            InvalidOption: the address is none.
        """
        now = self._now()
        jar = self._jars.get(_key(url), {})
        return "; ".join(f"{name}={value}" for name, (value, expires) in jar.items() if expires > now) or None

    def _expiry(self, attributes: list[str]) -> float:
        expires = float("inf")
        for attribute in attributes:
            name, _, value = (part.strip() for part in attribute.partition("="))
            if name.lower() == "max-age":
                try:
                    return self._now() + int(value)  # wins over Expires, whichever comes first
                except ValueError:
                    continue
            if name.lower() == "expires":
                try:
                    expires = parsedate_to_datetime(value).timestamp()
                except ValueError:
                    continue
        return expires


def _key(url: str) -> tuple[str, str, int, str]:
    address = parse_url(url)
    return address.scheme, address.host, address.port, address.resource
