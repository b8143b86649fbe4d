"""`trio-acp serve`: a stdio agent behind a WebSocket, one process per connection."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
import trio_websocket
from trio.testing import MockClock, memory_stream_pair

from tests.cli_kit import AGENT, CLI, ECHO, doorkeeper, read_all, read_until, run_cli, serving, started_cli, wait_gone
from trio_acp.cli import main
from trio_acp.cli._accept import Doorkeeper
from trio_acp.cli._bridge import Bridge, _fitting
from trio_acp.cli._options import origin
from trio_acp.transports.stdio import dial_stdio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.concurrency

PID = [sys.executable, "-uc", "import os, sys\nprint([os.getpid()])\nsys.stdin.read()"]
UPGRADE = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    """Connect with the library's own client; kept open until the end of the block."""
    port = int(url.rpartition(":")[2].partition("/")[0])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream, trio.open_nursery() as nursery:
        connection = await trio_websocket.wrap_client_stream(
            nursery, stream, f"127.0.0.1:{port}", "/acp", max_message_size=64 * 2**20, **options
        )
        with trio.fail_after(20):
            yield connection
            await connection.aclose()
        nursery.cancel_scope.cancel()


async def closing(connection: trio_websocket.WebSocketConnection) -> tuple[int, str | None]:
    """Wait for the server's close frame; return its code and reason."""
    with pytest.raises(trio_websocket.ConnectionClosed):
        while True:
            await connection.get_message()
    assert connection.closed is not None
    return connection.closed.code, connection.closed.reason


def note_reports(monkeypatch: pytest.MonkeyPatch) -> trio.MemoryReceiveChannel[Bridge]:
    """Return a channel that has each bridge once it has ended and reported."""
    send, receive = trio.open_memory_channel[Bridge](10)
    report = Bridge._report

    def report_and_note(bridge: Bridge) -> None:
        report(bridge)
        send.send_nowait(bridge)

    monkeypatch.setattr(Bridge, "_report", report_and_note)
    return receive


async def http(url: str, path: str, *headers: tuple[str, str]) -> bytes:
    """Send a raw request; return everything that is answered before the server hangs up, or the head of a 101."""
    port = int(url.rpartition(":")[2].partition("/")[0])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *(f"{name}: {value}" for name, value in headers)]
        await stream.send_all("\r\n".join([*lines, "", ""]).encode())
        with trio.fail_after(10):
            data = await read_until(stream, b"\r\n\r\n")
            return data if b" 101 " in data else data + await read_all(stream)


async def test_messages_go_both_ways_unchanged() -> None:
    """What a client sends reaches the agent as it is, and what the agent says comes back."""
    async with serving(doorkeeper(ECHO)) as url, connected(url) as client:
        for message in ('{"a":  1.10}', "[1,2]", '{"text":"\u00e4 \\ud83d"}'):
            await client.send_message(message)
            assert message == await client.get_message()


async def test_a_message_with_line_breaks_becomes_one_line() -> None:
    """A pretty-printed message is written compactly, because the agent reads lines."""
    async with serving(doorkeeper(ECHO)) as url, connected(url) as client:
        await client.send_message('{\n  "a": [1,\r\n 2],\n  "b": "x\\ny"\n}')
        assert '{"a":[1,2],"b":"x\\ny"}' == await client.get_message()


@pytest.mark.parametrize("text", ["", "hello", "{", '{"a":1}\n{"b":2}', '{"a":NaN}', "[" * 100_000])
async def test_what_is_no_json_is_answered_and_not_passed_on(text: str) -> None:
    """Text that is no JSON is answered -32700 with id null; the agent never sees it."""
    async with serving(doorkeeper(ECHO)) as url, connected(url) as client:
        await client.send_message(text)
        answer = json.loads(await client.get_message())
        await client.send_message('{"next":1}')
        assert '{"next":1}' == await client.get_message()
    assert {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}} == answer


