"""The two libraries that can frame a client's WebSocket, and the opening of one with either."""

from __future__ import annotations

from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import trio

from trio_acp._errors import InvalidOption
from trio_acp._service import ServiceScope, shielded

from ._cut_stream import CutStream
from ._handshake import Handshake, WatchedStream
from ._trio_websocket import TrioWebSocketTransport
from ._websocket_transport import FORCE_SECONDS, WebSocketTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

Engine: TypeAlias = Literal["trio-websocket", "websockets"]
"""What frames the messages: ``trio-websocket``, or ``websockets`` of the extra ``fast``."""

ENGINES: Final[tuple[str, ...]] = get_args(Engine)


def require_engine(engine: str) -> None:
    """Refuse an engine that there is not.

    Raises:
        InvalidOption: there is no such engine, or its library is not installed.
    """
    if engine not in ENGINES:
        raise InvalidOption(f"engine must be {' or '.join(ENGINES)}, not {engine!r}", detail="invalid-engine")
    if engine == "websockets" and find_spec("websockets") is None:
        raise InvalidOption(
            "engine websockets needs the library of that name: pip install 'trio-acp[fast]'", detail="missing-extra"
        )


@asynccontextmanager
async def open_websocket(
    stream: trio.abc.Stream,
    host: str,
    resource: str,
    *,
    engine: Engine,
    headers: Sequence[tuple[bytes, bytes]],
    subprotocols: Sequence[str],
    shown: str,
    deadline: float,
    close_timeout: float,
    max_message: int,
    ping_interval: float | None,
) -> AsyncIterator[tuple[WebSocketTransport, list[tuple[bytes, bytes]]]]:
    """Open a client's WebSocket over a stream, which is closed in any case; see `websocket.websocket_over_stream`.

    Yields the transport and the headers of the server's answer.
    """
    watched = WatchedStream(stream)
    try:
        # What reads or answers must outlive the body, its cleanup included: without it nothing sent gets an answer.
        async with ServiceScope("websocket") as nursery:
            transport: WebSocketTransport
            if engine == "websockets":
                from ._websockets import open_client

                transport, received = await open_client(
                    watched,
                    host,
                    resource,
                    headers=headers,
                    subprotocols=subprotocols,
                    shown=shown,
                    deadline=deadline,
                    limit=max_message,
                    close_timeout=close_timeout,
                )
                nursery.start_soon(transport.answer)
            else:
                cut = CutStream(watched, max_message)
                handshake = Handshake(watched, cut)
                nursery.start_soon(handshake.run, host, resource, headers, subprotocols, max_message)
                connection = await handshake.result(shown, deadline)
                received = [(name.lower(), value) for name, value in connection.handshake_headers]
                transport = TrioWebSocketTransport(
                    connection,
                    stream=watched,
                    cut=cut,
                    close_timeout=close_timeout,
                    max_message=max_message,
                )
            transport.connection_id = next(
                (value.decode("latin-1") for name, value in received if name == b"acp-connection-id"), None
            )
            if ping_interval is not None:
                nursery.start_soon(transport.keep_alive, ping_interval, watched)
            try:
                yield transport, received
            finally:
                await transport.aclose()
    finally:
        with shielded(FORCE_SECONDS):
            await trio.aclose_forcefully(watched)
