"""Terminals for an agent: commands from a list, bounded in every way, of which nothing is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.service_kit import Marker, until
from trio_acp import InvalidOption, TerminalService
from trio_acp.services import Refused
from trio_acp.services._environment import FORBIDDEN, FORBIDDEN_PREFIXES
from trio_acp.services._terminal import Exit
from trio_acp.services.terminals import Terminals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.concurrency

# Three processes of one group, of which none heeds SIGTERM.
TREE = "trap '' TERM; sleep 1000 & sleep 1000 & wait; sleep 1000"


@asynccontextmanager
async def terminals(root: Path, *commands: str, **options: Any) -> AsyncIterator[Terminals]:
    """Open the terminals of a session; their tasks are cancelled at the end, as when its connection ends."""
    service = TerminalService(commands=commands or ("sh",), **options)
    async with trio.open_nursery() as nursery:
        yield Terminals(service, str(root), nursery)
        nursery.cancel_scope.cancel()


async def create(opened: Terminals, *argv: str, marker: Marker | None = None, **options: Any) -> str:
    """Start a command."""
    command, *args = argv
    env = [] if marker is None else [(marker.name, marker.value)]
    return await opened.create(command, args, **{"env": env, "cwd": None, "limit": None, **options})


async def run(opened: Terminals, *argv: str, **options: Any) -> tuple[str, bool, Exit | None]:
    """Run a command to its end; return its output, whether that was truncated, and how it ended."""
    terminal = opened[await create(opened, *argv, **options)]
    await terminal.done.wait()
    return (*terminal.output(), terminal.exit)


async def refused(call: Any, reason: str) -> str:
    """Await a call that must be refused for this reason; return the message."""
    with pytest.raises(Refused) as caught:
        await call
    assert reason == caught.value.reason
    return str(caught.value)


# -- what is run -----------------------------------------------------------------


async def test_arguments_are_no_shell(tmp_path: Path) -> None:
    """They reach the command as they are; output and errors are one stream, input is empty."""
    async with terminals(tmp_path, "printf", "cat", "ls", "sh") as opened:
        assert ("$HOME;ls `id`|*", False, Exit(0, None)) == await run(opened, "printf", "%s", "$HOME;ls `id`|*")
        assert ("", False, Exit(0, None)) == await run(opened, "cat")
        assert ("out\nerr\n", False, Exit(7, None)) == await run(opened, "sh", "-c", "echo out; echo err >&2; exit 7")
        assert Exit(None, "SIGKILL") == (await run(opened, "sh", "-c", "kill -9 $$"))[2]


async def test_a_command_is_allowed_to_the_letter(tmp_path: Path) -> None:
    """By its name as configured and nothing else; a program of that name in the directory is not it."""
    for name in ("ls", "evil"):
        (tmp_path / name).write_text("#!/bin/sh\necho evil\n")
        (tmp_path / name).chmod(0o755)
    async with terminals(tmp_path, "ls") as opened:
        for command in ("evil", "./ls", str(tmp_path / "ls"), "ls -l", "LS", "", "ls\0", shutil.which("ls"), "../ls"):
            assert "may not be run, but: ls" in await refused(create(opened, str(command)), "invalid")
        assert "evil\nls\n" == (await run(opened, "ls"))[0]
        assert "null character" in await refused(create(opened, "ls", "a\0b"), "invalid")


async def test_an_answer_is_short_however_long_the_question_was(tmp_path: Path) -> None:
    """It is in the log too: of a word without end the beginning is told, and how much more there was."""
    endless = "x" * 1_000_000
    async with terminals(tmp_path, "ls") as opened:
        for asked, said in (
            (create(opened, endless), "may not be run, but: ls"),
            (create(opened, "ls", env=[(f"{endless}-", "1")]), "is no name of an environment variable"),
            (create(opened, "ls", env=[(f"LD_{endless}", "1")]), "may not be set by an agent"),
        ):
            answer = await refused(asked, "invalid")
            assert (True, True) == ("characters)" in answer and said in answer, len(answer) < 250)
        answer = await refused(opened.kill(endless), "missing")
        assert f"there is no terminal '{'x' * 100}'... (1000000 characters)" == answer


async def test_a_name_means_what_it_meant_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH that changes afterwards changes nothing."""
    (tmp_path / "ls").write_text("#!/bin/sh\necho evil\n")
    (tmp_path / "ls").chmod(0o755)
    async with terminals(tmp_path, "ls") as opened:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert "ls\n" == (await run(opened, "ls"))[0]


