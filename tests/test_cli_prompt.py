"""`trio-acp prompt`: what it prints where, and which exit code it returns."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sqlite3
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import trio

from tests.cli_kit import (
    AGENT,
    STDIO,
    doorkeeper,
    json_lines,
    read_all,
    read_until,
    run_cli,
    serving,
    started_cli,
    wait_gone,
)
from trio_acp.cli import main

Run: TypeAlias = Callable[..., tuple[int, str, str]]
HOSTILE = (
    '{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"a\\u001b[2Jb\\r\\nc\\rd\\u202e\\ud800"}}'
)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the command in this process, on the scripted agent; return its code and both outputs."""
    monkeypatch.setenv("TRIO_ACP_HOME", str(tmp_path / "config"))

    def run_it(*args: str, stdio: str = STDIO) -> tuple[int, str, str]:
        code = main(["prompt", *args, "--stdio", stdio])
        said = capfd.readouterr()
        return code, said.out, said.err

    return run_it


def test_text_shows_the_reply_and_what_is_done(run: Run) -> None:
    """The agent's text is on standard output, its thoughts, tools, permissions and plan on standard error."""
    script = "think one; think two; tool Read it kind=read; permission Write; plan a|b; say done"
    assert (
        0,
        "permission: selected reject_once-3 done\n",
        (
            "thinking: onetwo\ntool, read: Read it\ntool completed: Read it\npermission denied: Write\n"
            "plan: 0 of 2 done; now: a\n"
        ),
    ) == run(script)


def test_json_has_one_object_a_line_and_the_outcome_last(run: Run) -> None:
    """Every event is an object with a type, in order; the last line is the outcome."""
    code, out, err = run("say hi; tool T; say there", "--format", "json")
    lines = json_lines(out.encode())
    assert (0, "") == (code, err)
    assert ["text_delta", "tool_call", "tool_call", "tool_call", "text_delta", "outcome"] == [x["type"] for x in lines]
    assert {"type": "text_delta", "text": "hi"} == lines[0]
    assert ("call-1", "T", "completed") == (lines[3]["id"], lines[3]["title"], lines[3]["status"])
    assert {"type": "outcome", "outcome": "completed", "stop_reason": "end_turn"} == lines[-1]


def test_quiet_has_only_the_text(run: Run) -> None:
    """The quiet form prints the whole text once, and nothing of what is done."""
    assert (0, "chunk 1 chunk 2 \n", "") == run("think hm; chunks 2; tool T", "--format", "quiet")


def test_quiet_has_nothing_of_a_turn_that_failed(run: Run) -> None:
    """A text that is not complete is not printed."""
    assert (1, "", "trio-acp: session/prompt: no (-32603)\n") == run("say hi; error -32603 no", "--format", "quiet")


@pytest.mark.parametrize("form", ["text", "quiet"])
def test_what_the_agent_says_is_made_safe(run: Run, form: str) -> None:
    """Control characters of the agent's text are shown, not obeyed, whatever standard output is."""
    code, out, _ = run(f"update {HOSTILE}", "--format", form)
    assert (0, "a\\u001b[2Jb\nc\\u000dd\\u202e\\ud800\n") == (code, out)


def test_json_is_ascii(run: Run) -> None:
    """Control characters of the agent's text are escaped by JSON itself."""
    _, out, _ = run(f"update {HOSTILE}", "--format", "json")
    assert out.isascii()
    assert "a\x1b[2Jb\r\nc\rd\u202e\ud800" == json_lines(out.encode())[0]["text"]


def test_titles_are_made_safe(run: Run) -> None:
    """A tool's title cannot break out of its line."""
    _, _, err = run('update {"sessionUpdate":"tool_call","toolCallId":"1","title":"x\\n\\u001b]0;y\\u0007"}')
    assert "tool, other: x \\u001b]0;y\\u0007\n" == err


def test_a_crash_is_one_line(run: Run) -> None:
    """An agent that exits in the middle ends the command with code 1 and one line that says so."""
    assert (1, "hi\n", "trio-acp: agent exited with code 3\n") == run("say hi; crash 3")