async def test_binary_messages_are_ignored_and_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A binary message is dropped; how many there were is logged when the connection ends."""
    caplog.set_level("INFO", "trio_acp")
    reported = note_reports(monkeypatch)
    async with serving(doorkeeper(ECHO)) as url:
        async with connected(url) as client:
            await client.send_message(b'{"a":1}')
            await client.send_message('{"b":1}')
            assert '{"b":1}' == await client.get_message()
        with trio.fail_after(10):
            bridge = await reported.receive()
    assert 1 == bridge.binary_ignored
    assert "ignored 1 binary messages, answered 0 that were no JSON" in caplog.text


async def test_large_messages() -> None:
    """A message of many MiB passes in both directions."""
    message = json.dumps({"text": "x" * (8 * 2**20)})
    async with serving(doorkeeper(ECHO)) as url, connected(url) as client:
        await client.send_message(message)
        assert message == await client.get_message()


async def test_the_answer_to_the_upgrade() -> None:
    """The answer has a connection id, no extension, and the first offered subprotocol."""
    async with serving(doorkeeper(ECHO)) as url:
        offers = [
            ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
            ("Sec-WebSocket-Extensions", "permessage-deflate"),
            ("Sec-WebSocket-Protocol", "acp.v1, other"),
        ]
        answer = (await http(url, "/acp", *UPGRADE, *offers)).decode().lower()
        plain = (await http(url, "/acp?x=1", *UPGRADE, offers[0])).decode().lower()
    headers = dict(line.split(": ", 1) for line in answer.splitlines()[1:] if line)
    assert answer.startswith("http/1.1 101")
    assert 4 == uuid.UUID(headers["acp-connection-id"]).version
    assert "sec-websocket-extensions" not in headers
    assert "acp.v1" == headers["sec-websocket-protocol"]
    assert plain.startswith("http/1.1 101")
    assert "sec-websocket-protocol" not in plain


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", [*UPGRADE, ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")], 404),
        ("/acp/", [*UPGRADE, ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")], 404),
        ("/acp", [*UPGRADE, ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="), ("Origin", "http://evil.test")], 403),
        ("/acp", [*UPGRADE, ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="), ("Origin", "null")], 403),
        ("/acp", [], 400),
        ("/acp", UPGRADE, 400),
    ],
)
async def test_who_is_not_let_in(path: str, headers: list[tuple[str, str]], status: int) -> None:
    """Another path, a foreign origin and what is no WebSocket request are refused; the next client is served."""
    async with serving(doorkeeper(ECHO, allowed_origins=frozenset({"http://good.test"}))) as url:
        assert (await http(url, path, *headers)).startswith(f"HTTP/1.1 {status} ".encode())
        async with connected(url, extra_headers=[(b"Origin", b"http://GOOD.test")]) as client:
            await client.send_message("{}")
            assert "{}" == await client.get_message()


async def test_a_silent_client_is_dropped_after_ten_seconds(autojump_clock: MockClock) -> None:
    """A client that connects and says nothing is hung up on, ten seconds later to the second."""
    ours, theirs = memory_stream_pair()
    began = trio.current_time()
    await doorkeeper(ECHO).serve(theirs)
    assert 10.0 == trio.current_time() - began
    assert b"" == await ours.receive_some()


async def test_a_client_that_leaves_in_the_handshake_is_noticed_at_once() -> None:
    """A connection that ends before its request is complete occupies nothing, and is no error."""
    ours, theirs = memory_stream_pair()
    with trio.fail_after(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(doorkeeper(ECHO).serve, theirs)
            await ours.send_all(b"GET /acp HTT")
            await ours.aclose()


@pytest.mark.parametrize(
    "request_head",
    [
        [
            "GET /acp HTTP/1.1",
            "Host: x",
            *(f"{name}: {value}" for name, value in UPGRADE),
            "Sec-WebSocket-Key: AAAA",
            "",
        ],
        ["GET /acp HTTP/1.1", "no header", ""],
        ["\x16\x03\x01 is TLS", ""],
    ],
)
async def test_a_client_that_does_not_wait_for_the_answer(
    request_head: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A client that hangs up with its request, good or bad, is not an error and starts nothing that stays."""
    ours, theirs = memory_stream_pair()
    await ours.send_all("\r\n".join([*request_head, ""]).encode())
    await ours.aclose()
    with trio.fail_after(5):
        await doorkeeper(ECHO).serve(theirs)
    assert [] == [record.message for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]


