"""``trio-acp sessions`` and ``status`` as processes: what they show, change and export, and how they refuse."""

from __future__ import annotations

import functools
import json
import os
import shlex
import signal
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.cli_kit import AGENT, json_lines, run_cli, started_cli
from trio_acp import Identity, Owner, SessionRecord, SQLiteLedger, SQLiteStore, TaskRecord
from trio_acp._owner import current_owner

if TYPE_CHECKING:
    import subprocess

DEAD = Owner(pid=2**22 + 1, start_time=1, boot_id="gone", manager_id="m")


def put(record: SessionRecord, _: SessionRecord | None) -> SessionRecord:
    """Store a session in place of whatever there is."""
    return record


class Home:
    """A store of its own, and an agent that remembers its sessions beside it."""

    def __init__(self, place: Path) -> None:
        self.store = place / "config" / "sessions.db"
        self.agent = shlex.join([*AGENT, "--state-dir", str(place / "agent")])
        self.forgetful = shlex.join([*AGENT, "--no-load", "--state-dir", str(place / "agent")])

    async def run(self, *args: str, **env: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command with this store."""
        home = {"TRIO_ACP_HOME": str(self.store.parent), "COLUMNS": "80"}
        return await run_cli(*args, env={**home, **env})

    async def prompt(self, text: str, key: str, *options: str) -> None:
        """Run a turn, which ends well."""
        done = await self.run("prompt", text, "--session", key, "--stdio", self.agent, "--format", "quiet", *options)
        assert (0, b"") == (done.returncode, done.stderr)

    async def out(self, *args: str, code: int = 0) -> str:
        """Return what a command that ends well, or with `code`, says on standard output, or else on standard error."""
        done = await self.run(*args)
        assert code == done.returncode, done.stderr
        return (done.stderr if code else done.stdout).decode()

    async def put(self, *records: SessionRecord) -> None:
        """Store sessions."""
        async with SQLiteStore(self.store) as store:
            for record in records:
                await store.update(record.key, functools.partial(put, record))

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the file."""
        with closing(sqlite3.connect(self.store)) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


async def test_reading_makes_no_file(home: Home) -> None:
    """Where nothing was stored, the commands say so and leave no file."""
    assert f"no sessions are stored in {home.store}: no file yet\n" == await home.out("sessions", "list")
    assert "" == await home.out("sessions", "list", "--format", "json")
    assert "no file yet" in await home.out("status")
    for command in (("sessions", "show"), ("sessions", "export"), ("sessions", "close"), ("status",)):
        assert f"trio-acp: there is no session 'k' in {home.store}\n" == await home.out(*command, "k", code=4)
    assert not home.store.exists()


async def test_a_missing_session_has_exit_code_4_and_its_nearest_names(home: Home) -> None:
    """The message names what may have been meant; what has nothing in common is not suggested."""
    await home.put(SessionRecord(key="refactoring", agent="a"), SessionRecord(key="docs\x1b[2J", agent="a"))
    assert "did you mean refactoring?" in await home.out("sessions", "show", " Refactorin ", code=4)
    assert "did you mean docs\\u001b[2J?" in await home.out("status", "docs", code=4)
    assert "sessions list shows all" in await home.out("sessions", "close", "zzz", code=4)


async def test_the_list_is_aligned_and_fits(home: Home) -> None:
    """A line for each session, columns below each other; control characters are shown, not sent."""
    await home.put(
        SessionRecord(key="a\x1b]52;c;eA==\x07", agent="a", cwd="/" + "deep/" * 40 + "end"),
        SessionRecord(key="running", agent="a", state="running", owner=DEAD, cwd="/r"),
        SessionRecord(key="wide \u6f22\u5b57", agent="a", state="error", last_error="x", owner=current_owner("m")),
    )
    lines = (await home.out("sessions", "list")).splitlines()
    assert ["SESSION", "STATE", "ACTIVE", "OPEN", "IN", "DIRECTORY"] == lines[0].split()
    assert [True] * 4 == [len(line) <= 80 for line in lines]
    assert lines[1].endswith("deep/end")
    at = lines[0].index("STATE")
    assert ["closed", "interrupted", "error"] == [
        lines[1][at:].split()[0],
        lines[2][at:].split()[0],
        lines[3][at - 2 :].split()[0],  # two characters take two columns each
    ]
    assert "process 4194305, dead" in lines[2]
    assert f"process {os.getpid()} " in lines[3] + " "
    values = json_lines((await home.out("sessions", "list", "--format", "json")).encode())
    assert ["closed", "interrupted", "error"] == [value["state"] for value in values]
    assert [None, False, True] == [value["owner"] and value["owner"]["alive"] for value in values]


async def test_show_tells_what_is_stored(home: Home) -> None:
    """Every fact has its line; JSON has the same in one object."""
    await home.put(
        SessionRecord(key="k", agent="codex", cwd="/repo", label="Tests", requester="main", last_error="no\x1b[1m")
    )
    text = await home.out("sessions", "show", "K")
    for name, value in (("label", "Tests"), ("last error", "no\\u001b[1m"), ("works for", "main")):
        assert [value] == [line.removeprefix(name).strip() for line in text.splitlines() if line.startswith(name + " ")]
    [told] = json_lines((await home.out("sessions", "show", "k", "--format", "json")).encode())
    assert ("k", "codex", "/repo", 0) == tuple(told[name] for name in ("key", "agent", "cwd", "recorded_turns"))


SCRIPT = "say Hello; tool Read it kind=read; tool Write *it* kind=edit; permission Delete; plan a|b; say end"


async def test_a_recorded_session_is_exported(home: Home, tmp_path: Path) -> None:
    """``--record`` keeps each turn; Markdown and JSON lines come from it without an agent."""
    await home.prompt(SCRIPT, "k", "--record")
    await home.prompt("say more", "k", "--record")
    document = await home.out("sessions", "export", "k")
    assert document.startswith("# k\n")
    assert 2 == document.count("\n## Turn ")
    assert 2 == document.count("*Completed*")
    assert f"> **You:** {SCRIPT}\n" in document
    assert "- **read**: Read it, completed\n- **edit**: Write \\*it\\*, completed" in document
    assert "- permission denied: Delete (everything is denied)" in document
    lines = json_lines((await home.out("sessions", "export", "k", "--format", "jsonl")).encode())
    assert {"k"} == {line["session"] for line in lines}
    assert ["prompt", "prompt"] == [line["type"] for line in lines if line["seq"] == 0]
    assert ["outcome", "outcome"] == [line["type"] for line in lines if line["type"] == "outcome"]
    target = tmp_path / "out.md"
    target.write_text("old")
    assert "is there already; --force" in await home.out("sessions", "export", "k", "--output", str(target), code=1)
    assert "old" == target.read_text()
    done = await home.run("sessions", "export", "k", "--output", str(target), "--force")
    assert (0, b"", f"wrote {target} (2 turns)\n") == (done.returncode, done.stdout, done.stderr.decode())
    assert (document, 0o600) == (target.read_text(), stat.S_IMODE(target.stat().st_mode))
    assert [target.name] == [path.name for path in tmp_path.iterdir() if path.is_file()]


async def test_what_was_not_recorded_is_replayed_by_the_agent(home: Home) -> None:
    """Without a transcript, an agent that loads sessions tells it; without either, the remedy is named."""
    await home.prompt("say Hello", "k")
    assert "--record" in await home.out("sessions", "export", "k", code=1)
    document = await home.out("sessions", "export", "k", "--stdio", home.agent)
    assert "## Turn 1\n\n> **You:** say Hello\n\nHello" in document
    assert "replays nothing" in await home.out("sessions", "export", "k", "--stdio", home.forgetful, code=1)
    lines = json_lines((await home.out("sessions", "export", "k", "--format", "jsonl", "--stdio", home.agent)).encode())
    assert [("prompt", "say Hello"), ("text_delta", "Hello")] == [(line["type"], line["text"]) for line in lines]
    [(stored,)] = home.query("SELECT session_id FROM sessions")
    assert stored is not None  # looking at it changed nothing: the conversation can go on


async def test_closing_begins_anew_and_forgetting_deletes_all_but_the_audit(home: Home) -> None:
    """``close`` keeps the entry and the transcript; ``--forget`` keeps neither; the audit stays."""
    await home.prompt("permission A", "k", "--record")
    assert "closed: k\n" == await home.out("sessions", "close", "k", "--stdio", home.agent)
    assert "closed" in (await home.out("sessions", "list")).splitlines()[1].split()
    assert "begins a conversation" in await home.out("sessions", "show", "k")
    assert "forgotten: k, with 1 recorded turn\n" == await home.out("sessions", "close", "k", "--forget")
    assert ([], []) == (home.query("SELECT * FROM sessions"), home.query("SELECT * FROM transcript"))
    assert [("k", "deny")] == home.query("SELECT session, decision FROM audit")


async def test_a_session_in_use_is_left_alone(home: Home) -> None:
    """What a live process has open is neither closed nor asked for; the message names the process."""
    record = SessionRecord(key="k", agent="a", owner=current_owner("m"), state="running")
    await home.put(record)
    for args in (("sessions", "close", "k"), ("sessions", "close", "k", "--forget")):
        assert f"process {os.getpid()}" in await home.out(*args, code=1)
    assert [("k",)] == home.query("SELECT key FROM sessions")
    assert f"process {os.getpid()}" in await home.out("status", "k", "--stdio", home.agent, code=1)


async def test_status_tells_errors_tasks_and_permissions(home: Home) -> None:
    """The whole store, and one session, offline; the agent is asked only if it is named."""
    await home.prompt("permission A", "k", "--record")
    await home.put(SessionRecord(key="bad", agent="a", state="error", last_error="it broke", last_activity=5.0))
    async with SQLiteLedger(home.store) as ledger:
        await ledger.put(TaskRecord(run_id="r", requester="main", session="k", task="do the thing", started=7e9))
    text = await home.out("status")
    assert "2: 1 error, 1 idle" in text
    assert "bad: it broke" in text
    assert "do the thing" in text
    text = await home.out("status", "k")
    assert ["deny"] == [line.split()[0] for line in text.splitlines() if line.endswith("everything is denied")]
    assert "asked now" not in text
    asked = await home.out("status", "k", "--stdio", home.agent)
    assert "asked now    connected" in asked
    assert "trio-acp-scripted-agent" in asked
    [value] = json_lines((await home.out("status", "k", "--format", "json", "--stdio", home.agent)).encode())
    assert ("connected", 1, ["deny"], ["r"]) == (
        value["asked"]["summary"],
        value["recorded_turns"],
        [one["decision"] for one in value["permissions"]],
        [one["run_id"] for one in value["tasks"]],
    )
    [value] = json_lines((await home.out("status", "--format", "json")).encode())
    assert ["bad", "k"] == [one["key"] for one in value["sessions"]]


@pytest.mark.parametrize("form", ["text", "json"])
async def test_status_tells_what_is_stored_also_if_the_agent_cannot_be_asked(home: Home, form: str) -> None:
    """First what is known without it, and then why it was not asked."""
    await home.put(SessionRecord(key="k", agent="codex", cwd="/repo", identity=Identity(session_id="s")))
    done = await home.run("status", "k", "--stdio", "false", "--format", form)
    assert b"/repo" in done.stdout
    [why] = done.stderr.decode().splitlines()
    assert (1, True) == (done.returncode, why.startswith("trio-acp: the agent was not asked: --stdio 'false'"))
    if form == "json":
        [value] = json_lines(done.stdout)
        assert why.endswith(value["not_asked"])
    done = await home.run("status", "k", "--url", "ws://127.0.0.1:1/acp")
    assert b"nobody listens there: start the server" in done.stderr


async def test_the_usual_agent_is_asked_and_told(home: Home) -> None:
    """``close``, ``export`` and ``status --ask`` take the configured agent if none is named, and do without it."""
    await home.prompt("say Hello", "k")
    await home.prompt("say Hello", "other")
    config = home.store.parent / "config.toml"
    config.write_text(f"[defaults]\nagent = 'mine'\n[agents.mine]\nstdio = {json.dumps(shlex.split(home.agent))}\n")
    assert "asked now" not in await home.out("status", "k")
    assert "asked now    connected" in await home.out("status", "k", "--ask")
    assert "> **You:** say Hello" in await home.out("sessions", "export", "k")
    done = await home.run("sessions", "close", "k")
    assert (b"closed: k\n", b"") == (done.stdout, done.stderr)
    config.write_text("[defaults]\nagent = 'mine'\n[agents.mine]\nstdio = 'false'\n")
    lost = await home.out("sessions", "export", "other", code=1)
    assert lost.startswith("trio-acp: nothing was recorded of session 'other', and the agent cannot replay it: --agent")
    assert "--stdio 'false'" in await home.out("sessions", "close", "other", "--stdio", "false", code=1)
    done = await home.run("sessions", "close", "other")
    assert (0, b"closed: other\n") == (done.returncode, done.stdout)
    assert done.stderr.startswith(b"trio-acp: the agent was not told: --agent mine: ")


async def test_closing_tells_the_usual_agent(home: Home, tmp_path: Path) -> None:
    """It hears session/close of the stored session, not only this side."""
    await home.prompt("say Hello", "k")
    [(stored,)] = home.query("SELECT session_id FROM sessions")
    log = tmp_path / "heard"
    tee = ["sh", "-c", f"tee {shlex.quote(str(log))} | {home.agent}"]
    config = home.store.parent / "config.toml"
    config.write_text(f"[defaults]\nagent = 'mine'\n[agents.mine]\nstdio = {json.dumps(tee)}\n")
    assert "closed: k\n" == await home.out("sessions", "close", "k")
    heard = [json.loads(line) for line in log.read_text().splitlines()]
    assert [stored] == [one["params"]["sessionId"] for one in heard if one.get("method") == "session/close"]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("sessions",), 2, "COMMAND"),
        (("sessions", "show"), 2, "KEY"),
        (("sessions", "show", " "), 2, "KEY is empty"),
        (("sessions", "list", "--store", "/"), 2, "--store / is a directory"),
        (("status", "--store", "~nobody-has-it/x"), 2, "--store ~nobody-has-it/x: there is no such home"),
        (("sessions", "export", "k", "--format", "pdf"), 2, "'pdf'"),
        (("sessions", "close", "k", "--token-file", "x"), 2, "need --url"),
        (("status", "k", "--engine", "websockets"), 2, "need --url"),
        (("status", "--stdio", "x"), 2, "KEY is missing"),
        (("prompt", "x", "--record", "--stdio", "x"), 2, "--record needs --session"),
    ],
)
async def test_misuse_is_told_in_one_line(home: Home, args: tuple[str, ...], code: int, said: str) -> None:
    """The line names the option, and the exit code says whose fault it is."""
    assert said in (await home.out(*args, code=code)).splitlines()[-1]