async def test_the_working_directory_is_inside(tmp_path: Path) -> None:
    """The root by default; none that is outside, a link, a file or missing."""
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "f").write_text("")
    (root / "link").symlink_to("a")
    async with terminals(root, "pwd") as opened:
        assert f"{root}\n" == (await run(opened, "pwd", "-P"))[0]
        assert f"{root}/a\n" == (await run(opened, "pwd", "-P", cwd=f"{root}/a"))[0]
        for cwd in (tmp_path, root / "..", root / "link", root / "f", "a", "/", ""):
            await refused(create(opened, "pwd", cwd=str(cwd)), "invalid")
        await refused(create(opened, "pwd", cwd=f"{root}/none"), "missing")
    async with terminals(
        root / "a" / ".." / "a", "pwd"
    ) as opened:  # whoever opened the session may write what he likes
        assert f"{root}/a\n" == (await run(opened, "pwd", "-P"))[0]


async def test_the_environment_is_minimal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of ours but what a program needs, and what the agent has given."""
    monkeypatch.setenv("API_KEY", "sentinel")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    async with terminals(tmp_path, "env") as opened:
        output, _, _ = await run(opened, "env", env=[("CI", "1"), ("PORT", "")])
    got = dict(line.partition("=")[::2] for line in output.splitlines())
    assert {"PATH", "HOME", "LANG", "TERM", "CI", "PORT", "TRIO_ACP_OWNER"} == set(got)
    assert ("dumb", "1", "") == (got["TERM"], got["CI"], got["PORT"])


@pytest.mark.parametrize(
    "name",
    [
        *(
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "ld_preload",
            "DYLD_INSERT_LIBRARIES",
            "PATH",
            "PYTHONSTARTUP",
            "PYTHONPATH",
        ),
        *("BASH_ENV", "ENV", "IFS", "GIT_SSH_COMMAND", "NODE_OPTIONS", "PAGER", "EDITOR", "HOME", "TRIO_ACP_OWNER"),
        *("", "A=B", "A B", "1A", "ÄÖ"),
    ],
)
async def test_dangerous_variables_are_refused_by_name(name: str, tmp_path: Path) -> None:
    """One that makes another program run, or is none, refuses the command; none is dropped in silence."""
    async with terminals(tmp_path, "env") as opened:
        assert name in await refused(create(opened, "env", env=[(name, "x")]), "invalid")


def test_forbidden_variables_are_written_as_they_are_compared() -> None:
    """In upper case: an entry in lower case would forbid nothing."""
    assert all(name == name.upper() for name in (*FORBIDDEN, *FORBIDDEN_PREFIXES))


async def test_a_value_that_is_no_text(tmp_path: Path) -> None:
    """A null character in a value is refused, and so is what the system cannot take."""
    async with terminals(tmp_path, "env") as opened:
        await refused(create(opened, "env", env=[("A", "\0")]), "invalid")
        assert "cannot be started" in await refused(create(opened, "env", env=[("A", 2**22 * "x")]), "failed")
        message = await refused(create(opened, "env", "\ud800"), "failed")
        assert message.startswith("'env' cannot be started: ")  # and not where it is
        assert Exit(0, None) == (await run(opened, "env"))[2]


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"commands": []}, "invalid-commands"),
        ({"commands": "ls"}, "invalid-commands"),
        ({"commands": ["./ls"]}, "invalid-commands"),
        ({"commands": ["bin/ls"]}, "invalid-commands"),
        ({"commands": [""]}, "invalid-commands"),
        ({"commands": ["no-such-program-at-all"]}, "no-such-program"),
        ({"commands": ["/etc/passwd"]}, "no-such-program"),
        ({"commands": ["ls"], "max_output": 0}, "invalid-max_output"),
        ({"commands": ["ls"], "max_terminals": True}, "invalid-max_terminals"),
        ({"commands": ["ls"], "wall": 0}, "invalid-wall"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], detail: str) -> None:
    """Each is refused by its name."""
    with pytest.raises(InvalidOption) as caught:
        TerminalService(**options)
    assert detail == caught.value.detail


# -- how much of it --------------------------------------------------------------


async def test_a_flood_of_output_stays_within_the_ring(tmp_path: Path) -> None:
    """The end is kept, at a character's boundary; the agent may ask for less than we keep, not for more."""
    flood = "import os\nfor n in range(300): os.write(1, ('é' * 5000 + str(n)).encode())"
    async with terminals(tmp_path, sys.executable, max_output=1001) as opened:
        for limit, kept in ((None, 1001), (100, 100), (10**9, 1001), (0, 0)):
            output, truncated, exited = await run(opened, sys.executable, "-c", flood, limit=limit)
            assert (True, Exit(0, None)) == (truncated, exited)
            # An é has two bytes, the number at the end three.
            assert kept - 1 <= len(output.encode()) <= kept
            assert {"é", *"299"} >= set(output)
            assert output.endswith("299") or not kept
        assert "at least 0" in await refused(create(opened, sys.executable, limit=-1), "invalid")


