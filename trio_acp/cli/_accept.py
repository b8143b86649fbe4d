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
from ._bridge import STALL, Bridge

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..abc import Dial

_log = logging.getLogger(__name__)

PATH: Final = "/acp"
HANDSHAKE_SECONDS: Final = 10.0
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
            _log.debug("a WebSocket reader ended: %r", errors.exceptions)
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
        handshake_seconds: For a client to have said what it wants.
        stall: Seconds that a client or an agent may leave a message unread.
    """

    dial: Dial
    allowed_origins: frozenset[str] = frozenset()
    handshake_seconds: float = HANDSHAKE_SECONDS
    stall: float = STALL

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one client to its end and close its stream; never raises `Exception`.

        If cancelled, client and agent are ended within their deadlines.
        """
        try:
            async with ServiceScope("client") as readers:
                reception = _Reception(stream)
                readers.start_soon(reception.run)
                bridge = None
                with trio.move_on_after(self.handshake_seconds):
                    bridge = await self._let_in(reception)
                if bridge is not None:
                    await bridge.run()
        except Exception:  # noqa: BLE001 - whatever goes wrong for one client, the others are served
            _log.exception("serving a client failed")
        finally:
            with shielded(_FORCE_SECONDS):
                await trio.aclose_forcefully(stream)

    async def _let_in(self, reception: _Reception) -> Bridge | None:
        request = await reception.wait_request()
        if request is None:
            return None
        refusal = self._refusal(request)
        try:
            if refusal is not None:
                status, words = refusal
                headers = [(b"Content-Type", b"text/plain"), (b"Connection", b"close")]
                await request.reject(status, extra_headers=headers, body=words.encode())
                return None
            name = str(uuid.uuid4())
            offered = request.proposed_subprotocols
            connection = await request.accept(
                subprotocol=offered[0] if offered else None,
                extra_headers=[(b"Acp-Connection-Id", name.encode())],
            )
        except (trio_websocket.ConnectionClosed, LocalProtocolError) as error:
            _log.info("a client left during the handshake: %r", error)
            return None
        client = websocket_server_transport(connection, max_message=MAX_MESSAGE)
        return Bridge(name, connection, client, self.dial, self.stall)

    def _refusal(self, request: trio_websocket.WebSocketRequest) -> tuple[int, str] | None:
        for name, value in request.headers:
            if name.lower() == b"origin" and value.decode("latin-1").lower() not in self.allowed_origins:
                return 403, "This origin is not allowed.\n"
        if request.path.partition("?")[0] != PATH:
            return 404, f"There is only {PATH} here.\n"
        return None