async def test_what_cannot_be_exported_is_told_in_one_line(home: Home) -> None:
    """A file that cannot be written, an agent that is none, and a session that was never opened are named."""
    await home.prompt("say a", "k", "--record")
    await home.prompt("say a", "plain")
    await home.put(SessionRecord(key="new", agent="a"))
    for args, said in (
        (("k", "--output", "/nowhere/x"), "--output /nowhere/x: No such file"),
        (("plain", "--stdio", "false"), "--stdio 'false'"),
        (("new", "--stdio", "false"), "has no conversation"),
    ):
        [line] = (await home.out("sessions", "export", *args, code=1)).splitlines()
        assert said in line


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ("last_activity = 'x'", 1, "row 'k', column last_activity: 'x' is not a number"),
        ("owner_pid = 'x'", 1, "row 'k', column owner_pid: 'x' is not a whole number"),
        ("last_activity = 9e999", 0, "k"),
        ("last_activity = 1e300", 0, "k"),
    ],
)
async def test_a_damaged_row_is_told_in_one_line(home: Home, change: str, code: int, said: str) -> None:
    """SQLite keeps any type in a column, and a time may be one that no calendar has."""
    await home.put(SessionRecord(key="k", agent="a"))
    with closing(sqlite3.connect(home.store)) as connection, connection:
        connection.execute(f"UPDATE sessions SET {change}")  # noqa: S608 - fixed
    text = await home.out("status", "k", code=code)
    assert said in text
    assert (code == 0) or 1 == len(text.splitlines())


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the thread in /proc")
async def test_ctrl_c_ends_the_wait_for_whoever_should_read_an_export(home: Home, tmp_path: Path) -> None:
    """Opening a FIFO waits for its reader; that is done in a thread, which is left behind."""
    await home.prompt("say a", "k", "--record")
    os.mkfifo(tmp_path / "fifo")
    args = ("sessions", "export", "k", "--output", str(tmp_path / "fifo"))
    async with started_cli(*args, env={"TRIO_ACP_HOME": str(home.store.parent)}) as process:
        threads = Path(f"/proc/{process.pid}/task")
        while not any(b"write_private" in comm.read_bytes() for comm in threads.glob("*/comm")):  # noqa: ASYNC110 - /proc tells no event
            await trio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert 130 == await process.wait()


@pytest.mark.parametrize(
    "command", ["sessions", "sessions list", "sessions show", "sessions close", "sessions export", "status"]
)
async def test_help_fits_a_terminal(home: Home, command: str) -> None:
    """At most 24 lines of 80 columns, with an example."""
    text = await home.out(*command.split(), "--help")
    lines = text.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert f"  trio-acp {command}" in text


async def test_no_secret_gets_into_the_store(home: Home, tmp_path: Path) -> None:
    """What the process was given besides the prompt, in its environment and its token file, is in no table."""
    token = tmp_path / "token"
    token.write_text("SENTINEL" * 8)
    await home.run(
        "prompt", "say a", "--session", "k", "--record", "--url", "ws://127.0.0.1:9/acp", "--token-file", str(token)
    )
    done = await home.run(
        "prompt", "permission A", "--session", "k", "--record", "--stdio", home.agent, MY_KEY="SENTINEL"
    )
    assert 0 == done.returncode
    dumped = json.dumps([home.query(f"SELECT * FROM {name}") for name in ("sessions", "tasks", "audit", "transcript")])  # noqa: S608 - fixed
    assert "SENTINEL" not in dumped
    assert "permission A" in dumped
