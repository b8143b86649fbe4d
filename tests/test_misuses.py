"""What people do wrong on the command line, and the line that tells them what to do instead."""

from __future__ import annotations

import json
import os
import shlex
import sys
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from trio_acp.cli import main

if TYPE_CHECKING:
    from pathlib import Path

UNKNOWN_KEY = "[agents.mine]\nstdoi = 'x'\n"
ONE: Final = {"id": "a", "version": "1.0.0", "distribution": {"npx": {"package": "p"}}}


@attrs.frozen
class Misuse:
    """A wrong command line.

    Attributes:
        argv: As a shell splits it; ``{tmp}`` is the test's own directory, where the files are.
        code: The exit code.
        line: The last line on standard error, without the program's name and, for wrong usage, the command's.
        files: What is in the directory, by name.
    """

    argv: str
    code: int
    line: str
    files: dict[str, str] = attrs.field(factory=dict)


def config(argv: str, text: str, line: str) -> Misuse:
    """Return a misuse of the configuration file."""
    return Misuse(f"{argv} --config {{tmp}}/c.toml", 2, f"{{tmp}}/c.toml: {line}", {"c.toml": text})


def registry(value: object, line: str) -> Misuse:
    """Return the import of a registry that is not one."""
    text = value if isinstance(value, str) else json.dumps(value)
    return Misuse("agents import {tmp}/r.json", 2, f"{{tmp}}/r.json: {line}", {"r.json": text})


def agent(**members: object) -> dict[str, object]:
    """Return a registry with one agent."""
    return {"agents": [{"id": "a", "version": "1.0.0", **members}]}


NOBODY: Final = "nobody listens there: start the server, or correct the host and the port"
REFUSED: Final = "cannot connect: Connection refused"
COMMANDS: Final = "demo, prompt, chat, serve, sessions, status, agents, doctor, explore, timeline"

