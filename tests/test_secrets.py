"""Planted secrets: real sessions, good and bad, logged in full; then every place is searched for them."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import trio_acp
from tests.cli_kit import read_all, read_until, run_cli, serving, started_cli
from tests.serve_kit import Certificates, make_certificates, port_of, token_file
from trio_acp.cli._accept import Doorkeeper
from trio_acp.cli._bearer import read_token_file
from trio_acp.cli._tls import server_context
from trio_acp.transports._redact import redact, secrets_of
from trio_acp.transports.stdio import dial_stdio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.concurrency

MARK = "s3ntinel"
TOKEN = f"{MARK}-token-5d0c3f6e8a1b4d7f9c2e"
WRONG = f"{MARK}-wrong-5d0c3f6e8a1b4d7f9c2e"
HEADER = f"{MARK}-header"
QUERY = f"{MARK}-query"
USER = f"{MARK}-user"
COOKIE = f"{MARK}-cookie"
ENV = {"SOME_API_KEY": f"{MARK}-env-key", "PEM_SECRET": f"-----\n{MARK}-line-1\n{MARK}-line-2\n"}

# Agents that tell everybody what is in their environment.
_TELL = "import os, sys\nfor v in ('SOME_API_KEY', 'PEM_SECRET'):\n"
_TELL += "    print(os.environ[v], file=sys.stderr)\nprint('my key is', os.environ['SOME_API_KEY'], flush=True)\n"
WORKS = [sys.executable, "-uc", _TELL + "import runpy\nrunpy.run_module('trio_acp.testing.agent', run_name='__main__')"]
CRASHES = [sys.executable, "-uc", _TELL + "sys.stdin.readline()\nraise SystemExit(3)"]


class Evidence:
    """Everything that was said or kept somewhere, to be searched."""

    def __init__(self) -> None:
        self._said: list[tuple[str, str]] = []

    def add(self, place: str, said: object) -> None:
        """Keep what was found in a place."""
        self._said.append((place, said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)))

    def add_error(self, error: BaseException) -> None:
        """Keep an exception with all that hangs on it."""
        self.add("traceback", "".join(traceback.format_exception(error)))
        link: BaseException | None = error
        while link is not None:
            self.add("repr of an exception", f"{link!r} {link.args!r} {vars(link)!r}")
            link = link.__cause__ or link.__context__

    def add_records(self, records: list[logging.LogRecord]) -> None:
        """Keep log records, formatted and with their arguments."""
        for record in records:
            self.add(f"log of {record.name}", f"{logging.Formatter().format(record)} {record.args!r}")

    def add_files(self, directory: Path) -> None:
        """Keep the bytes of all files of a store."""
        for path in directory.iterdir():
            self.add(f"file {path.name}", path.read_bytes())

    def leaks(self) -> list[tuple[str, str]]:
        """Return the places that have a secret, each with what is around it."""
        return [(place, said[max(0, said.index(MARK) - 60) :][:160]) for place, said in self._said if MARK in said]

    def has(self, words: str) -> bool:
        """Whether words were said anywhere."""
        return any(words in said for _, said in self._said)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """Make an authority and a server's files."""
    (tmp_path / "tls").mkdir()
    return make_certificates(tmp_path / "tls")


@asynccontextmanager
async def secret_server(argv: list[str], tmp_path: Path, certificates: Certificates) -> AsyncIterator[str]:
    """Serve an agent with a secret environment, for clients with the token."""
    keeper = Doorkeeper(
        dial=dial_stdio(argv, env={**os.environ, **ENV}),
        token=read_token_file(token_file(tmp_path, TOKEN)),
        tls=server_context(certificates.cert, certificates.key),
    )
    async with serving(keeper) as url:
        yield f"wss://localhost:{port_of(url)}/acp?access_token={QUERY}"


async def use(runtime: trio_acp.AcpRuntime, directory: Path, evidence: Evidence) -> str | None:
    """Have a session with a turn, a status and a resumption; return what the agent said, None if it failed."""
    directory.mkdir(exist_ok=True)
    said = None
    evidence.add("repr", repr(runtime))
    evidence.add("repr", repr(vars(runtime)))
    with trio.fail_after(60):
        try:
            async with trio_acp.open_session_manager(
                {"agent": runtime}, store=trio_acp.SQLiteStore(directory / "sessions.db")
            ) as manager:
                session = await manager.start_session("key", agent="agent")
                said = str(await session.prompt("say Hello"))
                evidence.add("repr", f"{manager!r} {session!r} {await session.status()!r} {manager.statistics()!r}")
                evidence.add("records", repr(await manager.stored_sessions()))
                evidence.add_files(directory)
        except trio_acp.AcpError as error:
            evidence.add_error(error)
    evidence.add_files(directory)
    return said


SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n"
BROKEN = {
    "broken-head": SWITCHING + f"Set-Cookie: {COOKIE}\r\nno header {COOKIE}\r\n\r\n".encode(),
    "broken-name": SWITCHING + f"Sec-WebSocket-Protocol: {COOKIE}\xff\r\n\r\n".encode("latin-1"),
}


