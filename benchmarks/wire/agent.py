"""A scripted agent behind a WebSocket that costs its client as little waiting as can be.

``python -m benchmarks.wire.agent [CERTIFICATE KEY]`` prints its ports as JSON, and serves until its standard
input ends.  A prompt says how many updates of how many characters it wants: ``10 64``.  They were all made
before: only the session's id is put in, and one write sends them with the answer.  It speaks just enough
WebSocket for a client that behaves; only the standard library is used.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import json
import ssl
import sys
from typing import Final

_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SOMEONE: Final = b"s00000000"
"""The session in the updates as they were made; all ids are as long."""

_AT_ONCE: Final = 10_000
"""Updates in one piece; a prompt that wants more gets them piece by piece, as its client takes them."""


def frame(payload: bytes, kind: int = 1) -> bytes:
    """Return a whole message in one frame, as a server sends it."""
    length = len(payload)
    if length < 126:
        return bytes([0x80 | kind, length]) + payload
    if length < 65536:
        return bytes([0x80 | kind, 126]) + length.to_bytes(2, "big") + payload
    return bytes([0x80 | kind, 127]) + length.to_bytes(8, "big") + payload


@functools.cache
def updates(count: int, size: int) -> bytes:
    """Return the frames of some updates of nobody's session."""
    text = {"type": "text", "text": "x" * size}
    update = {"sessionUpdate": "agent_message_chunk", "content": text}
    params = {"sessionId": _SOMEONE.decode(), "update": update}
    message = {"jsonrpc": "2.0", "method": "session/update", "params": params}
    return frame(json.dumps(message, separators=(",", ":")).encode()) * count


def answer(request: object, result: str) -> bytes:
    """Return the frame of an answer."""
    return frame(b'{"jsonrpc":"2.0","id":%s,"result":%s}' % (json.dumps(request).encode(), result.encode()))


class Agent(asyncio.Protocol):
    """One connection."""

    sessions = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = bytearray()
        self._open = False
        self._room = asyncio.Event()
        self._room.set()
        self._pouring: set[asyncio.Task[None]] = set()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        for task in self._pouring:
            task.cancel()

    def pause_writing(self) -> None:
        """Wait: the client does not take any more."""
        self._room.clear()

    def resume_writing(self) -> None:
        """Go on."""
        self._room.set()

    def data_received(self, data: bytes) -> None:
        """Answer every message that is whole."""
        self._received += data
        if not self._open:
            self._shake_hands()
        while self._open and (message := self._next()) is not None:
            self._handle(json.loads(message))

    def _shake_hands(self) -> None:
        head, found, rest = bytes(self._received).partition(b"\r\n\r\n")
        if not found:
            return
        lines = [line.partition(b":") for line in head.split(b"\r\n")]
        (key,) = (value.strip() for name, _, value in lines if name.lower() == b"sec-websocket-key")
        accept = base64.b64encode(hashlib.sha1(key + _MAGIC, usedforsecurity=False).digest())
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self._received[:] = rest
        self._open = True

    def _next(self) -> bytes | None:
        """Return the payload of the next text frame, if it has come; answer a close with a close."""
        data = self._received
        if len(data) < 6:
            return None
        kind, length, start = data[0] & 15, data[1] & 127, 2
        if length == 126:
            length, start = int.from_bytes(data[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(data[2:10], "big"), 10
        end = start + 4 + length
        if len(data) < end:
            return None
        masked = int.from_bytes(data[start + 4 : end], "big")
        mask = (bytes(data[start : start + 4]) * (length // 4 + 1))[:length]
        payload = (masked ^ int.from_bytes(mask, "big")).to_bytes(length, "big")
        del data[:end]
        if kind == 8:
            self._transport.write(frame(payload, 8))
            self._transport.close()
            self._open = False
            return None
        return payload if kind == 1 else b"{}"

    def _handle(self, message: dict[str, object]) -> None:
        match message:
            case {"id": request, "method": "session/prompt", "params": {"sessionId": str(session), "prompt": prompt}}:
                assert isinstance(prompt, list)
                count, size = map(int, prompt[0]["text"].split())
                self._prompted(session.encode(), count, size, answer(request, '{"stopReason":"end_turn"}'))
            case {"id": request, "method": "session/new"}:
                Agent.sessions += 1
                self._transport.write(answer(request, f'{{"sessionId":"s{Agent.sessions:08d}"}}'))
            case {"id": request, "method": "initialize"}:
                result = '{"protocolVersion":1,"agentCapabilities":{},"authMethods":[]}'
                self._transport.write(answer(request, result))
            case {"id": request, "method": _}:
                self._transport.write(answer(request, "{}"))

    def _prompted(self, session: bytes, count: int, size: int, done: bytes) -> None:
        if count <= _AT_ONCE:
            self._transport.write(updates(count, size).replace(_SOMEONE, session) + done)
            return
        task = asyncio.get_running_loop().create_task(self._pour(session, count, size, done))
        self._pouring.add(task)
        task.add_done_callback(self._pouring.discard)

    async def _pour(self, session: bytes, count: int, size: int, done: bytes) -> None:
        piece = updates(_AT_ONCE // 100, size).replace(_SOMEONE, session)
        for _ in range(count // (_AT_ONCE // 100)):
            await self._room.wait()
            self._transport.write(piece)
        self._transport.write(done)


async def serve(certificate: list[str]) -> None:
    """Serve until the standard input ends."""
    loop = asyncio.get_running_loop()
    contexts: dict[str, ssl.SSLContext | None] = {"ws": None}
    if certificate:
        secure = contexts["wss"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        secure.load_cert_chain(*certificate)
    ports = {}
    for scheme, context in contexts.items():
        server = await loop.create_server(Agent, "127.0.0.1", 0, ssl=context, backlog=1000)
        ports[scheme] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
