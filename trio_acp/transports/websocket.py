"""ACP over WebSocket: dial a server, or wrap a connection that a server accepted.

The stream below the WebSocket is opened here and closed here.  trio-websocket's
own openers are not used: their connect timeout does not end a stalled
handshake, and they leave the socket of a rejected one open.

Two libraries can frame a client's messages, to the same laws: trio-websocket,
and the sans-I/O protocol of websockets, which costs less for each message and
each step.  It reads while somebody receives; so the pings of a peer are
answered then, and its close is noticed then.
"""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from trio_acp._errors import BackendUnavailable, InvalidOption
from trio_acp._service import shielded

from ._checks import MAX_MESSAGE, require_max_message, require_seconds
from ._cookies import Cookies
from ._engines import open_websocket, require_engine
from ._handshake import too_slow
from ._request import encode_headers, read_token
from ._trio_websocket import TrioWebSocketTransport
from ._url import WebSocketUrl, parse_url
from ._websocket_transport import WebSocketTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    import trio_websocket

    from trio_acp.abc import Dial

    from ._engines import Engine

__all__ = [
    "MAX_MESSAGE",
    "Cookies",
    "WebSocketTransport",
    "dial_websocket",
    "websocket_over_stream",
    "websocket_server_transport",
]

_SHORTEST_PING_INTERVAL = 20.0
_FORCE_SECONDS = 1.0


def dial_websocket(
    url: str,
    *,
    headers: Sequence[tuple[str, str]] = (),
    token_file: str | os.PathLike[str] | None = None,
    token_env: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    cookies: Cookies | None = None,
    connect_timeout: float = 10.0,
    close_timeout: float = 2.0,
    max_message: int = MAX_MESSAGE,
    ping_interval: float | None = None,
    allow_insecure: bool = False,
    on_phase: Callable[[str, trio.abc.Stream], None] | None = None,
    engine: Engine = "trio-websocket",
) -> Dial:
    """Say how to reach an ACP agent over WebSocket; nothing is connected yet.

    ``async with dial() as transport`` connects.  Cancelled while connecting, it
    closes what it had opened.  Opening raises `BackendUnavailable`, with
    `detail` ``dns``, ``connection-refused``, ``connect-failed``, ``tls``,
    ``connect-timeout``, ``handshake-rejected`` (and `status`) or
    ``handshake-failed``; the body's exceptions leave as they are.

    Args:
        url: ``ws://`` or ``wss://``.  Its query is sent but never shown or logged.
        headers: Added to the request.
        token_file: A file with a bearer token, read at each dial.
        token_env: An environment variable with a bearer token, read at each dial.
        ssl_context: For ``wss://``; the system's default if None.
        cookies: Where cookies are kept between dials; an own place for each `Dial` if None.
        connect_timeout: Seconds for name look-up, TCP, TLS and the handshake together.
        close_timeout: Seconds for the closing handshake.
        max_message: The longest message to receive, in characters of text or bytes; always in
            bytes with the engine ``websockets``.
        ping_interval: Seconds between pings, at least 20; None for no pings.
        allow_insecure: Send a token over ``ws://`` to another machine, readable for all in between.
        on_phase: Called with ``connect`` or ``tls`` and the stream, to look at only, when that much is done.
        engine: What frames the messages; ``websockets`` needs the extra ``fast``.

    Raises:
        InvalidOption: an argument has a value that it cannot have.
    """
    address = parse_url(url)
    require_seconds("connect_timeout", connect_timeout)
    require_seconds("close_timeout", close_timeout)
    require_max_message(max_message)
    _require_ping_interval(ping_interval)
    require_engine(engine)
    secret = token_file is not None or token_env is not None
    if token_file is not None and token_env is not None:
        raise InvalidOption("give token_file or token_env, not both", detail="invalid-token")
    for name, _ in encode_headers(headers):
        if name.lower() == b"authorization":
            if secret:
                raise InvalidOption("give a token or an Authorization header, not both", detail="invalid-token")
            secret = True
    if secret and not (address.secure or address.loopback or allow_insecure):
        raise InvalidOption(
            f"{address}: refusing to send a token unencrypted to another machine; use wss:// or allow_insecure=True",
            detail="insecure-token",
        )
    return _WebSocketDial(
        url=url,
        address=address,
        headers=tuple(headers),
        token_file=None if token_file is None else Path(token_file),
        token_env=token_env,
        ssl_context=ssl_context,
        cookies=Cookies() if cookies is None else cookies,
        connect_timeout=connect_timeout,
        close_timeout=close_timeout,
        max_message=max_message,
        ping_interval=ping_interval,
        on_phase=on_phase or _tell_nobody,
        engine=engine,
    )


