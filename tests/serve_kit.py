"""What the tests of ``trio-acp serve`` beyond loopback share: raw requests, tokens, certificates."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio
import trustme

from trio_acp._errors import BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from trio_acp.abc import Transport

TOKEN = "3c9b17e4f0a8d2566b71c0f95e83ad42"
UPGRADE = [
    ("Host", "x"),
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
]


def no_agent() -> AbstractAsyncContextManager[Transport]:
    """Start nothing: whoever is let in is told so, and hung up on."""
    raise BackendUnavailable("there is no agent")


def request_head(*headers: tuple[str, str], path: str = "/acp") -> bytes:
    """Return the request of a WebSocket client, with these headers added."""
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in [*UPGRADE, *headers]), "", ""]
    return "\r\n".join(lines).encode("latin-1")


async def read_head(stream: trio.abc.Stream) -> bytes:
    """Read an answer up to the end of its head, or to the end of the stream."""
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            more = await stream.receive_some()
        except trio.BrokenResourceError:
            break
        if not more:
            break
        data += more
    return data


def status(head: bytes) -> int:
    """Return the status of an answer; 0 if there was none."""
    return int(head.split(b" ")[1]) if head else 0


def port_of(url: str) -> int:
    """Return the port of a server's URL."""
    return int(url.rpartition(":")[2].partition("/")[0])


async def answer_to(url: str, *headers: tuple[str, str], path: str = "/acp") -> bytes:
    """Send a request over TCP; return the head of the answer."""
    with trio.fail_after(20):
        async with await trio.open_tcp_stream("127.0.0.1", port_of(url)) as stream:
            await stream.send_all(request_head(*headers, path=path))
            return await read_head(stream)


def token_file(directory: Path, token: str = TOKEN) -> Path:
    """Write a token as an operator should."""
    path = directory / "token"
    path.touch(0o600)
    path.write_text(f"{token}\n")
    return path


@attrs.frozen
class Certificates:
    """A private authority, and the files of a server that it vouches for."""

    authority: trustme.CA
    ca: Path
    cert: Path
    key: Path

    def client(self) -> ssl.SSLContext:
        """Return a client's context that trusts it."""
        return ssl.create_default_context(cafile=self.ca)


def make_certificates(directory: Path, names: Sequence[str] = ("localhost", "127.0.0.1", "::1")) -> Certificates:
    """Make them in a directory."""
    authority = trustme.CA()
    made = authority.issue_cert(*names)
    certificates = Certificates(authority, directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
    authority.cert_pem.write_to_path(certificates.ca)
    made.cert_chain_pems[0].write_to_path(certificates.cert)
    certificates.key.touch(0o600)
    made.private_key_pem.write_to_path(certificates.key)
    return certificates


@asynccontextmanager
async def tls_stream(url: str, context: ssl.SSLContext) -> AsyncIterator[trio.SSLStream[trio.SocketStream]]:
    """Connect to a server with TLS, not yet with a WebSocket."""
    tcp = await trio.open_tcp_stream("127.0.0.1", port_of(url))
    stream = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
    try:
        await stream.do_handshake()
        yield stream
    finally:
        await trio.aclose_forcefully(stream)