async def test_a_command_runs_no_longer_than_the_wall_limit(tmp_path: Path) -> None:
    """Then it is ended, with all that it has started, and what it wrote can still be read."""
    marker = Marker()
    async with terminals(tmp_path, "sh", wall=0.4) as opened:
        began = trio.current_time()
        output, _, exited = await run(opened, "sh", "-c", f"echo begun; {TREE}", marker=marker)
        assert ("begun\n", Exit(None, "SIGKILL")) == (output, exited)
        assert trio.current_time() - began >= 0.4 + 0.5
        assert set() == marker.pids()


async def test_the_number_of_terminals_is_limited(tmp_path: Path) -> None:
    """Of those that are not released, also when they are asked for at once; a release makes room."""
    async with terminals(tmp_path, "sleep", max_terminals=3) as opened:
        messages: list[str] = []
        created: list[str] = []

        async def one() -> None:
            try:
                created.append(await create(opened, "sleep", "1000"))
            except Refused as error:
                messages.append(str(error))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one)
        assert (3, 2) == (len(created), len(messages))
        assert "3 terminals are not released" in messages[0]
        await opened.kill(created[0])
        await refused(create(opened, "sleep", "0"), "failed")
        await opened.release(created[0])
        assert "terminal-4" == await create(opened, "sleep", "0")
        await refused(opened.release(created[0]), "missing")


# -- how it ends -----------------------------------------------------------------


async def test_kill_ends_the_whole_group_and_keeps_the_id(tmp_path: Path) -> None:
    """SIGTERM first, SIGKILL soon after; a second time it does nothing."""
    marker = Marker()
    async with terminals(tmp_path, "sh") as opened:
        gentle = await create(opened, "sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; sleep 1000 & wait")
        stubborn = await create(opened, "sh", "-c", TREE, marker=marker)
        await until(lambda: "up" in opened[gentle].output()[0])
        await marker.wait_for(3)
        await opened.kill(gentle)
        assert ("up\nbye\n", Exit(3, None)) == (opened[gentle].output()[0], opened[gentle].exit)
        await opened.kill(stubborn)
        assert Exit(None, "SIGKILL") == opened[stubborn].exit
        assert set() == marker.pids()
        await opened.kill(stubborn)


async def test_what_a_command_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    """A process in the background of a command that has exited is killed, and holds up nothing."""
    marker = Marker()
    async with terminals(tmp_path, "sh") as opened:
        assert ("done\n", False, Exit(0, None)) == await run(
            opened, "sh", "-c", "sleep 1000 & echo done", marker=marker
        )
        assert set() == marker.pids()