def test_a_program_that_is_missing_is_one_line(run: Run) -> None:
    """An agent that cannot be started ends the command with code 1, and is an outcome too."""
    code, out, err = run("hi", "--format", "json", stdio="/no/such/program")
    assert (1, "trio-acp: --stdio: there is no program '/no/such/program'\n") == (code, err)
    [outcome] = json_lines(out.encode())
    assert ("failed", "no-such-program") == (outcome["outcome"], outcome["error"]["detail"])


async def test_a_refused_connection_is_one_line() -> None:
    """A port on which nobody listens ends the command with code 1 and one line."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    done = await run_cli("prompt", "hi", "--url", f"ws://127.0.0.1:{port}/acp")
    assert (1, b"") == (done.returncode, done.stdout)
    assert done.stderr.startswith(f"trio-acp: ws://127.0.0.1:{port}/acp: cannot connect".encode())
    assert 1 == done.stderr.count(b"\n")


async def test_a_rejected_token_is_one_line_without_the_token(tmp_path: Path) -> None:
    """A 401 ends the command with code 1 and one line; the token was sent, and is shown nowhere."""
    (tmp_path / "token").write_text("sesame\n")
    asked: list[bytes] = []

    async def refuse(stream: trio.SocketStream) -> None:
        asked.append(await read_until(stream, b"\r\n\r\n"))
        await stream.send_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        await stream.aclose()

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/acp"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, refuse, [listener])
        options = ["--token-file", str(tmp_path / "token"), "--header", "X-Key: v:1"]
        done = await run_cli("prompt", "hi", "--url", url, "-v", *options)
        nursery.cancel_scope.cancel()
    assert b"authorization: bearer sesame" in asked[0].lower()
    assert b"x-key: v:1" in asked[0].lower()
    assert 1 == done.returncode
    said = f"trio-acp: {url}: the server rejected the WebSocket handshake with HTTP status 401: it wants a token, "
    assert f"{said}and the right one (--token-file)\n" in done.stderr.decode()
    assert b"sesame" not in done.stdout + done.stderr


async def test_an_agent_behind_serve() -> None:
    """A URL works like a program; a crash behind it is told by its close code and reason."""
    async with serving(doorkeeper()) as url:
        fine = await run_cli("prompt", "-", "--url", url, stdin=b"say hi")
        crash = await run_cli("prompt", "crash 3", "--url", url)
    assert (0, b"hi\n", b"") == (fine.returncode, fine.stdout, fine.stderr)
    assert (1, b"") == (crash.returncode, crash.stdout)
    assert crash.stderr.endswith(b"with code 1011 (INTERNAL_ERROR): agent exited with code 3\n")
    assert 1 == crash.stderr.count(b"\n")


def test_a_turn_that_takes_too_long(run: Run) -> None:
    """After --timeout seconds, and the grace, the code is 3; what was said is shown."""
    code, out, err = run("say hi; hang", "--timeout", "1")
    assert (3, "hi\n", "trio-acp: the time was up after 1 s\n") == (code, out, err)


def test_a_timeout_in_json(run: Run) -> None:
    """The outcome of a timeout says whether the agent stopped in time."""
    code, out, _ = run("hang", "--timeout", "1", "--format", "json")
    assert 3 == code
    assert {"type": "outcome", "outcome": "timed_out", "stop_reason": None, "cleanup": "finished"} == json_lines(
        out.encode()
    )[-1]


def test_an_agent_that_opens_no_session_in_time(run: Run) -> None:
    """The time for opening a session counts too: the code is 3."""
    code, out, err = run("hi", "--timeout", "0.5", "--format", "json", stdio=f"{STDIO} --new-session-delay 60")
    assert (3, "trio-acp: the agent did not answer within 0.5 s (--timeout)\n") == (code, err)
    assert "timed_out" == json_lines(out.encode())[-1]["outcome"]


@pytest.mark.parametrize(
    ("script", "options", "code", "err"),
    [
        ("permission! Write", [], 5, "trio-acp: the agent refused, after this was not permitted: Write\n"),
        (
            "permission! Write kinds=allow_once",
            [],
            5,
            "trio-acp: the agent refused, after this was not permitted: Write\n",
        ),
        (
            "permission Write; error -32603 no",
            [],
            5,
            "trio-acp: session/prompt: no (-32603), after this was not permitted: Write\n",
        ),
        ("permission Write; say fine", [], 0, ""),
        (
            "permission! Write",
            ["--permissions", "approve-all"],
            0,
            "trio-acp: --permissions approve-all: the agent may do whatever you can do, without asking\n",
        ),
        (
            "permission! Look kind=read",
            ["--permissions", "ask"],
            5,
            (
                "trio-acp: --permissions ask: there is no terminal to ask at, so everything is denied\n"
                "trio-acp: the agent refused, after this was not permitted: Look\n"
            ),
        ),
        ("stop refusal", [], 0, ""),
        ("stop cancelled", [], 1, "trio-acp: the agent stopped the turn\n"),
        ("error -32603 no", [], 1, "trio-acp: session/prompt: no (-32603)\n"),
    ],
)
def test_code_5_needs_a_denied_permission_and_a_turn_that_went_wrong(
    run: Run, script: str, options: list[str], code: int, err: str
) -> None:
    """The code is 5 exactly if a permission was not given and the turn then failed or was refused."""
    got, _, said = run(script, *options, "--format", "quiet")
    assert (code, err) == (got, said)


def test_an_unusual_end_is_noted(run: Run) -> None:
    """In the text form a stop reason other than end_turn is shown."""
    assert (0, "hi\n", "the agent ended with: max_tokens\n") == run("say hi; stop max_tokens")


def test_a_session_is_created_and_then_resumed(run: Run, tmp_path: Path) -> None:
    """With --session the second call goes on where the first one ended; the store is private."""
    stdio = f"{STDIO} --state-dir {shlex.quote(str(tmp_path / 'state'))}"
    first = run("history", "--session", "k", "--format", "quiet", stdio=stdio)
    second = run("history", "--session", "k", "--format", "quiet", stdio=stdio)
    other = run("history", "--session", "k", "--store", str(tmp_path / "s.db"), "--format", "quiet", stdio=stdio)
    assert (0, "I remember 0 earlier turns; this session is new.\n", "") == first == other
    assert (0, "I remember 1 earlier turns; this session is resumed.\n", "") == second
    assert 0o700 == stat.S_IMODE((tmp_path / "config").stat().st_mode)
    assert 0o600 == stat.S_IMODE((tmp_path / "config" / "sessions.db").stat().st_mode)


def test_where_sessions_are_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """TRIO_ACP_HOME, XDG_STATE_HOME and the home directory decide, in this order; --help tells."""
    monkeypatch.delenv("TRIO_ACP_HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    shown = []
    for name, value in [("", ""), ("XDG_STATE_HOME", "/x%s"), ("TRIO_ACP_HOME", "/t")]:
        if name:
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            main(["prompt", "--help"])
        shown.append(capsys.readouterr().out.partition("are kept (default: ")[2].partition(")")[0])
    assert ["~/.local/state/trio-acp/sessions.db", "/x%s/trio-acp/sessions.db", "/t/sessions.db"] == shown


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["hi"],
        ["hi", "--url", "ws://x", "--stdio", "x"],
        ["hi", "--stdio", "x", "--timeout", "0"],
        ["hi", "--stdio", "x", "--timeout", "soon"],
        ["hi", "--stdio", "x", "--header", "K: V"],
        ["hi", "--stdio", "x", "--token-file", "f"],
        ["hi", "--url", "ws://x", "--header", "novalue"],
        ["hi", "--url", "ws://x", "--token", "sesame"],
        ["hi", "--stdio", "x", "--store", "s.db"],
        ["hi", "--stdio", "x", "--session", " "],
        ["hi", "--stdio", "x", "--cwd", "/no/such/directory"],
        [" ", "--stdio", "x"],
        ["hi", "--stdio", "x", "--format", "yaml"],
        ["hi", "--stdio", "x", "--frobnicate"],
    ],
)
def test_wrong_usage(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be meant is wrong usage, code 2, before anything is started."""
    with pytest.raises(SystemExit) as exit_:
        main(["prompt", *args])
    said = capsys.readouterr()
    assert (2, "") == (exit_.value.code, said.out)
    assert said.err.startswith("usage: trio-acp prompt ")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--url", "http://x"], "--url http://x: the WebSocket URL must begin with ws:// or wss://"),
        (["--url", "ws://127.0.0.1:99999/acp"], "--url ws://127.0.0.1:99999/acp: the WebSocket URL has a malformed"),
        (["--url", "ws://me:s?sam@x/acp"], "--url ws://...@x/acp: the WebSocket URL "),
        (["--url", "http://x/?token=sesame"], "--url http://x/: "),
        (["--url", "ws://x", "--header", "K: \u00e4"], ""),
        (["--stdio", ""], "--stdio: the command is empty\n"),
        (["--stdio", "'x"], "--stdio: No closing quotation\n"),
    ],
)
def test_an_address_that_cannot_be(args: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    """An impossible address is wrong usage too, in one line, with the option and its value but for secrets."""
    assert 2 == main(["prompt", "hi", *args])
    said = capfd.readouterr()
    assert "" == said.out
    assert said.err.startswith(f"trio-acp: {message}")
    assert 1 == said.err.count("\n")
    assert "sam" not in said.err


@pytest.mark.parametrize(
    ("stdio", "message"),
    [
        ("cat", "--stdio 'cat': it echoes what it gets; it is no ACP agent"),
        ("echo hi", "--stdio 'echo hi': the connection ended before it was ready: agent exited with code 0; is it an"),
        ("false", "--stdio 'false': the connection ended before it was ready: agent exited with code 1; is it an ACP"),
        (f"{STDIO} --protocol-version 7", f"--stdio {STDIO + ' --protocol-version 7'!r}: the agent speaks version 7"),
        ("/", "--stdio: cannot start '/': Permission denied"),
    ],
)
def test_a_program_that_is_no_agent(run: Run, stdio: str, message: str) -> None:
    """The line names the command, and what it seems to be; the code is 1."""
    code, out, err = run("hi", stdio=stdio)
    assert (1, "", 1) == (code, out, err.count("\n"))
    assert err.startswith(f"trio-acp: {message}")


def test_the_agent_works_where_it_is_told_to(run: Run, tmp_path: Path) -> None:
    """--cwd is made absolute and given to the session."""
    code = run("hi", "--cwd", os.path.relpath(tmp_path), "--session", "k")[0]
    assert 0 == code
    with contextlib.closing(sqlite3.connect(tmp_path / "config" / "sessions.db")) as database:
        assert [(str(tmp_path.resolve()),)] == database.execute("select cwd from sessions").fetchall()


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("permission! Write", 5),
        ("permission Write; error -32603 I was not allowed to", 5),
        ("permission Write; crash 3", 1),
        ("permission Write; say I went on without", 0),
    ],
)
def test_a_denial_is_blamed_only_for_what_came_of_it(run: Run, script: str, code: int) -> None:
    """Exit code 5 means: refused or failed with an answer after a denial; a crash after one is a crash."""
    assert code == run(script)[0]


