"""Accepting a WebSocket over a stream that we own: who may connect, and how long that may take."""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING, Final

import attrs
import trio
import trio_websocket
from wsproto.utilities import LocalProtocolError

from .._service import ServiceScope, shielded
from ..transports.websocket import MAX_MESSAGE, websocket_server_transport
from ._bearer import choose_subprotocol
from ._bridge import STALL, Bridge
from ._lobby import Lobby
from ._tls import accept_tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from ..abc import Dial
    from ._bearer import BearerToken

_log = logging.getLogger(__name__)

PATH: Final = "/acp"
HANDSHAKE_SECONDS: Final = 10.0
MAX_CLIENTS: Final = 16
_TURN_AWAY_SECONDS = 2.0
_FORCE_SECONDS = 1.0
_RECEIVE_SIZE = 65536


class _Watched(trio.abc.Stream):
    """A stream that says when it can bring nothing more.

    trio-websocket's reader ends silently when a client hangs up before its
    request is complete, and waiting for that request would then never end.
    """

    def __init__(self, stream: trio.abc.Stream, on_end: Callable[[], None]) -> None:
        self._stream = stream
        self._on_end = on_end

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; cancelled, a part may have been sent."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a send might proceed; cancelled, nothing happened."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive; cancelled, nothing was taken."""
        data = b""
        try:
            data = bytes(await self._stream.receive_some(max_bytes))
        finally:
            if not data:
                self._on_end()
        return data

    async def aclose(self) -> None:
        """Close; cancelled, it closes by force."""
        self._on_end()
        await self._stream.aclose()


class _Reception:
    """Waits for a client's request; its task is also where the library's reader lives."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = _Watched(stream, self._settle)
        self._settled = trio.Event()
        self.request: trio_websocket.WebSocketRequest | None = None

    def _settle(self) -> None:
        self._settled.set()

    async def run(self) -> None:
        """Read until the connection ends; cancelled, it stops reading.  It never raises `Exception`."""
        try:
            async with trio.open_nursery() as nursery:
                self.request = await trio_websocket.wrap_server_stream(
                    nursery,
                    self._stream,
                    # The reader hands each message over, so a client that is not listened to has to wait.
                    message_queue_size=0,
                    max_message_size=MAX_MESSAGE,
                    receive_buffer_size=_RECEIVE_SIZE,
                )
                self._settle()
        except* Exception as errors:  # noqa: BLE001 - foreign code, fed by strangers: it ends this connection only
            # Their words may quote what the client sent.
            _log.debug("a WebSocket reader ended: %s", ", ".join(type(each).__name__ for each in errors.exceptions))
        finally:
            self._settle()

    async def wait_request(self) -> trio_websocket.WebSocketRequest | None:
        """Wait until there is a request, or there can be none any more; cancelled, nothing happened."""
        await self._settled.wait()
        return self.request


@attrs.frozen(kw_only=True)
class Doorkeeper:
    """Decides who may connect, and gives each client an agent of its own.

    Attributes:
        dial: Starts an agent.
        allowed_origins: Web pages that may connect.  Programs send no Origin.
        token: What clients need to know, if anything.
        tls: For clients that have to speak TLS.
        max_clients: Who is still in the handshake counts as well.
        handshake_seconds: For a client to have said what it wants, TLS included.
        stall: Seconds that a client or an agent may leave a message unread.
    """

    dial: Dial
    allowed_origins: frozenset[str] = frozenset()
    token: BearerToken | None = None
    tls: ssl.SSLContext | None = None
    max_clients: int = MAX_CLIENTS
    handshake_seconds: float = HANDSHAKE_SECONDS
    stall: float = STALL
    _lobby: Lobby = attrs.field(
        init=False, default=attrs.Factory(lambda self: Lobby(self.max_clients), takes_self=True)
    )

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one client to its end and close its stream; never raises `Exception`.

        If cancelled, client and agent are ended within their deadlines.
        """
        arrival = trio.CancelScope()
        has_place = self._lobby.enter(arrival, trio.current_time())
        arrival.deadline = trio.current_time() + (self.handshake_seconds if has_place else _TURN_AWAY_SECONDS)
        try:
            async with ServiceScope("client") as readers:
                bridge = None
                with arrival:
                    bridge = await self._receive(stream, readers, arrival)
                if bridge is not None:
                    await bridge.run()
        except Exception:  # noqa: BLE001 - whatever goes wrong for one client, the others are served
            _log.exception("serving a client failed")
        finally:
            with shielded(_FORCE_SECONDS):
                await trio.aclose_forcefully(stream)
            self._lobby.leave(arrival)

    async def _receive(
        self, stream: trio.abc.Stream, readers: trio.Nursery, arrival: trio.CancelScope
    ) -> Bridge | None:
        who = _peer(stream)
        if self.tls is not None:
            secured = await accept_tls(stream, self.tls)
            if secured is None:
                return None
            stream = secured
        reception = _Reception(stream)
        readers.start_soon(reception.run)
        request = await reception.wait_request()
        if request is None:
            return None
        refusal = self._refusal(request)
        if refusal is None and not self._lobby.admit(arrival):
            refusal = 503, "There are too many clients; try again later.\n"
        try:
            if refusal is not None:
                _log.info("refused %s with HTTP status %d", who, refusal[0])
                await _refuse(request, *refusal)
                return None
            bridge = await self._accept(request)
            _log.info("connection %s is from %s", bridge.name, who)
            return bridge
        except (trio_websocket.ConnectionClosed, LocalProtocolError) as error:
            _log.info("%s left during the handshake: %s", who, type(error).__name__)
            return None

    async def _accept(self, request: trio_websocket.WebSocketRequest) -> Bridge:
        name = str(uuid.uuid4())
        connection = await request.accept(
            subprotocol=choose_subprotocol(request.proposed_subprotocols),
            extra_headers=[(b"Acp-Connection-Id", name.encode())],
        )
        client = websocket_server_transport(connection, max_message=MAX_MESSAGE)
        return Bridge(name, connection, client, self.dial, self.stall)

    def _refusal(self, request: trio_websocket.WebSocketRequest) -> tuple[int, str] | None:
        for name, value in request.headers:
            if name.lower() == b"origin" and value.decode("latin-1").lower() not in self.allowed_origins:
                return 403, "This origin is not allowed.\n"
        if self.token is not None and not self.token.admits(request.headers, request.proposed_subprotocols):
            return 401, "A bearer token is needed, and the right one.\n"
        if request.path.partition("?")[0] != PATH:
            return 404, f"There is only {PATH} here.\n"
        return None


async def _refuse(request: trio_websocket.WebSocketRequest, status: int, words: str) -> None:
    headers = [(b"Content-Type", b"text/plain"), (b"Connection", b"close")]
    if status == 401:
        headers.append((b"WWW-Authenticate", b'Bearer realm="acp"'))
    if status == 503:
        headers.append((b"Retry-After", b"5"))
    await request.reject(status, extra_headers=headers, body=words.encode())


def _peer(stream: trio.abc.Stream) -> str:
    """Return the client's address, for the log."""
    try:
        return str(stream.socket.getpeername()[0]) if isinstance(stream, trio.SocketStream) else "a client"
    except OSError:  # it has gone already
        return "a client"
