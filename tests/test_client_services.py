"""What an agent asks of its client besides permissions, over the whole stack: exactly what is on, one answer each."""

from __future__ import annotations

import json
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trio_acp
from tests.acp_kit import managed
from tests.cli_kit import AGENT
from tests.service_kit import Marker, until
from trio_acp import ClientServices, FileService, InvalidOption, TerminalService
from trio_acp.testing import ScriptedAgent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.concurrency

METHODS = {
    "fs/read_text_file": {"path": "{root}/f"},
    "fs/write_text_file": {"path": "{root}/f", "content": "new"},
    "terminal/create": {"command": "true"},
    "terminal/output": {"terminalId": "terminal-1"},
    "terminal/wait_for_exit": {"terminalId": "terminal-1"},
    "terminal/kill": {"terminalId": "terminal-1"},
    "terminal/release": {"terminalId": "terminal-1"},
}
SHELL = TerminalService(commands=["sh", "sleep", "true"])
ALL = ClientServices(files=FileService(), terminals=SHELL)
LOOK = 'request terminal/output {"terminalId": "terminal-1"}'
"""A step that is over once everything that was answered before has been read."""


@asynccontextmanager
async def session_in(root: Path, agent: ScriptedAgent, services: ClientServices | None) -> AsyncIterator[Any]:
    """Open a manager, and a session of that directory."""
    with trio.fail_after(60):
        async with managed(agent, services=services) as manager:
            yield await manager.start_session("k", agent="agent", cwd=str(root))


async def said(session: trio_acp.Session, *steps: str) -> str:
    """Prompt; return the reply."""
    return (await session.prompt("\n".join(steps))).text


def errors(agent: ScriptedAgent) -> list[int]:
    """Return the codes of the errors that the agent's requests were answered with, in order."""
    answers = [entry.params for entry in agent.log if entry.kind == "response"]
    return [answer["code"] for answer in answers if isinstance(answer, dict) and "code" in answer]


