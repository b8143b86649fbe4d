"""The WebSocket transport: opening under deadlines, what is sent and kept, and every way a connection can end."""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
import trio_websocket
import trustme

from trio_acp._errors import BackendUnavailable, ConnectionLost, InvalidOption, MessageTooLarge
from trio_acp.acp.runtime import AcpRuntime
from trio_acp.transports import (
    Cookies,
    WebSocketTransport,
    _engines,
    websocket_server_transport,
)
from trio_acp.transports import dial_websocket as dial_with_engine
from trio_acp.transports import websocket_over_stream as open_with_engine
from trio_acp.transports._engines import ENGINES
from trio_acp.transports._handshake import WatchedStream
from trio_acp.transports.websocket import _explain

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from trio_acp.abc import Dial, Transport

pytestmark = pytest.mark.concurrency

SECONDS = 20.0
LIMIT = 64 * 2**20
UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"

chosen: dict[str, Any] = {}


@pytest.fixture(name="engine", params=ENGINES, autouse=True)
def _engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run each test of this file with each engine."""
    monkeypatch.setitem(chosen, "engine", request.param)
    return str(request.param)


def dial_websocket(url: str, **options: Any) -> Dial:
    """Do what the real one does, with the engine of this test."""
    return dial_with_engine(url, **{**chosen, **options})


def websocket_over_stream(
    stream: trio.abc.Stream, host: str, resource: str, **options: Any
) -> AbstractAsyncContextManager[WebSocketTransport]:
    """Do what the real one does, with the engine of this test."""
    return open_with_engine(stream, host, resource, **{**chosen, **options})


StreamHandler = Callable[[trio.abc.Stream], Awaitable[None]]
Handler = Callable[[trio_websocket.WebSocketRequest], Awaitable[None]]


def open_descriptors() -> int:
    """Count this process's descriptors."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only