async def test_a_fault_of_ours_ends_one_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong while serving a client is logged, and the next client is served."""
    faulty = [True]

    class Faulty(Doorkeeper):
        def _refusal(self, request: trio_websocket.WebSocketRequest) -> tuple[int, str] | None:
            if faulty:
                raise RuntimeError(faulty.pop())
            return super()._refusal(request)

    async with serving(Faulty(dial=dial_stdio(ECHO))) as url:
        key = ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
        assert b"" == await http(url, "/acp", *UPGRADE, key)
        async with connected(url) as client:
            await client.send_message("{}")
            assert "{}" == await client.get_message()
    assert "serving a client failed" in caplog.text


async def test_each_connection_has_its_own_process_which_ends_with_it() -> None:
    """Two clients have two agents; a client that leaves takes its own with it, and only that."""
    async with serving(doorkeeper(PID)) as url, connected(url) as stays:
        [kept] = json.loads(await stays.get_message())
        async with connected(url) as leaves:
            [pid] = json.loads(await leaves.get_message())
        await wait_gone(pid)
        assert pid != kept
        os.kill(kept, 0)
    await wait_gone(kept)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print('[1]')", (1000, "agent exited with code 0")),
        (
            "import sys; print('[1]'); print('no disk', file=sys.stderr); sys.exit(3)",
            (1011, "agent exited with code 3: no disk"),
        ),
        ("import os; print('[1]', flush=True); os.kill(os.getpid(), 9)", (1011, "agent was killed by SIGKILL")),
    ],
)
async def test_how_a_client_is_left_when_its_agent_ends(code: str, expected: tuple[int, str]) -> None:
    """What the agent still said arrives; then the connection is closed with 1000, or 1011 and the reason."""
    async with serving(doorkeeper([sys.executable, "-c", code])) as url, connected(url) as client:
        assert "[1]" == await client.get_message()
        assert expected == await closing(client)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("a" * 123, "a" * 123),
        ("a" * 124, "a" * 119 + " …"),
        ("ä" * 100, "ä" * 59 + " …"),
        ("no module named " + "x" * 110, "no module named …"),
        ("\ud800", "?"),
    ],
)
def test_a_reason_that_is_too_long_is_cut_between_words(reason: str, expected: str) -> None:
    """A close frame has 123 bytes for it; what is left out is marked, and no character is broken."""
    assert expected == _fitting(reason)
    assert len(expected.encode()) <= 123


async def test_an_agent_that_cannot_start_closes_with_1011() -> None:
    """A program that is not there is told in the close frame."""
    async with serving(doorkeeper(["/no/such/program"])) as url, connected(url) as client:
        assert (1011, "there is no program '/no/such/program'") == await closing(client)


async def test_last_words_arrive_although_the_agent_no_longer_listens() -> None:
    """When a message cannot be delivered any more, what the agent says meanwhile arrives, and its exit decides."""
    code = "import os, sys, time\nos.close(0)\nprint('[1]', flush=True)\ntime.sleep(0.3)\nprint('[2]')\nsys.exit(4)"
    async with serving(doorkeeper([sys.executable, "-c", code])) as url, connected(url) as client:
        assert "[1]" == await client.get_message()
        await client.send_message("{}")
        assert "[2]" == await client.get_message()
        assert (1011, "agent exited with code 4") == await closing(client)


async def test_an_agent_that_closes_its_input_and_stays_is_ended() -> None:
    """An agent that no longer reads ends its connection soon after a message could not be delivered."""
    code = "import os, time\nos.close(0)\nprint('[1]', flush=True)\ntime.sleep(60)"
    async with serving(doorkeeper([sys.executable, "-c", code])) as url, connected(url) as client:
        assert "[1]" == await client.get_message()
        await client.send_message("{}")
        assert (1011, "the agent no longer reads its standard input") == await closing(client)


async def test_an_agent_that_does_not_read_holds_its_client_up_and_then_ends() -> None:
    """Messages wait for an agent that does not read; after the stall limit the connection is ended."""
    code = "import time; time.sleep(60)"
    async with serving(doorkeeper([sys.executable, "-c", code], stall=0.3)) as url, connected(url) as client:
        await client.send_message(json.dumps({"text": "x" * 2**20}))
        assert (1011, "a message was left unread for 0.3 seconds") == await closing(client)


async def test_a_client_that_does_not_read_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that leaves messages unread is given up after the stall limit; the agent is ended."""
    reported = note_reports(monkeypatch)
    code = "import os\nprint([os.getpid()], flush=True)\nwhile True: print('[\"' + 'x' * 2**20 + '\"]')"
    async with serving(doorkeeper([sys.executable, "-c", code], stall=0.3)) as url, connected(url) as client:
        [pid] = json.loads(await client.get_message())
        bridge = await reported.receive()
        assert (1011, "a message was left unread for 0.3 seconds") == bridge.end
        await wait_gone(pid)


async def test_a_stall_is_the_reason_whichever_side_notices_first() -> None:
    """A send that was given up breaks its connection; if the other direction sees that first, the stall is told."""
    bridge = Bridge("name", connection=cast("Any", None), client=cast("Any", None), dial=dial_stdio(ECHO), stall=0.01)
    with pytest.raises(trio.TooSlowError), bridge._before_the_stall():
        try:
            await trio.sleep_forever()
        finally:
            bridge._decide(1000, "the connection was lost")
    bridge._decide(1001, "too late")
    assert (1011, "a message was left unread for 0.01 seconds") == bridge.end


