"""``trio-acp demo``: everything a session does, shown in a few seconds, with each claim checked."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .._limits import Limits, Settings
from .._manager import open_session_manager
from ..acp.runtime import AcpRuntime
from ..stores import SQLiteStore
from ._bundled import bundled_agent, processes_mentioning
from ._exits import OK
from ._logging import log_to_stderr
from ._options import Commands, add_command
from ._output import Output
from ._scenes import AskVisibly, Stage, check, play, play_resumed, sum_up
from ._signals import run
from ._store import store_path

if TYPE_CHECKING:
    import argparse
    from contextlib import AbstractAsyncContextManager

    from .._manager import SessionManager

_DESCRIPTION = """\
Show what sessions over ACP do: a streamed turn, a tool call, a permission, a
queued prompt, a cancel, a timeout, and a conversation resumed after a restart.

Nothing else is needed: the agent is a bundled one that does what its prompt
says.  It takes a few seconds, and checks itself: the exit code is 0 if all
went as announced.
"""
_EXAMPLES = """\
examples:
  trio-acp demo
  trio-acp demo --store sessions.db
"""
_KEY = _AGENT = "demo"
_LIMITS = Limits(turn=20.0, setup=20.0, grace=0.1, cleanup=0.3)


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = add_command(
        commands,
        "demo",
        demo,
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument("--store", type=Path, metavar="PATH", help="keep the sessions in this SQLite file")
    parser.add_argument("--keep", action="store_true", help="keep the temporary files, and say where they are")


def demo(options: argparse.Namespace) -> int:
    """Run the command; return its exit code.

    Raises:
        DemoFailed: something did not go as announced.
        AcpError: something did not work at all, such as opening the store.
    """
    log_to_stderr(None)
    directory = Path(tempfile.mkdtemp(prefix="trio-acp-demo-"))
    try:
        store = directory / "sessions.db" if options.store is None else store_path(options)
        code = run(functools.partial(_demo, Stage(Output.stdout()), directory, store))
    finally:
        if not options.keep:
            shutil.rmtree(directory, ignore_errors=True)
    if options.keep:
        print(f"Kept: {directory}")
    return code


async def _demo(stage: Stage, directory: Path, store: Path) -> int:
    """Play all scenes.  If cancelled, everything is stopped and closed within the limits."""
    state_dir = directory / "agent"
    state_dir.mkdir()
    async with SQLiteStore(store) as file:
        await file.list()  # opens it: if that cannot be, nothing is announced
    await stage.say("trio-acp demo: agent sessions over ACP, with a bundled agent that does what its\nprompt says.")
    async with bundled_agent(state_dir) as url:
        await stage.say(f"\nThe agent is another process, behind {url}.")
        await stage.say(f"Sessions are stored in {store}.")
        async with _open(stage, url, store) as manager:
            session = await manager.start_session(_KEY, agent=_AGENT, fresh=True)
            before = await play(stage, manager, session, _LIMITS)
        await stage.scene("A restart: a new manager finds the session in the store and resumes it.")
        async with _open(stage, url, store) as manager:
            session = await manager.start_session(_KEY, agent=_AGENT)
            after = await play_resumed(stage, manager, session, before.submitted)
    left = processes_mentioning(str(state_dir))
    check(not left, f"{left} processes were left behind")
    await sum_up(stage, before, after)
    await stage.say("All went as announced." + (" No process is left." if left == 0 else ""))
    return OK


def _open(stage: Stage, url: str, store: Path) -> AbstractAsyncContextManager[SessionManager]:
    return open_session_manager(
        {_AGENT: AcpRuntime.websocket(url)},
        store=SQLiteStore(store),
        settings=Settings(limits=_LIMITS),
        permissions=AskVisibly(stage),
    )