@asynccontextmanager
async def listening(handler: StreamHandler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve TCP, or TLS, on a loopback port for as long as the block lasts, under a real deadline."""
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            if context is None:
                plain: list[trio.SocketListener] = await nursery.start(
                    partial(trio.serve_tcp, handler, 0, host="localhost")
                )
                port = plain[0].socket.getsockname()[1]
            else:
                secure: list[trio.SSLListener[trio.SocketStream]] = await nursery.start(
                    partial(trio.serve_ssl_over_tcp, handler, 0, context, host="localhost", https_compatible=True)
                )
                listener = secure[0].transport_listener
                assert isinstance(listener, trio.SocketListener)
                port = listener.socket.getsockname()[1]
            yield port
            nursery.cancel_scope.cancel(reason="the test is over")


def accepting(handler: Handler, limit: int = LIMIT) -> StreamHandler:
    """Turn a handler of WebSocket requests into one of streams."""

    async def handle(stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            await handler(await trio_websocket.wrap_server_stream(nursery, stream, max_message_size=limit))
            nursery.cancel_scope.cancel(reason="the handler has ended")

    return handle


def answering(answer: bytes, requests: list[bytes] | None = None, *, stall: bool = False) -> StreamHandler:
    """Make a server that reads one request and answers these bytes, then hangs up or stalls."""

    async def handle(stream: trio.abc.Stream) -> None:
        request = bytearray()
        while b"\r\n\r\n" not in request:
            data = await stream.receive_some()
            if not data:
                return
            request += data
        if requests is not None:
            requests.append(bytes(request))
        await stream.send_all(answer)
        if stall:
            await trio.sleep_forever()

    return handle


async def receive_all(transport: Transport, received: list[str | bytes]) -> None:
    """Receive until the connection is lost, which raises."""
    while True:
        received.append(await transport.receive())


async def accept_and_idle(request: trio_websocket.WebSocketRequest) -> None:
    """Accept, and wait until the client has closed."""
    transport = websocket_server_transport(await request.accept())
    with pytest.raises(ConnectionLost):
        await transport.receive()


@asynccontextmanager
async def connected(
    *, silent: bool = False, limit: int = LIMIT, max_message: int = LIMIT, ping_interval: float | None = None
) -> AsyncIterator[tuple[WebSocketTransport, WebSocketTransport, trio.abc.Stream]]:
    """Connect client and server over memory streams; a silent server reads nothing once it has accepted."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        server: list[WebSocketTransport] = []
        reader = trio.CancelScope()

        async def serve(task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            with reader:
                async with trio.open_nursery() as inner:
                    request = await trio_websocket.wrap_server_stream(inner, theirs, max_message_size=limit)
                    server.append(websocket_server_transport(await request.accept(), stream=theirs, max_message=limit))

        await nursery.start(serve)
        async with websocket_over_stream(
            ours, "test", "/acp?token=secret", max_message=max_message, ping_interval=ping_interval
        ) as transport:
            await trio.testing.wait_all_tasks_blocked()
            if silent:
                reader.cancel(reason="silent")
                await trio.testing.wait_all_tasks_blocked()
            yield transport, server[0], theirs
        reader.cancel(reason="the test is over")


async def fails(dial: Dial) -> BackendUnavailable:
    """Dial, which must fail, and return the error."""
    with pytest.raises(BackendUnavailable) as caught:
        async with dial():
            pass
    return caught.value


# -- opening --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "detail", "status"),
    [
        (UNAUTHORIZED, "handshake-rejected", 401),
        (b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\nno length", "handshake-rejected", 404),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "handshake-rejected", 200),
        (b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n" + b"x" * 100_000, "handshake-rejected", 503),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "handshake-failed", None),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "handshake-failed", None),
        (b"x" * 5000, "handshake-failed", None),
        (b"", "handshake-failed", None),
    ],
)
async def test_a_handshake_that_is_not_accepted(answer: bytes, detail: str, status: int | None) -> None:
    """Each answer that opens nothing is one typed error with the HTTP status if there was one."""
    async with listening(answering(answer)) as port:
        error = await fails(dial_websocket(f"ws://localhost:{port}/acp?token=secret"))
    assert (detail, status) == (error.detail, error.status)
    assert f"ws://localhost:{port}/acp" in str(error)
    assert "secret" not in str(error)


async def test_rejected_handshakes_leave_no_descriptor() -> None:
    """After 50 rejected handshakes as many descriptors are open as before."""
    async with listening(answering(UNAUTHORIZED)) as port:
        dial = dial_websocket(f"ws://localhost:{port}/acp")
        await fails(dial)
        await trio.testing.wait_all_tasks_blocked(0.01)
        before = open_descriptors()
        for _ in range(50):
            assert (await fails(dial)).status == 401
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert before == open_descriptors()


async def test_stalled_handshakes_end_and_leave_no_descriptor() -> None:
    """20 handshakes that nobody answers end at their deadline, and leave no descriptor."""
    errors: list[BackendUnavailable] = []

    async def dial_one(port: int) -> None:
        errors.append(await fails(dial_websocket(f"ws://localhost:{port}/acp", connect_timeout=0.3)))

    async with listening(answering(b"", stall=True)) as port:
        before, began = open_descriptors(), trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(dial_one, port)
        took = trio.current_time() - began
    assert [error.detail for error in errors] == ["connect-timeout"] * 20
    assert 0.3 <= took < 5
    assert before >= open_descriptors()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Sw"])
async def test_a_stalled_handshake_ends_exactly_at_its_deadline(
    autojump_clock: trio.testing.MockClock, answer: bytes
) -> None:
    """The deadline of a handshake is kept to the second, and the stream is closed."""
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(answer)
    error = await fails(partial(websocket_over_stream, ours, "test", "/acp", connect_timeout=7.0))
    assert (error.detail, trio.current_time()) == ("connect-timeout", 7.0)
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")


async def test_a_stream_that_takes_no_request_is_noticed_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """A handshake whose request cannot be sent fails then, not at its deadline."""
    ours, theirs = trio.testing.memory_stream_pair()
    theirs.receive_stream.close()  # what it sends stays open, so nothing is received either
    error = await fails(partial(websocket_over_stream, ours, "test", "/acp"))
    assert (error.detail, trio.current_time()) == ("handshake-failed", 0.0)


async def test_a_rejection_whose_body_stalls(autojump_clock: trio.testing.MockClock, engine: str) -> None:
    """The status is reported although the rest of the rejection never comes; one engine does not wait for it."""
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\n")
    error = await fails(partial(websocket_over_stream, ours, "test", "/acp"))
    waited = 0.0 if engine == "websockets" else 10.0
    assert (error.detail, error.status, trio.current_time()) == ("handshake-rejected", 403, waited)


async def test_cancelled_while_opening() -> None:
    """A dial that is cancelled raises nothing of its own and closes its socket."""
    async with listening(answering(b"", stall=True)) as port:
        before = open_descriptors()
        with trio.move_on_after(0.1) as scope:
            async with dial_websocket(f"ws://localhost:{port}/acp")():
                pass
        assert scope.cancelled_caught
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert before >= open_descriptors() - 1  # the server's end may stay


async def test_nobody_listens() -> None:
    """A refused connection says so."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        error = await fails(dial_websocket(f"ws://127.0.0.1:{reserved.getsockname()[1]}/acp"))
    assert error.detail == "connection-refused"
    assert str(error).endswith("/acp: cannot connect: Connection refused")
    assert "refused" in str(error)
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert (None, None) == (error.__cause__.__traceback__, error.__cause__.__cause__)


def test_reasons_that_differ_are_not_chained() -> None:
    """A group of errors would print a screen above the one line that has all their words; equal ones count as one."""
    refused = [ConnectionRefusedError(errno.ECONNREFUSED, address) for address in ("one", "two")]
    failed = OSError("all attempts failed")
    failed.__cause__ = ExceptionGroup("", refused)
    assert (True, "Connection refused", refused[0]) == _explain(failed)
    failed.__cause__ = ExceptionGroup("", [*refused, OSError(errno.ENETUNREACH, "three")])
    assert (False, "Connection refused, Network is unreachable", None) == _explain(failed)


async def test_a_name_that_does_not_resolve() -> None:
    """A host name without an address says so."""
    with trio.fail_after(SECONDS):
        error = await fails(dial_websocket("ws://no-such-host.invalid/acp"))
        label_too_long = await fails(dial_websocket(f"ws://{'x' * 70}.invalid/acp"))
    assert [error.detail, label_too_long.detail] == ["dns", "dns"]


async def test_a_connect_that_never_ends(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """The deadline covers TCP too."""

    async def never(host: str, port: int) -> trio.SocketStream:
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "open_tcp_stream", never)
    error = await fails(dial_websocket("ws://test/acp", connect_timeout=3))
    assert (error.detail, trio.current_time()) == ("connect-timeout", 3.0)


async def test_an_unreachable_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other failures to connect carry the system's words."""

    async def unreachable(host: str, port: int) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(trio, "open_tcp_stream", unreachable)
    error = await fails(dial_websocket("ws://test/acp"))
    assert error.detail == "connect-failed"
    assert "Network is unreachable" in str(error)


async def test_the_bodys_exception_comes_out_bare() -> None:
    """What the body raises leaves the block as the same object, not in a group."""
    mine = LookupError("mine")
    async with listening(accepting(accept_and_idle)) as port:
        with pytest.raises(LookupError) as caught:
            async with dial_websocket(f"ws://localhost:{port}/acp")():
                raise mine
    assert mine is caught.value


async def test_the_bodys_too_slow_error_is_its_own() -> None:
    """A time-out in the body is not mistaken for one of connecting."""
    async with listening(accepting(accept_and_idle)) as port:
        mine = trio.TooSlowError("mine")
        with pytest.raises(trio.TooSlowError) as caught:
            async with dial_websocket(f"ws://localhost:{port}/acp")():
                raise mine
    assert mine is caught.value


async def test_tls() -> None:
    """``wss://`` works with a trusted certificate, and an untrusted or missing one is a typed error."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)

    async def greet(request: trio_websocket.WebSocketRequest) -> None:
        transport = websocket_server_transport(await request.accept())
        await transport.send("hello")
        with pytest.raises(ConnectionLost):
            await transport.receive()

    async def accept_tls(stream: trio.abc.Stream) -> None:
        try:
            await accepting(greet)(stream)
        except* trio.BrokenResourceError:
            pass  # the client did not trust us

    async with (
        listening(accept_tls, server) as port,
        dial_websocket(f"wss://localhost:{port}/acp", ssl_context=client)() as transport,
    ):
        assert await transport.receive() == "hello"
    async with listening(answering(b"not TLS")) as port:
        error = await fails(dial_websocket(f"wss://localhost:{port}/acp", connect_timeout=0.5))
    assert error.detail in ("tls", "connect-timeout")

    async def refuse(stream: trio.abc.Stream) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()

    async with listening(refuse, server) as port:
        error = await fails(dial_websocket(f"wss://localhost:{port}/acp"))
    assert error.detail == "tls"
    assert "certificate" in str(error)
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)


async def test_the_reader_dies_of_a_fault() -> None:
    """Whatever the library's reader dies of ends the connection, not the program."""

    async def explode() -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    ours, theirs = trio.testing.memory_stream_pair()
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accepting(accept_and_idle), theirs)
            async with websocket_over_stream(ours, "test", "/acp") as transport:
                await trio.testing.wait_all_tasks_blocked()
                ours.receive_stream.receive_some_hook = explode
                await theirs.send_all(b"\x89\x00")  # a ping: it wakes the reader, which then reads on
                with pytest.raises(ConnectionLost):
                    await transport.receive()


# -- what is sent and kept ------------------------------------------------------


async def test_request_headers_and_connection_id() -> None:
    """Headers, path and query are sent; the connection's id is taken from the answer, or None."""
    seen: list[tuple[str, dict[bytes, bytes]]] = []

    async def handle(request: trio_websocket.WebSocketRequest) -> None:
        seen.append((request.path, dict(request.headers)))
        ids = [(b"Acp-Connection-Id", b"c-1")] if len(seen) == 1 else []
        transport = websocket_server_transport(await request.accept(extra_headers=ids))
        with pytest.raises(ConnectionLost):
            await transport.receive()

    async with listening(accepting(handle)) as port:
        dial = dial_websocket(f"ws://localhost:{port}/acp?a=b", headers=[("X-Team", "blue")])
        found = []
        for _ in range(2):
            async with dial() as transport:
                assert isinstance(transport, WebSocketTransport)
                found.append(transport.connection_id)
    assert found == ["c-1", None]
    assert seen[0][0] == "/acp?a=b"
    assert seen[0][1][b"x-team"] == b"blue"


async def test_cookies_come_back_and_are_deleted() -> None:
    """A cookie set by the handshake is sent on the next dial of the same URL, until the server deletes it."""
    answers = [[b"a=1; Path=/; HttpOnly", b"b=2; Max-Age=3600"], [b"a=; Max-Age=0"], []]
    seen: list[bytes | None] = []

    async def handle(request: trio_websocket.WebSocketRequest) -> None:
        seen.append(dict(request.headers).get(b"cookie"))
        set_cookie = [(b"Set-Cookie", value) for value in answers[len(seen) - 1]]
        transport = websocket_server_transport(await request.accept(extra_headers=set_cookie))
        with pytest.raises(ConnectionLost):
            await transport.receive()

    async with listening(accepting(handle)) as port:
        dial = dial_websocket(f"ws://localhost:{port}/acp", headers=[("Cookie", "own=0")])
        for _ in range(3):
            async with dial():
                pass
    assert seen == [b"own=0", b"own=0; a=1; b=2", b"own=0; b=2"]


def test_the_cookie_rules() -> None:
    """Cookies expire, stay with their address, are bounded, and are not shown."""
    now = 1_000_000_000.0
    cookies = Cookies(lambda: now)
    url = "ws://a/acp"
    cookies.store(url, ["x=1; Expires=Sun, 09 Sep 2001 01:46:50 GMT", "y=2; Expires=Sun, 09 Sep 2001 01:46:30 GMT"])
    cookies.store(url, ["z=3; Max-Age=5; Expires=Sun, 09 Sep 2001 01:46:30 GMT", "w=4; Max-Age=?", "v=5; Expires=?"])
    cookies.store(url, ["nothing", "=6", "long=" + "x" * 5000])
    assert cookies.header(url) == "x=1; z=3; w=4; v=5"
    now += 6
    assert cookies.header(url) == "x=1; w=4; v=5"
    assert None is cookies.header("ws://a/other")
    cookies.store("ws://b/", [f"c{n}=1" for n in range(100)])
    assert len((cookies.header("ws://b/") or "").split("; ")) == 50
    assert "x" not in repr(cookies).removeprefix("<Cookies")


async def test_the_token_is_read_at_each_dial_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A token from a file or the environment is sent as bearer, anew for each dial; no repr, error or log has it."""
    caplog.set_level(logging.DEBUG)
    requests: list[bytes] = []
    file = tmp_path / "token"
    shown = []
    async with listening(answering(UNAUTHORIZED, requests)) as port:
        url = f"ws://localhost:{port}/acp?token=s3cret-query"
        dial = dial_websocket(url, token_file=file)
        for token in ("s3cret-1", "s3cret-2"):
            file.write_text(f"{token}\n")
            shown.append(repr(await fails(dial)))
        monkeypatch.setenv("ACP_TOKEN", "s3cret-3")
        other = dial_websocket(url, token_env="ACP_TOKEN")
        shown.append(repr(await fails(other)))
    bearers = [line for request in requests for line in request.split(b"\r\n") if line.lower().startswith(b"authori")]
    assert [line.split(b": ")[1] for line in bearers] == [b"Bearer s3cret-1", b"Bearer s3cret-2", b"Bearer s3cret-3"]
    assert "s3cret" not in "".join([*shown, repr(dial), repr(other), caplog.text])


@pytest.mark.parametrize("content", [None, "", "two words", "\u00fc"])
async def test_a_bad_token(tmp_path: Path, content: str | None) -> None:
    """A token that is missing or malformed is named by its place, never by its text."""
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidOption, match=r"token.*file") as caught:
        async with dial_websocket("ws://localhost:1/acp", token_file=file)():
            pass
    assert caught.value.detail == "invalid-token"
    assert not content or content not in str(caught.value)


async def test_a_missing_token_variable() -> None:
    """An environment variable that is not set is named."""
    with pytest.raises(InvalidOption, match="NO_SUCH_VARIABLE"):
        async with dial_websocket("ws://localhost:1/acp", token_env="NO_SUCH_VARIABLE")():
            pass


@pytest.mark.parametrize(
    ("url", "options", "detail"),
    [
        ("http://localhost/acp", {}, "invalid-url"),
        ("localhost", {}, "invalid-url"),
        ("ws:///acp", {}, "invalid-url"),
        ("ws://a:99999/", {}, "invalid-url"),
        ("ws://[::1/", {}, "invalid-url"),
        ("ws://a/#x", {}, "invalid-url"),
        ("ws://a/ü", {}, "invalid-url"),
        ("ws://a/\r\nX: y", {}, "invalid-url"),
        ("ws://s3cret:s3cret@a/", {}, "invalid-url"),
        ("ws://localhost/", {"ping_interval": 19.9}, "invalid-ping_interval"),
        ("ws://localhost/", {"ping_interval": float("nan")}, "invalid-ping_interval"),
        ("ws://localhost/", {"connect_timeout": 0}, "invalid-connect_timeout"),
        ("ws://localhost/", {"close_timeout": float("inf")}, "invalid-close_timeout"),
        ("ws://localhost/", {"max_message": 0}, "invalid-max_message"),
        ("ws://localhost/", {"headers": [("a b", "c")]}, "invalid-header"),
        ("ws://localhost/", {"headers": [("a", "s3cret\r\nX: y")]}, "invalid-header"),
        ("ws://localhost/", {"token_env": "A", "token_file": "b"}, "invalid-token"),
        ("ws://localhost/", {"token_env": "A", "headers": [("authorization", "s3cret")]}, "invalid-token"),
        ("ws://example.com/?s3cret", {"token_env": "A"}, "insecure-token"),
        ("ws://10.0.0.1/", {"headers": [("Authorization", "s3cret")]}, "insecure-token"),
    ],
)
def test_bad_options_are_refused_at_once(url: str, options: dict[str, Any], detail: str) -> None:
    """An impossible option raises when the dial is made, says which, and shows no secret."""
    with pytest.raises(InvalidOption) as caught:
        dial_websocket(url, **options)
    assert detail == caught.value.detail
    assert "s3cret" not in str(caught.value)


def test_an_engine_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """No such engine, or no such library: refused as the dial is made, and what to install is said."""
    with pytest.raises(InvalidOption, match="trio-websocket or websockets, not 'curl'") as unknown:
        dial_websocket("ws://localhost/", engine="curl")
    monkeypatch.setattr(_engines, "find_spec", lambda name: None)
    with pytest.raises(InvalidOption, match=r"pip install 'trio-acp\[fast\]'") as missing:
        AcpRuntime.websocket("ws://localhost/", engine="websockets")
    assert ("invalid-engine", "missing-extra") == (unknown.value.detail, missing.value.detail)
    AcpRuntime.websocket("ws://localhost/")


@pytest.mark.parametrize(
    ("url", "allow_insecure"),
    [
        ("ws://localhost/", False),
        ("ws://127.1.2.3/", False),
        ("ws://[::1]:80/", False),
        ("wss://example.com", False),
        ("ws://example.com/", True),
    ],
)
def test_where_a_token_may_go(url: str, allow_insecure: bool) -> None:
    """A token may go to this machine, over TLS, or where the caller insists."""
    dial = dial_websocket(url, token_env="TOKEN", allow_insecure=allow_insecure)
    assert url.split("/")[2].removesuffix(":80") in repr(dial)


# -- how connections end --------------------------------------------------------


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope after so many steps of any task, counted from `start`."""

    def __init__(self, step: int | None) -> None:
        self.steps = 0
        self._step = step
        self._scope: trio.CancelScope | None = None

    def start(self, scope: trio.CancelScope) -> None:
        """Count from here."""
        self._scope = scope

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count, and cancel when it is time."""
        if self._scope is not None:
            self.steps += 1
            if self.steps == self._step:
                self._scope.cancel(reason="at this step")

    def stop(self) -> int:
        """Stop counting; return the count."""
        self._scope = None
        return self.steps


MESSAGE = "x" * 2**20


async def send_and_cancel(step: int | None) -> tuple[int, bool, list[str | bytes], bool]:
    """Send 1 MiB, cancelled at `step`; return steps, cancelled, what the peer got, and whether a later send fails."""
    instrument = CancelAtStep(step)
    ours, theirs = trio.testing.lockstep_stream_pair()
    received: list[str | bytes] = []

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            request = await trio_websocket.wrap_server_stream(
                nursery, theirs, max_message_size=LIMIT, receive_buffer_size=65536
            )
            transport = websocket_server_transport(await request.accept(), stream=theirs)
            with pytest.raises(ConnectionLost):
                await receive_all(transport, received)
            await transport.aclose()

    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            async with websocket_over_stream(ours, "test", "/acp") as transport:
                trio.lowlevel.add_instrument(instrument)
                with trio.CancelScope() as scope:
                    instrument.start(scope)
                    await transport.send(MESSAGE)
                steps = instrument.stop()
                trio.lowlevel.remove_instrument(instrument)
                try:
                    await transport.send("after")
                except ConnectionLost:
                    lost = True
                else:
                    lost = False
    return steps, scope.cancelled_caught, received, lost


def test_no_step_of_a_cancelled_send_corrupts_a_frame() -> None:
    """Wherever a send is cancelled, the peer gets whole messages only, and a broken connection says so."""
    steps, cancelled, received, lost = trio.run(send_and_cancel, None)
    assert (cancelled, received, lost) == (False, [MESSAGE, "after"], False)
    assert steps > 20
    torn = 0
    for step in range(1, steps + 1):
        _, cancelled, received, lost = trio.run(send_and_cancel, step)
        torn += cancelled
        if cancelled:
            assert lost, step
            assert received in ([], [MESSAGE]), step
        else:
            assert (received, lost) == ([MESSAGE, "after"], False), step
    assert torn > steps // 2


async def test_a_send_cancelled_before_it_starts_harms_nothing() -> None:
    """A send in a scope that is already cancelled sends nothing, and the connection goes on."""
    async with connected() as (client, server, _):
        with trio.CancelScope() as scope:
            scope.cancel(reason="before")
            await client.send("never")
        assert scope.cancelled_caught
        await client.send("sent")
        assert await server.receive() == "sent"


async def test_a_binary_message() -> None:
    """A binary frame is received as bytes."""
    async with listening(accepting(send_binary)) as port, dial_websocket(f"ws://localhost:{port}/")() as transport:
        assert await transport.receive() == b"\x00\xff"


async def send_binary(request: trio_websocket.WebSocketRequest) -> None:
    """Accept, send bytes, wait for the end."""
    connection = await request.accept()
    await connection.send_message(b"\x00\xff")
    with pytest.raises(trio_websocket.ConnectionClosed):
        await connection.get_message()


async def test_our_limit() -> None:
    """A message over the limit raises `MessageTooLarge` naming it, after what came before; then all is over."""
    async with connected(max_message=1000) as (client, server, _):
        await server.send("y" * 1000)
        await server.send("z" * 1001)
        assert await client.receive() == "y" * 1000
        with pytest.raises(MessageTooLarge, match="1000"):
            await client.receive()
        with pytest.raises(ConnectionLost, match="1000"):
            await client.receive()
        with pytest.raises(ConnectionLost, match="1000"):
            await client.send("{}")


@pytest.mark.parametrize("max_message", [1000, 5000])
async def test_the_peers_limit(max_message: int) -> None:
    """Close code 1009 from the peer is a lost connection with its words, also if the limits are the same."""
    async with connected(limit=1000, max_message=max_message) as (client, server, _):
        await client.send("x" * 1001)
        with pytest.raises(ConnectionLost, match=r"code 1009.*Exceeded maximum message size: 1000"):
            await client.receive()
        with pytest.raises(MessageTooLarge, match="1000"):
            await server.receive()


async def test_close_codes() -> None:
    """A close by the peer is told with its code and reason, and so is a later send."""

    async def handle(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept()
        await connection.aclose(1001, "going home")

    async with listening(accepting(handle)) as port, dial_websocket(f"ws://localhost:{port}/")() as transport:
        with pytest.raises(ConnectionLost, match=r"code 1001 \(GOING_AWAY\): going home"):
            await transport.receive()
        with pytest.raises(ConnectionLost, match="going home"):
            await transport.send("{}")


async def test_a_send_finds_the_connection_closed(engine: str) -> None:
    """A sender hears of the close although nobody received; what came before can still be received."""
    if engine == "websockets":
        pytest.skip("it reads only while somebody receives")
    async with connected() as (client, server, _):
        await server.send("last words")
        await client.receive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.aclose)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(ConnectionLost, match="code 1000"):
                await client.send("{}")
        with pytest.raises(ConnectionLost, match="code 1000"):
            await client.receive()


async def test_the_watched_stream_passes_everything_through() -> None:
    """Waiting for room is passed on like the rest."""
    ours, theirs = trio.testing.memory_stream_pair()
    watched = WatchedStream(ours)
    await watched.wait_send_all_might_not_block()
    await watched.send_all(b"x")
    assert await theirs.receive_some() == b"x"
    await watched.aclose()


async def test_a_reset() -> None:
    """A TCP reset is a lost connection without a close frame."""

    async def handle(stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SocketStream)
        async with trio.open_nursery() as nursery:
            request = await trio_websocket.wrap_server_stream(nursery, stream)
            await request.accept()
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await stream.aclose()

    async with listening(handle) as port, dial_websocket(f"ws://localhost:{port}/")() as transport:
        with pytest.raises(ConnectionLost, match="without a close frame"):
            await transport.receive()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x81\x02\xff\xff",  # text that is not UTF-8
        b"\xf1\x00",  # reserved bits
        b"\x8f\x00",  # no such opcode
        b"\x89\x7e\x00\xff" + b"x" * 255,  # a control frame that is too long
    ],
)
async def test_a_peer_that_breaks_the_protocol(garbage: bytes) -> None:
    """Frames that cannot be are a lost connection, for the receiver and for the next sender."""
    with trio.fail_after(SECONDS):
        async with connected() as (client, _, wire):
            await wire.send_all(garbage)
            with pytest.raises(ConnectionLost):
                await client.receive()
            with pytest.raises(ConnectionLost):
                await client.send("{}")


async def test_a_peer_that_does_not_answer_the_close_frame(autojump_clock: trio.testing.MockClock) -> None:
    """Closing takes the close timeout at most, and the stream is closed then."""
    async with connected(silent=True) as (client, _, wire):
        await client.aclose()
        assert trio.current_time() == 2.0
        while await wire.receive_some():
            pass


# -- cost -----------------------------------------------------------------------


async def test_a_message_costs_few_steps() -> None:
    """Receiving a message takes at most 3 steps of the scheduler, the reader's included."""
    counter = CancelAtStep(None)
    async with connected() as (client, server, _):
        for _ in range(100):
            await server.send("{}")
        trio.lowlevel.add_instrument(counter)
        counter.start(trio.CancelScope())
        for _ in range(100):
            await client.receive()
        steps = counter.stop()
        trio.lowlevel.remove_instrument(counter)
    assert steps <= 3 * 100 + 10


# -- ping -----------------------------------------------------------------------


async def receive_until_lost(transport: Transport, lost: list[tuple[float, str]]) -> None:
    """Receive until the connection is lost; note when and why."""
    with pytest.raises(ConnectionLost) as caught:
        await receive_all(transport, [])
    lost.append((trio.current_time(), str(caught.value)))


async def test_a_missing_pong_ends_a_connection_that_is_read(autojump_clock: trio.testing.MockClock) -> None:
    """The first ping goes out after one interval; a second one of silence is the end."""
    lost: list[tuple[float, str]] = []
    async with connected(silent=True, ping_interval=20) as (client, _, _):
        await receive_until_lost(client, lost)
    assert lost == [(40.0, "the peer did not answer a ping within 20 seconds")]


async def test_pongs_keep_a_connection(autojump_clock: trio.testing.MockClock) -> None:
    """A peer that answers pings is never given up."""
    lost: list[tuple[float, str]] = []
    async with connected(ping_interval=20) as (client, _, _), trio.open_nursery() as nursery:
        nursery.start_soon(receive_until_lost, client, lost)
        await trio.sleep(1000)
        await client.aclose()
    assert lost == [(1000.0, "the connection was closed on this side")]


async def test_a_missing_pong_is_excused_while_nobody_receives(autojump_clock: trio.testing.MockClock) -> None:
    """Silence counts only from when somebody has waited for a whole interval."""
    lost: list[tuple[float, str]] = []
    async with connected(silent=True, ping_interval=20) as (client, _, _):
        await trio.sleep(110)
        await client.send("still open")
        await receive_until_lost(client, lost)
    assert [when for when, _ in lost] == [140.0]


async def test_bytes_excuse_a_missing_pong(autojump_clock: trio.testing.MockClock) -> None:
    """While a long message trickles in no pong can come, and the connection is kept."""
    lost: list[tuple[float, str]] = []
    async with connected(silent=True, ping_interval=20) as (client, _, wire), trio.open_nursery() as nursery:
        nursery.start_soon(receive_until_lost, client, lost)
        await wire.send_all(b"\x81\x7e\x01\x00")
        for _ in range(16):
            await trio.sleep(15)
            await wire.send_all(b"x" * 15)
    assert [when for when, _ in lost] == [280.0]


async def test_a_ping_on_a_connection_that_has_ended(autojump_clock: trio.testing.MockClock) -> None:
    """Pinging ends quietly with the connection."""
    async with connected(ping_interval=20) as (client, server, _):
        await server.aclose()
        await trio.sleep(100)
        with pytest.raises(ConnectionLost):
            await client.receive()