@pytest.mark.parametrize(
    ("stdio", "reason"),
    [
        (STDIO, "the agent refused the session: session/resume: There is no such session (-32002)"),
        (f"{STDIO} --no-load --no-resume", "the agent can neither resume nor load sessions"),
    ],
    ids=["forgotten", "not offered"],
)
def test_a_session_that_cannot_be_resumed_is_not_passed_off_as_the_old_one(run: Run, stdio: str, reason: str) -> None:
    """One line says that the conversation begins anew, and why: the agent has forgotten it, or resumes none."""
    line = f"the conversation begins anew: {reason}\n"
    for expected in ("", line):
        code, out, err = run("history", "--session", "k", stdio=stdio)
        assert (0, expected) == (code, err)
        assert "this session is new" in out


async def test_text_that_the_locale_cannot_write() -> None:
    """With an ASCII standard output nothing crashes: what cannot be written is escaped."""
    env = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = await run_cli("prompt", "think gr\u00fcn; say \u00e4\u20ac; error -32603 \u00fc", "--stdio", STDIO, env=env)
    assert (1, b"\\xe4\\u20ac\n") == (done.returncode, done.stdout)
    assert b"thinking: gr\\xfcn\ntrio-acp: session/prompt: \\xfc (-32603)\n" == done.stderr