async def test_a_message_over_the_limit_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """A message above 64 MiB closes the connection with 1009."""
    async with serving(doorkeeper(ECHO)) as url, connected(url) as client:
        await client.send_message("x" * (64 * 2**20 + 1))
        code, _ = await closing(client)
    assert 1009 == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_the_server_and_every_agent(number: signal.Signals) -> None:
    """One line on standard output; after a signal clients are told 1001, agents are gone, the code is 130."""
    grandchild = (
        "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print([p.pid], flush=True); sys.stdin.read()"
    )
    serve = ["serve", "--port", "0", "--insecure-no-token", "--"]
    async with started_cli(*serve, sys.executable, "-c", grandchild) as process:
        line = (await read_until(process.stdout, b"\n")).decode()
        async with connected(line.strip()) as client:
            [pid] = json.loads(await client.get_message())
            process.send_signal(number)
            assert (1001, "the bridge was stopped") == await closing(client)
        assert 130 == await process.wait()
        assert b"" == await read_all(process.stdout)
        assert b"" == await read_all(process.stderr)
    await wait_gone(pid)


async def test_a_stopped_connection_is_reported_too() -> None:
    """With -v each connection has two lines, who it is and how it ended, also when the server is stopped."""
    async with started_cli("serve", "--port", "0", "--insecure-no-token", "-v", "--", *PID) as process:
        line = (await read_until(process.stdout, b"\n")).decode()
        async with connected(line.strip()) as client:
            await client.get_message()
            process.terminate()
            await closing(client)
        said = (await read_all(process.stderr)).decode()
    assert re.fullmatch(
        r"trio-acp: info: connection (\S+) is from 127\.0\.0\.1\n"
        r"trio-acp: info: connection \1 ended: the bridge was stopped\n",
        said,
    )


async def test_an_agents_last_words_are_logged_safely() -> None:
    """The server says how an agent crashed, in one line without control characters."""
    crash = "import sys; print('[1]'); sys.stderr.write('\\x1b[2Jboom\\n'); sys.exit(3)"
    serve = ["serve", "--port", "0", "--insecure-no-token", "--"]
    async with started_cli(*serve, sys.executable, "-c", crash) as process:
        line = (await read_until(process.stdout, b"\n")).decode()
        async with connected(line.strip()) as client:
            await closing(client)
        said = await read_until(process.stderr, b"\n")
    assert said.endswith(b"ended: agent exited with code 3: \\u001b[2Jboom\n")


@pytest.mark.parametrize(
    "args",
    [
        ["--port", "0"],
        ["--", *AGENT],
        ["--port", "99999", "--", "x"],
        ["--port", "http", "--", "x"],
        ["--port", "0", "--max-clients", "0", "--", "x"],
        ["--port", "0", "--max-clients", "many", "--", "x"],
        ["--port", "0", "--host", "example.org", "--", "x"],
        ["--port", "0", "--bogus", "--", "x"],
        ["--port", "0", "--allow-origin", "foo", "--", "x"],
        ["--port", "0", "--allow-origin", "https://example.org/", "--", "x"],
        ["--port", "0", "--allow-origin", "null", "--", "x"],
    ],
)
def test_wrong_usage(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A missing agent or port, a host that is no address, and what no browser sends as origin are wrong usage."""
    with pytest.raises(SystemExit) as exit_:
        main(["serve", *args])
    said = capsys.readouterr()
    assert (2, "") == (exit_.value.code, said.out)
    assert said.err.startswith("usage: trio-acp serve ")
    assert "put --" not in said.err


def test_options_of_the_agent_come_after_two_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    """Without them they are not known here, and the message says what is missing."""
    with pytest.raises(SystemExit):
        main(["serve", "--port", "0", "python", "-m", "x"])
    end = "trio-acp serve: error: unrecognized arguments: -m x; put -- before the agent's command\n"
    assert capsys.readouterr().err.endswith(end)


@pytest.mark.parametrize("text", ["https://Example.org", "http://localhost:3000", "moz-extension://1-2"])
def test_origins_are_read_as_browsers_send_them(text: str) -> None:
    """That is in lower case; the scheme may be any."""
    assert text.lower() == origin(text)


async def test_a_port_in_use_is_one_line() -> None:
    """A port that somebody else has ends the command with code 1 and one line."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        serve = ["serve", "--port", str(port), "--host", "localhost", "--insecure-no-token", "--"]
        done = await run_cli(*serve, *CLI)
    assert 1 == done.returncode
    words = "Address already in use; another program listens there: stop it, or choose another --port"
    assert f"trio-acp: cannot listen on 127.0.0.1 port {port}: {words}\n" == done.stderr.decode()
