"""``trio-acp doctor``: every step, every way a step fails, and nothing left behind."""

from __future__ import annotations

import functools
import json
import shlex
import signal
import ssl
import sys
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
import trustme

from tests.cli_kit import AGENT, ECHO, STDIO, doorkeeper, read_all, read_until, run_cli, serving, started_cli, wait_gone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

BY_PROGRAM = ["settings", "resolve", "start", "initialize"]
BY_URL = ["settings", "resolve", "connect", "tls", "handshake", "initialize"]
OF_THE_PROTOCOL = ["capabilities", "authentication", "session/new", "session/close"]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration of the user's, and a place for temporary files that can be looked through."""
    monkeypatch.setenv("TRIO_ACP_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("TRIO_ACP_CONFIG", raising=False)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))


async def check(*args: str, code: int) -> dict[str, dict[str, Any]]:
    """Run it; return the steps by name."""
    done = await run_cli("doctor", "--format", "json", *args)
    assert (code, b"") == (done.returncode, done.stderr)
    told = json.loads(done.stdout)
    assert told["ok"] is (code == 0)
    return {step["name"]: step for step in told["steps"]}


def failing(steps: dict[str, dict[str, Any]]) -> tuple[str, str, str]:
    """Return the one step that failed, its error's detail and the remedy; all later ones were skipped."""
    states = [step["status"] for step in steps.values()]
    at = states.index("failed")
    assert "skipped" not in states[:at] or "tls" in steps
    assert {"skipped"} >= set(states[at + 1 :])
    name = list(steps)[at]
    assert steps[name]["ms"] >= 0
    return name, steps[name]["error"]["detail"], steps[name]["remedy"]


@asynccontextmanager
async def listening(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    """Listen on a port; yield the address as a URL without its scheme."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(functools.partial(trio.serve_listeners, serve, listeners))
        yield f"://127.0.0.1:{listeners[0].socket.getsockname()[1]}/acp"
        nursery.cancel_scope.cancel()


async def test_a_program_that_is_an_agent(tmp_path: Path) -> None:
    """All steps go well; its capabilities and version are told; the session's directory is gone afterwards."""
    steps = await check("--stdio", STDIO, code=0)
    assert BY_PROGRAM + OF_THE_PROTOCOL == list(steps)
    assert {"ok"} == {step["status"] for step in steps.values()}
    assert all(step["ms"] >= 0 and step["remedy"] is None and step["error"] is None for step in steps.values())
    assert ("trio-acp-scripted-agent", 1) == (
        steps["initialize"]["facts"]["name"],
        steps["initialize"]["facts"]["protocol_version"],
    )
    assert {"load", "resume", "close"} <= set(steps["capabilities"]["facts"]["offered"])
    assert [] == list((tmp_path / "tmp").iterdir())
    await wait_gone(steps["start"]["facts"]["pid"])


async def test_an_agent_behind_a_websocket() -> None:
    """Its steps are told as lines while they are taken; an unencrypted one skips TLS; the query is not shown."""
    async with serving(doorkeeper()) as url:
        done = await run_cli("doctor", "--url", f"{url}?key=sesame")
    assert (0, b"") == (done.returncode, done.stderr)
    lines = done.stdout.decode().splitlines()
    assert [["ok", name] for name in BY_URL + OF_THE_PROTOCOL if name != "tls"] == [
        line.split()[:2] for line in lines if " tls " not in line
    ]
    assert "skipped tls                       ws:// is not encrypted" in lines
    assert any(" engine trio-websocket 0." in line for line in lines)
    assert b"sesame" not in done.stdout


async def test_an_agent_behind_the_other_engine() -> None:
    """The handshake tells which engine was used, and of which version."""
    async with serving(doorkeeper()) as url:
        steps = await check("--url", url, "--engine", "websockets", code=0)
    assert ("websockets", version("websockets")) == (
        steps["handshake"]["facts"]["engine"],
        steps["handshake"]["facts"]["engine_version"],
    )


async def test_an_agent_behind_tls(tmp_path: Path) -> None:
    """The certificate's names and end are told; one that nobody vouches for is refused, with the option to trust it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    keeper = doorkeeper()

    async def serve(tcp: trio.SocketStream) -> None:
        tls = trio.SSLStream(tcp, context, server_side=True, https_compatible=True)
        try:
            await tls.do_handshake()
        except trio.BrokenResourceError:
            return
        await keeper.serve(cast("trio.SocketStream", tls))

    async with listening(serve) as address:
        steps = await check("--url", f"wss{address}", "--ca-file", str(tmp_path / "ca.pem"), code=0)
        assert ["127.0.0.1"] == steps["tls"]["facts"]["names"]
        assert steps["tls"]["facts"]["protocol"].startswith("TLSv1")
        assert steps["tls"]["facts"]["days_left"] > 7
        name, detail, remedy = failing(await check("--url", f"wss{address}", code=1))
        assert ("tls", "tls") == (name, detail)
        assert "--ca-file" in remedy


@pytest.mark.parametrize(
    ("stdio", "where", "detail", "remedy"),
    [
        ("/no/such", "resolve", "no-such-program", "install it, or name the program by its path"),
        ("/", "resolve", "no-such-program", "install it"),
        (shlex.join(ECHO), "initialize", "initialize-failed", "it is no ACP agent"),
        ("false", "initialize", "agent-exited", "run the command by itself to see why"),
        (f"{STDIO} --protocol-version 7", "initialize", "protocol-version", "version 1 of the protocol"),
    ],
)
async def test_a_program_that_is_none(stdio: str, where: str, detail: str, remedy: str) -> None:
    """The step says what is wrong, and one line says what to do; the other steps are skipped."""
    found = failing(await check("--stdio", stdio, code=1))
    assert (where, detail) == found[:2]
    assert remedy in found[2]


async def test_a_known_agent_that_is_missing_can_be_installed() -> None:
    """The remedy is the command that gets it."""
    found = failing(await check("--agent", "opencode", code=1))
    assert ("resolve", "no-such-program", "install it: npm install -g opencode-ai") == found


async def test_nobody_listens() -> None:
    """A port that is closed fails to connect."""
    async with listening(lambda stream: stream.aclose()) as address:
        pass
    found = failing(await check("--url", f"ws{address}", code=1))
    assert ("connect", "connection-refused") == found[:2]


@pytest.mark.parametrize(
    ("answer", "detail", "remedy"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "handshake-rejected", "--token-file FILE"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "handshake-rejected", "at /acp"),
        (b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n", "handshake-rejected", "the server's own log"),
        (b"SSH-2.0-OpenSSH_9.7\r\n", "handshake-failed", "check the port and the path"),
    ],
)
async def test_a_server_that_is_none(answer: bytes, detail: str, remedy: str) -> None:
    """The WebSocket handshake fails, by status where there is one."""

    async def serve(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(answer)
        await stream.aclose()

    async with listening(serve) as address:
        found = failing(await check("--url", f"ws{address}", code=1))
    assert ("handshake", detail) == found[:2]
    assert remedy in found[2]


@pytest.mark.parametrize(("scheme", "where"), [("ws", "handshake"), ("wss", "tls")])
async def test_a_server_that_is_silent(scheme: str, where: str) -> None:
    """Each step has its own deadline, and the one that overruns it is the one that fails."""

    async def serve(stream: trio.SocketStream) -> None:
        await read_all(stream)

    async with listening(serve) as address:
        steps = await check("--url", f"{scheme}{address}", "--timeout", "0.5", code=1)
    name, detail, remedy = failing(steps)
    assert (where, "step-timeout") == (name, detail)
    assert "the server is silent" in remedy
    assert 500 <= steps[name]["ms"] < 10_000


async def test_a_program_that_is_silent() -> None:
    """It fails to initialize in time, and is ended."""
    stdio = shlex.join(
        [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"]
    )
    steps = await check("--stdio", stdio, "--timeout", "0.5", code=1)
    name, detail, remedy = failing(steps)
    assert ("initialize", "step-timeout") == (name, detail)
    assert "such as --acp" in remedy
    await wait_gone(steps["start"]["facts"]["pid"])


async def test_an_agent_that_wants_a_login(tmp_path: Path) -> None:
    """Its methods are told, and the session that it refuses names them in the remedy, which works."""
    found = await check("--stdio", f"{STDIO} --auth", code=1)
    methods = [method["id"] for method in found["authentication"]["facts"]["methods"]]
    name, detail, remedy = failing(found)
    assert ("session/new", "authentication-required") == (name, detail)
    assert "set auth_method in the configuration file, or log in" in remedy
    text = f"[agents.a]\nstdio = {[*AGENT, '--auth']!r}\nauth_method = {methods[0]!r}\n"
    (tmp_path / "c.toml").write_text(text)
    await check("--agent", "a", "--config", str(tmp_path / "c.toml"), code=0)


async def test_an_agent_that_cannot_resume() -> None:
    """It can be used, and whoever wants to go on another day is told that it forgets."""
    note = "cannot resume sessions"
    assert note in (await check("--stdio", f"{STDIO} --no-load --no-resume", code=0))["capabilities"]["words"]
    assert note not in (await check("--stdio", f"{STDIO} --no-load", code=0))["capabilities"]["words"]


async def test_an_agent_that_cannot_close() -> None:
    """Its session is left to it; that is no failure."""
    steps = await check("--stdio", f"{STDIO} --no-close", code=0)
    assert "close" not in steps["capabilities"]["facts"]["offered"]
    assert "not offered; the session is left to the agent" == steps["session/close"]["words"]


async def test_a_session_that_does_not_open() -> None:
    """It is given up at its deadline; the agent is ended all the same."""
    steps = await check("--stdio", f"{STDIO} --new-session-delay 600", "--timeout", "4", code=1)
    name, detail, remedy = failing(steps)
    assert ("session/new", "step-timeout") == (name, detail)
    assert "--timeout" in remedy
    await wait_gone(steps["start"]["facts"]["pid"])


async def test_a_token_that_others_can_read_is_pointed_out(tmp_path: Path) -> None:
    """It works all the same; a token that is not there fails before anything is connected."""
    token = tmp_path / "token"
    token.write_text("sesame")
    token.chmod(0o644)
    async with serving(doorkeeper()) as url:
        steps = await check("--url", url, "--token-file", str(token), code=0)
        assert f"others can read the token: chmod 600 {token}" == steps["settings"]["remedy"]
        token.chmod(0o600)
        assert (await check("--url", url, "--token-file", str(token), code=0))["settings"]["remedy"] is None
        token.unlink()
        name, detail, remedy = failing(await check("--url", url, "--token-file", str(token), code=1))
    assert ("settings", "invalid-token") == (name, detail)
    assert "chmod 600" in remedy


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupt_leaves_nothing_behind(signum: signal.Signals, tmp_path: Path) -> None:
    """In the middle of a step: code 130, no error, no process, no directory."""
    stdio = shlex.join([sys.executable, "-c", "import time; time.sleep(600)"])
    async with started_cli("doctor", "--stdio", stdio, "--timeout", "60") as process:
        said = await read_until(process.stdout, b"process ")
        while not said.endswith(b"\n"):
            said += await read_until(process.stdout, b"\n")
        process.send_signal(signum)
        assert 130 == await process.wait()
        assert b"" == await read_all(process.stderr)
    await wait_gone(int(said.split()[-1]))
    assert [] == list((tmp_path / "tmp").iterdir())


async def test_what_an_agent_says_is_made_safe(tmp_path: Path) -> None:
    """Last words with control characters are shown, not obeyed."""
    code = "import sys; print('\\x1b[2Jouch', file=sys.stderr); sys.exit(3)"
    done = await run_cli("doctor", "--stdio", shlex.join([sys.executable, "-c", code]))
    assert 1 == done.returncode
    assert b"\x1b" not in done.stdout
    assert b"\\u001b[2Jouch" in done.stdout


async def test_the_sessions_directory_is_the_one_given(tmp_path: Path) -> None:
    """--cwd is used, and kept."""
    (tmp_path / "w").mkdir()
    await check("--stdio", STDIO, "--cwd", str(tmp_path / "w"), code=0)
    assert (tmp_path / "w").is_dir()