@asynccontextmanager
async def breaking(answer: bytes) -> AsyncIterator[str]:
    """Answer each handshake in a way that no library takes, with a secret in it."""

    async def serve(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(answer)
        await stream.aclose()

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/acp?{QUERY}"
        nursery.cancel_scope.cancel(reason="the test is over")


@pytest.mark.parametrize(
    "case", ["ok", "wrong-token", "crash", "no-trust", "broken-head", "broken-name", "stdio", "stdio-crash"]
)
async def test_a_planted_secret_is_found_nowhere(
    case: str, tmp_path: Path, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """Token, headers, query and environment: in no log of any library, store, repr or exception, however it ends."""
    caplog.set_level(logging.DEBUG)
    evidence = Evidence()
    argv = CRASHES if "crash" in case else WORKS

    def websocket(url: str, **options: Any) -> trio_acp.AcpRuntime:
        return trio_acp.AcpRuntime.websocket(
            url, headers=[("X-Api-Key", HEADER), ("Cookie", f"a={COOKIE}")], token_file=path, **options
        )

    path = tmp_path / "client-token"
    path.write_text(WRONG if case == "wrong-token" else TOKEN)
    if case.startswith("stdio"):
        runtime = trio_acp.AcpRuntime.stdio(argv, env={**os.environ, **ENV})
        said = await use(runtime, tmp_path / "store", evidence)
    elif case in BROKEN:
        async with breaking(BROKEN[case]) as url:
            said = await use(websocket(url), tmp_path / "store", evidence)
    else:
        trust = None if case == "no-trust" else certificates.client()
        async with secret_server(argv, tmp_path, certificates) as url:
            said = await use(websocket(url, ssl_context=trust), tmp_path / "store", evidence)
    evidence.add_records(caplog.records)
    assert [] == evidence.leaks()
    assert ("Hello" if case in {"ok", "stdio"} else None) == said
    # It was worth searching: other libraries were logged too, and the agent did say what it should not have.
    if case != "no-trust" and not case.startswith("stdio"):
        assert any(record.name == "trio-websocket" for record in caplog.records)
    if case in {"ok", "crash", "stdio", "stdio-crash"}:
        assert evidence.has("my key is [secret]")


@pytest.mark.parametrize("crash", [False, True])
async def test_the_commands_show_no_secret(crash: bool, tmp_path: Path, certificates: Certificates) -> None:
    """Served and prompted as verbose as can be, in JSON, with errors: no output and no file has one."""
    evidence = Evidence()
    token, wrong, store = token_file(tmp_path, TOKEN), tmp_path / "wrong", tmp_path / "store"
    store.mkdir()
    wrong.write_text(WRONG)
    serve = ["--tls-cert", certificates.cert, "--tls-key", certificates.key, "--token-file", token, "-v"]
    agent = CRASHES if crash else WORKS
    async with started_cli("serve", "--port", "0", *map(str, serve), "--", *agent, env=ENV) as process:
        url = (await read_until(process.stdout, b"\n")).decode().strip() + f"?{QUERY}"
        common = ["--ca-file", str(certificates.ca), "--header", f"X-Key: {HEADER}", "-v", "--format", "json"]
        common += ["--session", "s", "--store", str(store / "sessions.db")]
        codes = []
        for address, file in (
            (url, token),
            (url, wrong),
            (url.replace("//", f"//{USER}:{USER}@"), token),
            (url.replace("wss:", "ws:"), token),
        ):
            options = common if address.startswith("wss") else common[2:]
            done = await run_cli("prompt", "say Hello", "--url", address, "--token-file", str(file), *options)
            evidence.add("output of prompt", done.stdout + done.stderr)
            codes.append(done.returncode)
        process.terminate()
        evidence.add("output of serve", await read_all(process.stderr))
    evidence.add_files(store)
    assert [] == evidence.leaks()
    assert [1 if crash else 0, 1, 2, 1] == codes
    assert evidence.has("HTTP status 401")
    assert evidence.has("[secret]")


# -- redaction ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("OPENAI_API_KEY", "sk-123456789", ("sk-123456789",)),
        ("gh_token", "abcdefgh", ("abcdefgh",)),
        ("PGPASSWORD", "correct horse", ("correct horse",)),
        ("SHORT_SECRET", "abcdefg", ()),
        ("PEM_SECRET", "-----\nline number 1\r\n\nand number 2\n", ("line number 1", "and number 2")),
        ("HOME", "/people/somebody", ()),
        ("PATH", "/usr/bin:/bin", ()),
    ],
)
def test_which_values_are_secret(name: str, value: str, expected: tuple[str, ...]) -> None:
    """Those whose variables are named like secrets, a line each; not short ones, and no paths."""
    assert expected == secrets_of({name: value})


@given(
    st.dictionaries(st.sampled_from(["A_KEY", "B_TOKEN", "C_SECRET"]), st.text("ab", min_size=8, max_size=12)),
    st.lists(st.text("ab \n", max_size=12)),
    st.data(),
)
def test_redacted_text_has_no_secret(env: dict[str, str], words: list[str], data: st.DataObject) -> None:
    """Wherever secrets stand in a text, also one within another, none is left, and what is none stays."""
    if env:
        words += data.draw(st.lists(st.sampled_from(list(env.values()))))
    text = redact("".join(data.draw(st.permutations(words))), secrets_of(env))
    assert not any(value in text for value in env.values())
    assert "nothing here" == redact("nothing here", secrets_of(env))