@pytest.mark.skipif(shutil.which("setsid") is None, reason="there is no setsid")
async def test_what_has_left_the_group_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """Its output is not waited for; it has escaped, as the documentation says it can."""
    marker = Marker()
    try:
        async with terminals(tmp_path, "setsid") as opened:
            _, _, exited = await run(opened, "setsid", "--fork", "sleep", "1000", marker=marker)
            assert Exit(0, None) == exited
    finally:
        for pid in marker.pids():
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("how", ["close", "cancel", "release", "stopped turn"])
async def test_no_process_is_left(how: str, tmp_path: Path) -> None:
    """Whichever way it ends, all processes are gone once that was waited for."""
    marker = Marker()
    async with terminals(tmp_path, "sh") as opened:
        terminal_id = await create(opened, "sh", "-c", TREE, marker=marker)
        await marker.wait_for(3)
        match how:
            case "close":
                opened.close()
                await opened.wait_closed()
                assert set() == marker.pids()
                await refused(create(opened, "sh", "-c", TREE, marker=marker), "cancelled")
                await opened.wait_closed()
                assert set() == marker.pids()
            case "release":
                await opened.release(terminal_id)
                assert set() == marker.pids()
            case "stopped turn":
                opened.turn_ended(stopped=True)
                await opened[terminal_id].done.wait()
                assert set() == marker.pids()
    assert set() == marker.pids()


async def test_a_turn_that_ends_by_itself_leaves_its_commands(tmp_path: Path) -> None:
    """And a later turn that is stopped has nothing to do with them."""
    marker = Marker()
    async with terminals(tmp_path, "sleep") as opened:
        await create(opened, "sleep", "1000", marker=marker)
        opened.turn_ended(stopped=False)
        opened.turn_ended(stopped=True)
        assert not opened["terminal-1"]._unwanted.is_set()
        assert 1 == len(marker.pids())
    assert set() == marker.pids()


async def test_a_create_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    """Whenever that is: before the command is started, meanwhile, or at its first moment."""
    marker = Marker()
    started = 0
    async with terminals(tmp_path, "sleep", max_terminals=1000) as opened:
        for number in range(40):
            with trio.move_on_after(number * 0.0003):
                with suppress(Refused):
                    await create(opened, "sleep", "1000", marker=marker)
                    started += 1
                    await opened.release(f"terminal-{started}")
        await marker.wait_for(0)
        assert 0 == opened._starting
        assert {} == opened._terminals


async def test_a_file_system_that_hangs_takes_no_thread_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directories that cannot be opened keep threads of their session only; whoever else needs one gets it."""
    hangs, limiter = threading.Event(), trio.to_thread.current_default_thread_limiter()

    @contextmanager
    def open_directory(*_: Any) -> Iterator[int]:
        hangs.wait(30)
        yield 0

    monkeypatch.setattr("trio_acp.services.terminals.open_directory", open_directory)
    try:
        async with terminals(tmp_path, "env") as opened, trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(create, opened, "env")
            await trio.testing.wait_all_tasks_blocked()
            assert 0 == limiter.borrowed_tokens
            nursery.cancel_scope.cancel()
    finally:
        hangs.set()


async def test_a_command_that_is_being_started_is_waited_for(tmp_path: Path) -> None:
    """Once `wait_closed` has returned nothing is alive, not even what was asked for just before."""
    async with terminals(tmp_path, "sh") as opened, trio.open_nursery() as nursery:
        nursery.start_soon(refused, create(opened, "sh", "-c", TREE, marker=(marker := Marker())), "cancelled")
        for _ in range(2):  # it has taken its first step
            await trio.lowlevel.checkpoint()
        assert 1 == opened._starting
        opened.close()
        await opened.wait_closed()
        assert (0, 0) == (opened._starting, len(opened._running))
        assert set() == marker.pids()


async def test_what_is_released_but_not_gone_takes_its_place(tmp_path: Path) -> None:
    """An agent that starts and releases has never more processes than it may have terminals."""
    async with terminals(tmp_path, "sh", max_terminals=1) as opened, trio.open_nursery() as nursery:
        terminal_id = await create(opened, "sh", "-c", "trap '' TERM; echo up; while :; do sleep 1000; done")
        await until(lambda: "up" in opened[terminal_id].output()[0])
        nursery.start_soon(opened.release, terminal_id)
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        assert {} == opened._terminals
        await refused(create(opened, "sh", "-c", ":"), "failed")
    async with terminals(tmp_path, "sh", max_terminals=1) as opened:
        await opened.release(await create(opened, "sh", "-c", ":"))
        await create(opened, "sh", "-c", ":")