async def test_bytes_that_are_no_text_can_be_a_prompt() -> None:
    """Standard input that is not UTF-8 is sent with replacement characters."""
    done = await run_cli("prompt", "-", "--stdio", STDIO, stdin=b"a\xffb")
    assert (0, "You said: a\ufffdb\n".encode()) == (done.returncode, done.stdout)


async def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    """When nobody reads standard output any more, the turn is stopped and nothing is complained about."""
    async with started_cli("prompt", "chunks 100000 x every=0.001", "--stdio", STDIO) as process:
        assert b"x 1" == (await read_until(process.stdout, b"x 1"))[:3]
        assert process.stdout is not None
        await process.stdout.aclose()
        assert b"" == await read_all(process.stderr)
        assert 141 == await process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_cancels_the_turn(number: signal.Signals) -> None:
    """After a signal the agent is told to stop, the outcome is shown, a line says so, and the code is 130."""
    async with started_cli("prompt", "say hi; hang", "--stdio", STDIO, "--format", "json") as process:
        out = await read_until(process.stdout, b"\n")
        process.send_signal(number)
        out += await read_all(process.stdout)
        said = b"trio-acp: interrupted; the turn was stopped\n"
        assert (130, said) == (await process.wait(), await read_all(process.stderr))
    assert ["text_delta", "outcome"] == [line["type"] for line in json_lines(out)]
    assert ("stopped", "caller") == (json_lines(out)[-1]["outcome"], json_lines(out)[-1]["by"])