def task_names() -> list[str]:
    """Return the names of all tasks: there is one for each request of an agent that is being served."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    waiting, names = [root], []
    while waiting:
        task = waiting.pop()
        names.append(task.name)
        waiting.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
    return names


def start(marker: Marker, command: str = "exec sleep 1000") -> str:
    """Return a step that starts a command which carries the marker."""
    params = {"command": "sh", "args": ["-c", command], "env": [{"name": marker.name, "value": marker.value}]}
    return f"request terminal/create {json.dumps(params)}"


# -- what is on ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("services", "announced", "on"),
    [
        (None, {}, ""),
        (ClientServices(), {}, ""),
        (ClientServices(files=FileService(write=False)), {"fs": {"readTextFile": True}}, "fs/read"),
        (ClientServices(files=FileService(read=False)), {"fs": {"writeTextFile": True}}, "fs/write"),
        (ClientServices(files=FileService()), {"fs": {"readTextFile": True, "writeTextFile": True}}, "fs/"),
        (ClientServices(terminals=SHELL), {"terminal": True}, "terminal/"),
    ],
)
async def test_exactly_what_is_on_is_announced_and_served(
    services: ClientServices | None, announced: dict[str, Any], on: str, tmp_path: Path
) -> None:
    """Everything else is answered "method not found", however it is asked for."""
    (tmp_path / "f").write_text("old")
    agent = ScriptedAgent()
    async with session_in(tmp_path, agent, services) as session:
        replies = {
            method: await said(session, f"request {method} {json.dumps(params).replace('{root}', str(tmp_path))}")
            for method, params in METHODS.items()
        }
        assert announced == agent.log[0].params.get("clientCapabilities", {})
    served = {method for method, reply in replies.items() if "-32601" not in reply}
    assert {method for method in METHODS if on and method.startswith(on)} == served
    assert [] == [reply for method, reply in replies.items() if method in served and "error" in reply]
    assert ("new" if "fs/write_text_file" in served else "old") == (tmp_path / "f").read_text()
    assert [] == agent.violations


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("fs/read_text_file", {"path": 3}, -32602),
        ("fs/read_text_file", {"path": "/etc/passwd"}, -32602),
        ("fs/read_text_file", {"path": "{root}/f", "line": "1"}, -32602),
        ("fs/read_text_file", {"path": "{root}/f", "line": -1}, -32602),
        ("fs/read_text_file", {"path": "{root}/none"}, -32002),
        ("fs/read_text_file", {"sessionId": "nobody", "path": "{root}/f"}, -32002),
        ("fs/write_text_file", {"path": "{root}/f"}, -32602),
        ("fs/write_text_file", {"path": "{root}", "content": ""}, -32602),
        ("terminal/create", {"command": "ls"}, -32602),
        ("terminal/create", {"command": "sh", "args": "-c"}, -32602),
        ("terminal/create", {"command": "sh", "cwd": "/"}, -32602),
        ("terminal/create", {"command": "sh", "env": [{"name": "LD_PRELOAD", "value": "x"}]}, -32602),
        ("terminal/output", {"terminalId": "terminal-9"}, -32002),
        ("terminal/release", {"terminalId": "terminal-9"}, -32002),
        ("terminal/kill", {"sessionId": "nobody", "terminalId": "terminal-1"}, -32002),
        ("terminal/kill", {"sessionId": "nobody", "terminalId": 1}, -32602),
    ],
)
async def test_each_refusal_has_its_code(method: str, params: dict[str, Any], code: int, tmp_path: Path) -> None:
    """Not there is -32002, not right or not allowed is -32602; the turn goes on."""
    (tmp_path / "f").write_text("")
    agent = ScriptedAgent()
    async with session_in(tmp_path, agent, ALL) as session:
        reply = await said(
            session, f"request {method} {json.dumps(params).replace('{root}', str(tmp_path))}", "say on it goes"
        )
    assert [code] == errors(agent)
    assert reply.endswith("on it goes")


def test_services_are_what_they_are_called() -> None:
    """Anything else in their place is refused by name."""
    wrong: Any = True
    for name in ("files", "terminals"):
        with pytest.raises(InvalidOption, match=name):
            ClientServices(**{name: wrong})


# -- used as agents use it ---------------------------------------------------------


async def test_files_and_a_terminal_over_pipes(tmp_path: Path) -> None:
    """An agent in a process of its own writes a file, reads a line of it, and runs a command on it."""
    runtime = trio_acp.AcpRuntime.stdio(AGENT, services=ALL)
    with trio.fail_after(60):
        async with trio_acp.open_session_manager({"agent": runtime}) as manager:
            session = await manager.start_session("k", agent="agent", cwd=str(tmp_path))
            text = await said(
                session,
                "write-file notes/today.txt one two",
                "read-file notes/today.txt line=1 limit=1",
                "terminal sh -c 'tr a-z A-Z < notes/today.txt; exit 4'",
                "read-file nothing",
            )
    assert text.startswith("written read: one two ran: ONE TWO[4] error ")
    assert "one two" == (tmp_path / "notes" / "today.txt").read_text()


async def test_sessions_have_their_own_root_and_terminals(tmp_path: Path) -> None:
    """The id of another session's terminal, and another session's files, are nothing to this one."""
    agent = ScriptedAgent()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    with trio.fail_after(60):
        async with managed(agent, services=ALL) as manager:
            one = await manager.start_session("1", agent="agent", cwd=str(tmp_path / "one"))
            two = await manager.start_session("2", agent="agent", cwd=str(tmp_path / "two"))
            assert "started: terminal-1" in await said(one, "terminal-start true")
            assert "-32002" in await said(two, 'request terminal/output {"terminalId": "terminal-1"}')
            assert "read: two" in await said(two, "read-file f")
            assert "-32602" in await said(two, f"read-file {tmp_path}/one/f")


# -- turns -----------------------------------------------------------------------


async def test_a_stopped_turn_answers_and_ends_what_it_started(tmp_path: Path) -> None:
    """Its open request is answered -32800, its commands end, and what they were can still be asked and cleared away."""
    agent, marker, earlier = ScriptedAgent(), Marker(), Marker()
    async with session_in(tmp_path, agent, ALL) as session:
        await said(session, start(earlier))
        async with session.turn(f'{start(marker)}\nrequest terminal/wait_for_exit {{"terminalId": "terminal-2"}}'):
            await marker.wait_for(1)
            await until(lambda: "trio_acp terminal/wait_for_exit" in task_names())
            await session.cancel()
        await marker.wait_for(0)
        assert [-32800] == errors(agent)
        assert 1 == len(earlier.pids())
        reply = await said(session, 'request terminal/wait_for_exit {"terminalId": "terminal-2"}')
        assert '"signal": "SIGTERM"' in reply
        assert "{}" in await said(session, 'request terminal/release {"terminalId": "terminal-2"}')
    assert set() == earlier.pids()
    assert [] == agent.violations


async def test_after_a_cancel_an_agent_may_tidy_up_but_start_nothing(tmp_path: Path) -> None:
    """While it still owes the answer to its prompt: kill, output and release are served, work is not."""
    agent, marker = ScriptedAgent(), Marker()
    steps = [
        "ignore-cancel 20",
        start(marker),
        'request terminal/wait_for_exit {"terminalId": "terminal-1"}',
        "write-file late.txt late",
        "terminal-start true",
        'request terminal/kill {"terminalId": "terminal-1"}',
        'request terminal/wait_for_exit {"terminalId": "terminal-1"}',
        'request terminal/output {"terminalId": "terminal-1"}',
        'request terminal/release {"terminalId": "terminal-1"}',
        "stop cancelled",
    ]
    async with session_in(tmp_path, agent, ALL) as session, session.turn("\n".join(steps)):
        await until(lambda: "trio_acp terminal/wait_for_exit" in task_names())
        await session.cancel()
    answers = [entry.params for entry in agent.log if entry.kind == "response"]
    assert [-32800, -32800, -32800] == errors(agent)
    assert [{}, {"signal": "SIGTERM"}] == answers[4:6]
    assert {"signal": "SIGTERM"} == answers[6]["exitStatus"]
    assert {} == answers[7]
    assert [] == list(tmp_path.iterdir())


async def test_outside_of_a_turn_there_is_no_work(tmp_path: Path) -> None:
    """Requests that come when no prompt is running are answered -32800, but for those that tidy up."""
    agent, marker = ScriptedAgent(), Marker()
    raw = {"jsonrpc": "2.0", "method": "terminal/create"}
    params: dict[str, Any] = {"sessionId": "session-1", "command": "sh", "args": ["-c", "exec sleep 1000"]}
    params["env"] = [{"name": marker.name, "value": marker.value}]
    async with session_in(tmp_path, agent, ALL) as session:
        # The agent answers its prompt without waiting for ours, so it is over when the command has started.
        await said(session, f"raw {json.dumps({**raw, 'id': 'late', 'params': params})}")
        await until(lambda: [-32800] == errors(agent))
    assert set() == marker.pids()


async def test_a_flood_of_requests_is_bounded(tmp_path: Path) -> None:
    """At most 16 of a session are open, the others fail at once; what tidies up is served all the same."""
    agent = ScriptedAgent()
    wait = {"jsonrpc": "2.0", "method": "terminal/wait_for_exit"}
    params = {"sessionId": "session-1", "terminalId": "terminal-1"}
    flood = [f"raw {json.dumps({**wait, 'id': f'flood-{n}', 'params': params})}" for n in range(40)]
    kill = 'request terminal/kill {"terminalId": "terminal-1"}'
    async with session_in(tmp_path, agent, ALL) as session:
        await said(session, "terminal-start sleep 1000", *flood, kill, LOOK)
    assert 24 == errors(agent).count(-32603)
    answers = [entry.params for entry in agent.log if entry.kind == "response"]
    assert 16 == answers.count({"signal": "SIGTERM"})


async def test_a_flood_of_tidying_up_is_bounded(tmp_path: Path) -> None:
    """Four requests for each terminal that a session may have are open at most; one more has an error, and no task."""
    agent = ScriptedAgent()
    services = ClientServices(terminals=TerminalService(commands=["sh"], max_terminals=2))
    stubborn = {"command": "sh", "args": ["-c", "trap '' TERM; echo on; while :; do sleep 0.01; done"]}
    kill = {"jsonrpc": "2.0", "method": "terminal/kill"}
    params = {"sessionId": "session-1", "terminalId": "terminal-1"}
    flood = [f"raw {json.dumps({**kill, 'id': f'flood-{n}', 'params': params})}" for n in range(20)]
    async with session_in(tmp_path, agent, services) as session:
        await said(session, f"request terminal/create {json.dumps(stubborn)}")
        while '"output": ""' in await said(session, LOOK):
            pass
        answered = sum(entry.kind == "response" for entry in agent.log)
        await said(session, *flood)
        await until(lambda: answered + 20 == sum(entry.kind == "response" for entry in agent.log))
        assert '"signal": "SIGKILL"' in await said(session, LOOK)
    assert [-32603] * 12 == errors(agent)
    refused = [
        entry.params["message"] for entry in agent.log if isinstance(entry.params, dict) and "code" in entry.params
    ]
    assert {"8 requests about this session's terminals are open already"} == set(refused)


async def test_an_agent_may_take_its_request_back(tmp_path: Path) -> None:
    """After ``$/cancel_request`` it is answered -32800, and the turn goes on."""
    agent = ScriptedAgent()
    wait = {"jsonrpc": "2.0", "id": "w", "method": "terminal/wait_for_exit"}
    params = {"sessionId": "session-1", "terminalId": "terminal-1"}
    async with session_in(tmp_path, agent, ALL) as session:
        reply = await said(
            session,
            "terminal-start sleep 1000",
            f"raw {json.dumps({**wait, 'params': params})}",
            'notify $/cancel_request {"requestId": "w"}',
            LOOK,
            LOOK,
        )
    assert [-32800] == errors(agent)
    assert "exitStatus" not in reply


# -- nothing is left -------------------------------------------------------------


@pytest.mark.parametrize("how", ["session closed", "manager left", "caller cancelled", "connection cut", "agent dies"])
async def test_no_command_is_left(how: str, tmp_path: Path) -> None:
    """Whatever ends, its commands have ended with it; also those that do not heed SIGTERM."""
    marker = Marker()
    tree = start(marker, "trap '' TERM; sleep 1000 & sleep 1000 & wait; sleep 1000")
    runtime = trio_acp.AcpRuntime.stdio(AGENT, services=ALL)
    with trio.fail_after(60):
        if how == "agent dies":
            async with trio_acp.open_session_manager({"agent": runtime}) as manager:
                session = await manager.start_session("k", agent="agent", cwd=str(tmp_path))
                with pytest.raises(trio_acp.TurnFailed):
                    await said(session, tree, "crash 3")
                await marker.wait_for(0)
            return
        async with session_in(tmp_path, ScriptedAgent(), ALL) as session:
            await said(session, tree)
            await marker.wait_for(3)
            match how:
                case "session closed":
                    await session.close()
                    assert set() == marker.pids()
                case "caller cancelled":
                    with trio.move_on_after(0.2):
                        await session.prompt("hang")
                    await session.close()
                    assert set() == marker.pids()
                case "connection cut":
                    with pytest.raises(trio_acp.TurnFailed):
                        await session.prompt("close")
                    await marker.wait_for(0)
        assert set() == marker.pids()


# -- an agent that is out to break it ----------------------------------------------

JUNK = (
    st.none() | st.booleans() | st.integers(-2, 2**40) | st.text(max_size=8) | st.lists(st.text(max_size=3), max_size=2)
)
IDS = st.sampled_from(("terminal-1", "terminal-2", "terminal-3", "terminal-", ""))
PARAMS = {
    "terminalId": IDS,
    "command": st.sampled_from(("sh", "true", "sleep", "nonsense", "/bin/sh")),
    "args": st.sampled_from((["-c", "sleep 1000 & yes"], ["-c", "trap '' TERM; sleep 1000"], ["1000"], [], ["\0"])),
    "cwd": st.sampled_from(("/", "..", "", "\0")),
    "env": st.lists(
        st.fixed_dictionaries({"name": st.sampled_from(("A", "PATH", "", "=")), "value": st.text(max_size=3)})
    ),
    "outputByteLimit": st.integers(-1, 100),
    "path": st.sampled_from(("/etc/passwd", "", "..", "/", "\0")),
    "content": st.text(max_size=5),
    "line": st.integers(-1, 5),
}
REQUESTS = st.tuples(
    st.sampled_from((*METHODS, "terminal/create", "terminal/create", "terminal/nonsense", "fs/")),
    st.fixed_dictionaries(
        {}, optional={key: value | JUNK if key != "command" else value for key, value in PARAMS.items()}
    )
    | st.fixed_dictionaries({"command": st.just("sh"), "args": PARAMS["args"], "terminalId": IDS}),
)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(requests=st.lists(REQUESTS, min_size=1, max_size=12))
def test_every_request_gets_one_answer_and_nothing_is_left(requests: list[tuple[str, dict[str, Any]]]) -> None:
    """Whatever is asked, in whatever order: one answer each, no crash, no process."""
    marker = Marker()
    services = ClientServices(
        files=FileService(), terminals=TerminalService(commands=["sh", "true", "sleep"], wall=0.2, max_terminals=3)
    )

    async def main(root: Path) -> None:
        agent = ScriptedAgent()
        marked = [{"name": marker.name, "value": marker.value}]
        async with session_in(root, agent, services) as session:
            await said(
                session, *(f"request {method} {json.dumps({'env': marked, **params})}" for method, params in requests)
            )
            assert len(requests) == sum(entry.kind == "response" for entry in agent.log)
            assert [] == agent.violations
            # -32603 is for a limit or a failed start, never for a fault of ours: that has another text.
            assert "failed to answer" not in str(agent.log)
        assert set() == marker.pids()

    with tempfile.TemporaryDirectory() as base:
        trio.run(main, Path(base).resolve())