MISUSES: Final = [
    # -- words that are nearly right
    Misuse("promt hi", 2, f"argument COMMAND ...: 'promt' is none of {COMMANDS}; did you mean prompt?"),
    Misuse("zzz", 2, f"argument COMMAND ...: 'zzz' is none of {COMMANDS}"),
    Misuse("sessions lst", 2, "argument COMMAND: 'lst' is none of list, show, close, export; did you mean list?"),
    Misuse("agents imprt x", 2, "argument action: 'imprt' is none of list, import; did you mean import?"),
    Misuse("sessions export k --forse", 2, "unrecognized arguments: --forse; did you mean --force?"),
    Misuse("prompt hi --stdio x --sesion=k", 2, "unrecognized arguments: --sesion=k; did you mean --session?"),
    Misuse("--verison", 2, "unrecognized arguments: --verison; did you mean --version?"),
    Misuse("agents --formt json", 2, "unrecognized arguments: --formt; did you mean --format?"),
    Misuse("agents --formt=json lst", 2, "unrecognized arguments: --formt=json; did you mean --format?"),
    Misuse("agents --format json lst", 2, "argument action: 'lst' is none of list, import; did you mean list?"),
    Misuse("status --log-fle x", 2, "unrecognized arguments: --log-fle; did you mean --log-file?"),
    Misuse("prompt hi --stdio x --sesion k", 2, "unrecognized arguments: --sesion k; did you mean --session?"),
    # -- where sessions are kept
    Misuse("prompt hi --session k --stdio x --store /", 2, "--store / is a directory; name the file in it"),
    Misuse("chat --stdio x --store /", 2, "--store / is a directory; name the file in it"),
    Misuse("demo --store /", 2, "--store / is a directory; name the file in it"),
    *(
        Misuse(f"{command} --store {{tmp}}/fifo", 2, "--store {tmp}/fifo is a device or a pipe; name a file")
        for command in ("prompt hi --session k --stdio x", "sessions list", "status")
    ),
    Misuse(
        "prompt hi --session k --stdio x --store {tmp}/f/s.db",
        1,
        "cannot open {tmp}/f/s.db: cannot create {tmp}/f/s.db: Not a directory; --store names another file",
        {"f": ""},
    ),
    Misuse(
        "sessions list --store {tmp}/f",
        1,
        "cannot list in {tmp}/f: file is not a database; --store names another file",
        {"f": "this is a text, and longer than the head of a database file: " * 20},
    ),
    # -- which agent
    Misuse("prompt hi --url ws://127.0.0.1:1/acp", 1, f"ws://127.0.0.1:1/acp: {REFUSED}; {NOBODY}"),
    Misuse("chat --url ws://127.0.0.1:1/acp", 1, f"ws://127.0.0.1:1/acp: {REFUSED}; {NOBODY}"),
    Misuse(
        "prompt hi --config {tmp}/c.toml",
        2,
        "{tmp}/c.toml: defaults.agent: no agent has the name 'loacl' (did you mean local?); "
        '"trio-acp agents" lists them',
        {"c.toml": "[agents.local]\nstdio = 'x'\n[defaults]\nagent = 'loacl'\n"},
    ),
    Misuse(
        "prompt hi",
        2,
        'say which agent: --agent NAME, --stdio "CMD ARG ..." or --url URL; '
        "or name one under [defaults] in {tmp}/config/config.toml",
    ),
    Misuse(
        "doctor",
        2,
        'say which agent: --agent NAME, --stdio "CMD ARG ..." or --url URL; '
        "or name one under [defaults] in {tmp}/config/config.toml",
    ),
    Misuse("prompt hi --agent x --stdio y", 2, "argument --stdio: not allowed with argument --agent"),
    Misuse("prompt hi --url ws://h --stdio y", 2, "argument --stdio: not allowed with argument --url"),
    Misuse(
        "prompt hi --agent gemni",
        2,
        "--agent: no agent has the name 'gemni' (did you mean gemini?); \"trio-acp agents\" lists them",
    ),
    Misuse("doctor --agent zzz", 2, "--agent: no agent has the name 'zzz'; \"trio-acp agents\" lists them"),
    Misuse("prompt hi --stdio ''", 2, "--stdio: the command is empty"),
    Misuse('prompt hi --stdio "\'x"', 2, "--stdio: No closing quotation"),
    Misuse("prompt hi --stdio /no/such/program", 1, "--stdio: there is no program '/no/such/program'"),
    Misuse(
        "prompt hi --url http://h", 2, "--url http://h: the WebSocket URL must begin with ws:// or wss://, not 'http'"
    ),
    Misuse("doctor --url ws://h:99999/", 2, "--url ws://h:99999/: the WebSocket URL has a malformed host or port"),
    Misuse(
        "doctor --url ws://me:sesame@h/",
        2,
        "--url ws://...@h/: the WebSocket URL must not hold a user name or password; pass a token file or a header",
    ),
    Misuse("prompt hi --stdio x --token-file f", 2, "--token-file, --header and --engine need --url"),
    Misuse("prompt hi --agent x --engine websockets", 2, "--token-file, --header and --engine need --url"),
    Misuse(
        "prompt hi --url ws://h --engine curl",
        2,
        "argument --engine: 'curl' is none of trio-websocket, websockets",
    ),
    Misuse("prompt hi --url ws://h --header novalue", 2, "argument --header: a header is written 'Name: value'"),
    Misuse("doctor --url ws://h --ca-file f", 2, "--ca-file needs a --url that begins with wss://"),
    Misuse("doctor --url wss://h --ca-file {tmp}/f", 2, "--ca-file {tmp}/f: No such file or directory"),
    Misuse(
        "doctor --url wss://h --ca-file {tmp}/f",
        2,
        "--ca-file {tmp}/f: there is no certificate in PEM form in it",
        {"f": "hello"},
    ),
    Misuse(
        "doctor --url ws://example.org/acp --token-file {tmp}/f",
        2,
        "--url ws://example.org/acp: a token is not sent to another machine unencrypted: use wss://",
        {"f": "t"},
    ),
    # -- prompt
    Misuse("prompt --stdio x", 2, "the following arguments are required: TEXT"),
    Misuse("prompt ' ' --stdio x", 2, "the prompt is empty"),
    Misuse("prompt hi --stdio x --timeout 0", 2, "argument --timeout: not a number of seconds above 0: '0'"),
    Misuse("prompt hi --stdio x --store s.db", 2, "--store needs --session"),
    Misuse("prompt hi --stdio x --session ' '", 2, "--session needs a name"),
    Misuse("prompt hi --stdio x --cwd /no/such", 2, "--cwd: there is no directory /no/such"),
    Misuse(
        "prompt say hi --stdio x", 2, "unrecognized arguments: hi; a prompt of several words is one argument: quote it"
    ),
    Misuse(
        f"prompt hi --stdio '{sys.executable} -m trio_acp.testing.agent --auth'",
        1,
        "the agent wants to be authenticated first; it offers: token, browser; "
        "set auth_method in the configuration file, or log in with the agent's own command first",
    ),
    Misuse("timeline /no/such", 1, "/no/such: No such file or directory"),
    Misuse("prompt hi --stdio x --frobnicate", 2, "unrecognized arguments: --frobnicate"),
    # -- doctor
    Misuse("doctor --stdio x --cwd /no/such", 2, "--cwd: there is no directory /no/such"),
    Misuse("doctor --stdio x --timeout soon", 2, "argument --timeout: not a number of seconds above 0: 'soon'"),
    # -- serve
    Misuse("serve -- x", 2, "the following arguments are required: --port"),
    Misuse("serve --port 0 -- /no/such/program", 1, "there is no program '/no/such/program'"),
    Misuse("serve --port 99999 -- x", 2, "argument --port: not a port number: '99999'"),
    Misuse("serve --port 1 x --acp", 2, "unrecognized arguments: --acp; put -- before the agent's command"),
    Misuse(
        "serve --port 1 --allow-origin example.org -- x",
        2,
        "argument --allow-origin: an origin is written https://host or https://host:port, not 'example.org'",
    ),
    # -- agents
    Misuse("agents import", 2, "import needs a FILE, and list takes none"),
    Misuse("agents list x", 2, "import needs a FILE, and list takes none"),
    Misuse("agents import {tmp}/none.json", 2, "{tmp}/none.json: cannot read it: No such file or directory"),
    registry("{", "it is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    registry([], "$: it must be an object, not an array"),
    registry({"agents": {}}, "$.agents: it must be an array, not an object"),
    registry({"agents": []}, "$.agents: there is no agent in it"),
    registry({"agents": [{}]}, "$.agents[0].id: it is missing"),
    registry(agent(id="A b"), "$.agents[0].id: 'A b' does not have the form of one"),
    registry(agent(), "$.agents[0].distribution: it must be an object, not null"),
    registry(agent(distribution={"x": {}}), "$.agents[0].distribution: it has neither npx nor uvx nor binary"),
    registry(
        agent(distribution={"npx": {"package": 1}}),
        "$.agents[0].distribution.npx.package: it must be a string, not a number",
    ),
    registry(
        agent(distribution={"npx": {"package": "--eval"}}),
        "$.agents[0].distribution.npx.package: '--eval' does not have the form of one",
    ),
    registry(
        agent(distribution={"uvx": {"package": "p", "args": ["a", None]}}),
        "$.agents[0].distribution.uvx.args[1]: it must be a string, not null",
    ),
    registry(
        agent(distribution={"uvx": {"package": "p", "env": {"A=": "b"}}}),
        "$.agents[0].distribution.uvx.env.A=: it must be an environment variable with a string",
    ),
    registry(
        agent(distribution={"binary": {"linux-x86_64": {"cmd": "./a"}}}),
        "$.agents[0].distribution.binary.linux-x86_64.archive: it is missing",
    ),
    registry({"agents": [ONE, ONE]}, "$.agents[1].id: there are two agents a"),
    # -- the configuration file
    Misuse("doctor --config {tmp}/none.toml", 2, "--config {tmp}/none.toml: there is no such file"),
    config("doctor", "[agents", "it is not TOML: Expected ']' at the end of a table declaration (at end of document)"),
    config("doctor", "[agent.x]\n", "agent: there is no such key; did you mean agents?"),
    config("agents", UNKNOWN_KEY, "agents.mine.stdoi: there is no such key; did you mean stdio?"),
    config("prompt hi --stdio x", UNKNOWN_KEY, "agents.mine.stdoi: there is no such key; did you mean stdio?"),
    config("doctor", "[agents.x]\nstdio = 3\n", "agents.x.stdio: it must be a string, not a number"),
    config("doctor", "[agents.x]\nstdio = ['a', 3]\n", "agents.x.stdio[1]: it must be a string, not a number"),
    config("doctor", "[agents.x]\nstdio = []\n", "agents.x.stdio: the command is empty"),
    config("doctor", "[agents.x]\n", "agents.x: it needs either stdio or url"),
    config("doctor", "[agents.'a b']\n", "agents.a b: a name consists of letters, digits, '.', '_' and '-'"),
    config("doctor", "agents = 1\n", "agents: it must be a table, not a number"),
    config(
        "doctor", "[agents.x]\nurl = 'h'\n", "agents.x.url: the WebSocket URL must begin with ws:// or wss://, not ''"
    ),
    config("doctor", "[agents.x]\nstdio = 'a'\ntoken_file = 't'\n", "agents.x.token_file: it needs url"),
    config("doctor", "[agents.x]\nurl = 'ws://h'\ncwd = '/'\n", "agents.x.cwd: it needs stdio"),
    config(
        "doctor",
        "[agents.x]\nurl = 'ws://h'\nheaders = { Authorization = 'Bearer sesame' }\n",
        "agents.x.headers.Authorization: a secret does not belong into this file; use token_file",
    ),
    config(
        "doctor",
        "[agents.x]\nstdio = 'a'\nenv = { OPENAI_API_KEY = 'sesame' }\n",
        "agents.x.env.OPENAI_API_KEY: a secret does not belong into this file; "
        "set it in your environment, which the agent inherits",
    ),
    config(
        "doctor", "[defaults]\ntimeout = true\n", "defaults.timeout: it must be a number of seconds, not true or false"
    ),
    config("doctor", "[defaults]\ntimeout = 0\n", "defaults.timeout: it must be a number of seconds above 0, not 0"),
    config("doctor", "[defaults]\nrecord = 'yes'\n", "defaults.record: it must be true or false, not a string"),
    config(
        "doctor",
        "[defaults]\npermissions = 'yolo'\n",
        "defaults.permissions: it must be ask, deny, approve-reads, approve-all or a file FILE.toml",
    ),
    config(
        "doctor",
        "[agents.x]\nurl = 'ws://h'\nengine = 'curl'\n",
        "agents.x.engine: engine must be trio-websocket or websockets, not 'curl'",
    ),
    config("doctor", "[agents.x]\nstdio = 'x'\nengine = 'websockets'\n", "agents.x.engine: it needs url"),
    config(
        "doctor",
        "[defaults]\nagent = 'zzz'\n",
        "defaults.agent: no agent has the name 'zzz'; \"trio-acp agents\" lists them",
    ),
    Misuse(
        "doctor --agent x --config {tmp}/c.toml",
        2,
        "--agent x: ca_file {tmp}/none.pem: No such file or directory",
        {"c.toml": "[agents.x]\nurl = 'wss://h'\nca_file = 'none.pem'\n"},
    ),
    Misuse(
        "prompt hi --config {tmp}/c.toml",
        2,
        "--agent x: a token is not sent to another machine unencrypted: use wss://",
        {"c.toml": "[defaults]\nagent = 'x'\n[agents.x]\nurl = 'ws://example.org'\ntoken_file = 't'\n"},
    ),
    # -- what an agent may do
    *(
        Misuse(
            f"{command} --stdio true --permissions maybe",
            2,
            "--permissions must be ask, deny, approve-reads, approve-all or a file FILE.toml, not 'maybe'",
        )
        for command in ("prompt hi", "chat")
    ),
    Misuse(
        "prompt hi --stdio true --permissions {tmp}/p.toml",
        2,
        "--permissions {tmp}/p.toml: cannot be read: No such file or directory",
    ),
    Misuse(
        "chat --stdio true --permissions {tmp}/p.toml",
        2,
        "--permissions {tmp}/p.toml: rule 1: unknown key 'paths' (known: action, kind, name, path)",
        {"p.toml": "[[rules]]\naction = 'allow'\npaths = '**'\n"},
    ),
    Misuse(
        "prompt hi --stdio true --allow-terminal no-such-program",
        2,
        "--allow-terminal: there is no program 'no-such-program' on PATH",
    ),
    Misuse(
        "chat --stdio true --allow-terminal ./x",
        2,
        "--allow-terminal: a command is the name of a program, or its absolute path, not './x'",
    ),
    # -- chat, and stored sessions
    Misuse("chat --stdio true --session ' '", 2, "--session needs a name"),
    Misuse("chat --stdio true --cwd /no/such", 2, "--cwd: there is no directory /no/such"),
    Misuse("chat --stdio no-such-program", 1, "--stdio: there is no program 'no-such-program'"),
    Misuse("prompt hi --stdio true --record", 2, "--record needs --session"),
    Misuse("sessions", 2, "the following arguments are required: COMMAND"),
    Misuse("sessions show", 2, "the following arguments are required: KEY"),
    *(
        Misuse(
            f"{command} nobody",
            4,
            "there is no session 'nobody' in {tmp}/config/sessions.db",
        )
        for command in ("sessions show", "sessions close", "sessions export", "status")
    ),
    Misuse(
        "sessions export k --format pdf",
        2,
        "argument --format: 'pdf' is none of markdown, jsonl",
    ),
    Misuse("sessions list --store {tmp}", 2, "--store {tmp} is a directory; name the file in it"),
    Misuse("status --ask --stdio true", 2, "which session the agent is to be asked about: KEY is missing"),
    Misuse(
        "status k --ask",
        2,
        'say which agent: --agent NAME, --stdio "CMD ARG ..." or --url URL; '
        "or name one under [defaults] in {tmp}/config/config.toml",
    ),
    Misuse("status --stdio true", 2, "which session the agent is to be asked about: KEY is missing"),
    # -- explore, and what all commands have
    Misuse("explore --all x", 2, "--all takes no target"),
    Misuse("explore --schedules many", 2, "argument --schedules: not a number of runs: 'many'"),
    Misuse("explore /no/such.py::x", 2, "there is no file /no/such.py"),
    Misuse("demo --log-file {tmp}", 2, "--log-file {tmp}: cannot write it: Is a directory"),
    Misuse("agents --log-file /no/such/log", 2, "--log-file /no/such/log: cannot write it: No such file or directory"),
    Misuse("agents --log-file /dev/null", 2, "--log-file /dev/null: that is no file"),
    Misuse("", 2, "the following arguments are required: COMMAND ..."),
]


@pytest.mark.parametrize("misuse", MISUSES, ids=lambda misuse: f"{misuse.argv} {misuse.line[-30:]}")
def test_a_misuse_is_told_with_what_to_do(
    misuse: Misuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The last line on standard error is exactly this, the exit code too, and nothing is on standard output."""
    monkeypatch.setenv("TRIO_ACP_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("TRIO_ACP_CONFIG", raising=False)
    os.mkfifo(tmp_path / "fifo")  # stands for what is neither a file nor a directory
    for name, text in misuse.files.items():
        (tmp_path / name).write_text(text)
    argv = shlex.split(misuse.argv.format(tmp=tmp_path))
    try:
        code: object = main(argv)
    except SystemExit as exit_:
        code = exit_.code
    said = capfd.readouterr()
    assert "sesame" not in said.err
    last = said.err.splitlines()[-1]
    words = [" ".join(["trio-acp", *argv[:n]]) for n in (2, 1, 0)]
    for prefix in (*(f"{word}: error: " for word in words), "trio-acp: "):
        if last.startswith(prefix):
            last = last.removeprefix(prefix)
            break
    assert (misuse.line.format(tmp=tmp_path), misuse.code, "") == (last, code, said.out)


def test_there_are_enough_of_them() -> None:
    """At least thirty, each once, and of every command that talks to an agent or serves one."""
    assert len(MISUSES) >= 30
    assert len(MISUSES) == len({(misuse.argv, misuse.line) for misuse in MISUSES})
    assert {"prompt", "chat", "sessions", "status", "doctor", "serve", "agents", "explore"} <= {
        (misuse.argv.split() or [""])[0] for misuse in MISUSES
    }