async def test_a_signal_before_there_is_a_turn_is_told_apart(tmp_path: Path) -> None:
    """Nothing was asked of an agent that was not ready yet."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    mute = shlex.join(["sh", "-c", f"echo > {fifo}; exec cat > /dev/null"])
    async with started_cli("prompt", "hi", "--stdio", mute) as process:
        await trio.to_thread.run_sync(fifo.read_bytes, abandon_on_cancel=True)  # which waits until the agent runs
        process.send_signal(signal.SIGINT)
        said = b"trio-acp: interrupted before the turn began\n"
        assert (130, said) == (await process.wait(), await read_all(process.stderr))


async def test_a_second_signal_leaves_at_once() -> None:
    """An agent that does not stop is waited for; a second signal does not wait, and no process stays."""
    script = "ignore-cancel 60; say hi; hang"
    agent = [
        sys.executable,
        "-c",
        f"import os, sys; sys.stderr.write(str(os.getpid())); os.execv({AGENT[0]!r}, {AGENT!r})",
    ]
    async with started_cli("prompt", script, "--stdio", shlex.join(agent)) as process:
        assert b"hi" == await read_until(process.stdout, b"hi")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        pids = [int(pid) for pid in children.read_text().split()] if children.exists() else []
        began = trio.current_time()
        process.send_signal(signal.SIGINT)
        # Two signals that come together may count as one, so it is repeated until it is heard.
        while process.returncode is None:
            process.send_signal(signal.SIGINT)
            with trio.move_on_after(0.05):
                await process.wait()
        assert 130 == process.returncode
        assert 1.9 > trio.current_time() - began
    for pid in pids:
        await wait_gone(pid)