@attrs.frozen(kw_only=True, eq=False)
class _WebSocketDial:
    address: WebSocketUrl = attrs.field(repr=str)
    url: str = attrs.field(repr=False)
    headers: tuple[tuple[str, str], ...] = attrs.field(repr=False)
    token_file: Path | None
    token_env: str | None
    ssl_context: ssl.SSLContext | None = attrs.field(repr=False)
    cookies: Cookies = attrs.field(repr=False)
    connect_timeout: float
    close_timeout: float
    max_message: int
    ping_interval: float | None
    on_phase: Callable[[str, trio.abc.Stream], None] = attrs.field(repr=False)
    engine: Engine

    def __call__(self) -> AbstractAsyncContextManager[WebSocketTransport]:
        return self._connect()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[WebSocketTransport]:
        deadline = trio.current_time() + self.connect_timeout
        with trio.move_on_at(deadline) as scope:
            headers = await self._request_headers()
            stream = await self._open_stream()
        if scope.cancelled_caught:
            raise too_slow(str(self.address), "no connection was made")
        async with open_websocket(
            stream,
            self.address.authority,
            self.address.resource,
            engine=self.engine,
            headers=encode_headers(headers),
            subprotocols=(),
            shown=str(self.address),
            deadline=deadline,
            close_timeout=self.close_timeout,
            max_message=self.max_message,
            ping_interval=self.ping_interval,
        ) as (transport, received):
            self.cookies.store(self.url, [value.decode("latin-1") for name, value in received if name == b"set-cookie"])
            yield transport

    async def _request_headers(self) -> list[tuple[str, str]]:
        headers = [(name, value) for name, value in self.headers if name.lower() != "cookie"]
        own = [value for name, value in self.headers if name.lower() == "cookie"]
        kept = self.cookies.header(self.url)
        if own or kept:
            headers.append(("Cookie", "; ".join([*own, *([kept] if kept else [])])))
        token = await read_token(self.token_file, self.token_env)
        if token is not None:
            headers.append(("Authorization", f"Bearer {token}"))
        return headers

    async def _open_stream(self) -> trio.abc.Stream:
        address = self.address
        try:
            tcp = await trio.open_tcp_stream(address.host, address.port)
        except (socket.gaierror, UnicodeError):
            raise BackendUnavailable(f"{address}: the host name cannot be resolved", detail="dns") from None
        except OSError as error:
            refused, words, cause = _explain(error)
            detail = "connection-refused" if refused else "connect-failed"
            raise BackendUnavailable(f"{address}: cannot connect: {words}", detail=detail) from cause
        self.on_phase("connect", tcp)
        if not address.secure:
            return tcp
        context = ssl.create_default_context() if self.ssl_context is None else self.ssl_context
        tls = trio.SSLStream(tcp, context, server_hostname=address.host, https_compatible=True)
        try:
            try:
                await tls.do_handshake()
                self.on_phase("tls", tls)
            except trio.BrokenResourceError as error:
                why = error.__cause__
                words = getattr(why, "verify_message", None) or getattr(why, "reason", None) or "the server hung up"
                raise BackendUnavailable(f"{address}: the TLS handshake failed: {words}", detail="tls") from (
                    why or error
                )
        except BaseException:
            with shielded(_FORCE_SECONDS):
                await trio.aclose_forcefully(tls)
            raise
        return tls


@asynccontextmanager
async def websocket_over_stream(
    stream: trio.abc.Stream,
    host: str,
    resource: str,
    *,
    headers: Sequence[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
    connect_timeout: float = 10.0,
    close_timeout: float = 2.0,
    max_message: int = MAX_MESSAGE,
    ping_interval: float | None = None,
    engine: Engine = "trio-websocket",
) -> AsyncIterator[WebSocketTransport]:
    """Open a client WebSocket over any stream, which belongs to it from then on.

    If cancelled while opening, the stream is closed.  The body's exceptions
    leave as they are.

    Args:
        stream: Any stream; nothing else may use it.
        host: The Host header.
        resource: The path and the query.
        headers: Added to the request.
        subprotocols: Offered to the server.
        connect_timeout: Seconds for the handshake.
        close_timeout: Seconds for the closing handshake.
        max_message: The longest message to receive, in characters of text or bytes; always in
            bytes with the engine ``websockets``.
        ping_interval: Seconds between pings, at least 20; None for no pings.
        engine: What frames the messages; ``websockets`` needs the extra ``fast``.

    Raises:
        BackendUnavailable: the handshake failed, as for `dial_websocket`.
        InvalidOption: an argument has a value that it cannot have; the stream was not touched.
    """
    require_seconds("connect_timeout", connect_timeout)
    require_seconds("close_timeout", close_timeout)
    require_max_message(max_message)
    _require_ping_interval(ping_interval)
    require_engine(engine)
    encoded = encode_headers(headers)
    async with open_websocket(
        stream,
        host,
        resource,
        engine=engine,
        headers=encoded,
        subprotocols=subprotocols,
        shown=f"ws://{host}{resource.partition('?')[0]}",
        deadline=trio.current_time() + connect_timeout,
        close_timeout=close_timeout,
        max_message=max_message,
        ping_interval=ping_interval,
    ) as (transport, _):
        yield transport


def websocket_server_transport(
    connection: trio_websocket.WebSocketConnection,
    *,
    stream: trio.abc.AsyncResource | None = None,
    close_timeout: float = 2.0,
    max_message: int | None = None,
) -> WebSocketTransport:
    """Wrap a connection that a server accepted; the laws are the same as on the client's side.

    Args:
        connection: Open, and no longer used by anything else.
        stream: What is below the connection, if this transport shall close it by force.
        close_timeout: Seconds for the closing handshake.
        max_message: The limit the connection was made with, so that exceeding it raises `MessageTooLarge`.
    """
    return TrioWebSocketTransport(connection, stream=stream, close_timeout=close_timeout, max_message=max_message)


def _explain(error: OSError) -> tuple[bool, str, BaseException | None]:
    """Return whether a failed connect was refused everywhere, the system's words for it, and the cause if it is one."""
    cause = error.__cause__
    causes = cause.exceptions if isinstance(cause, BaseExceptionGroup) else (error,)
    # Trio puts the address into each one's own words, once more.
    words = dict.fromkeys(
        os.strerror(each.errno) if isinstance(each, OSError) and each.errno else str(each) for each in causes
    )
    # A group of them would fill a screen, and says no more than their words do.
    sole = causes[0].with_traceback(None) if len(words) == 1 else None
    return all(isinstance(each, ConnectionRefusedError) for each in causes), ", ".join(words), sole


def _tell_nobody(phase: str, stream: trio.abc.Stream) -> None:
    pass


def _require_ping_interval(value: float | None) -> None:
    # Agents that compute for some seconds do not answer meanwhile: shorter intervals kill healthy turns.
    if value is None:
        return
    require_seconds("ping_interval", value)
    if value < _SHORTEST_PING_INTERVAL:
        raise InvalidOption(f"ping_interval must be at least 20 seconds, not {value:g}", detail="invalid-ping_interval")
