"""``trio-acp status``: how a session is, or all of them."""

from __future__ import annotations

import argparse
import functools
import time
from typing import TYPE_CHECKING, Any

import trio

from .._errors import AcpError, TurnFailed
from ._backend import add_backend_options, find_backend
from ._exits import OK, exit_code
from ._json import json_line
from ._look import OPEN_SECONDS, opened, optional_backend
from ._options import Commands, add_command
from ._output import Output, complain
from ._signals import run
from ._store import add_store_option, store_path
from ._stored import audited, recorded, session_value, stored_session, stored_sessions, tasks
from ._tables import screen_width
from ._text import one_line
from ._views import (
    agent_lines,
    audit_lines,
    audit_value,
    session_lines,
    store_lines,
    store_value,
    task_lines,
    task_value,
)

if TYPE_CHECKING:
    from pathlib import Path

    from .._records import SessionRecord
    from ..abc import Capabilities, RuntimeStatus
    from ._backend import Backend

_DESCRIPTION = """\
Tell how the session KEY is: who has it open, its last error, its tasks and
permissions; without KEY, how all are.  The store is read, and no agent is
started; the agent, if named, resumes the session and is asked too.  If it
cannot be asked, what is stored is shown first, and the exit code is not 0.
"""
_EXAMPLE = """\
example:
  trio-acp status refactoring --url ws://127.0.0.1:8137/acp
"""


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = add_command(
        commands,
        "status",
        lambda options: run(functools.partial(_status, options)),
        usage="trio-acp status [KEY] [options]",
        description=_DESCRIPTION,
        examples=_EXAMPLE,
    )
    parser.add_argument("key", metavar="KEY", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", metavar="FORM", help="text (default), or a line of json"
    )
    parser.add_argument("--ask", action="store_true", help="ask the usual agent, if none is named")
    add_store_option(parser)
    add_backend_options(parser)


async def _status(options: argparse.Namespace) -> int:
    backend = optional_backend(options)
    if backend is None and options.ask:
        backend = find_backend(options)
    if options.key is None and backend is not None:
        options.parser.error("which session the agent is to be asked about: KEY is missing")
    path = store_path(options)
    failure: AcpError | None = None
    if options.key is None:
        text = await _of_store(options, path)
    else:
        text, failure = await _of_session(options, path, backend)
    await Output.stdout().write(text)
    if failure is None:
        return OK
    complain(one_line(f"the agent was not asked: {failure}"))  # after what is known without it
    return exit_code(failure)


async def _of_store(options: argparse.Namespace, path: Path) -> str:
    records, done = await stored_sessions(path), await tasks(path)
    if options.format == "json":
        return json_line(store_value(path, records, done))
    return "\n".join([*store_lines(path, records, done), *task_lines(done, time.time(), screen_width()), ""])


async def _of_session(options: argparse.Namespace, path: Path, backend: Backend | None) -> tuple[str, AcpError | None]:
    """Return what is known of a session, and why its agent could not be asked."""
    record = await stored_session(path, options.key)
    entries, done = await recorded(path, record.key), await tasks(path, record.key)
    answers = await audited(path, record.key)
    asked: tuple[RuntimeStatus, Capabilities] | None = None
    failure: AcpError | None = None
    if backend is not None:
        try:
            asked = await _ask(backend, record)
        except AcpError as error:
            failure = error
    if options.format == "json":
        value = session_value(record) | {"recorded_turns": len({entry.turn for entry in entries})}
        value |= {"tasks": list(map(task_value, done)), "permissions": list(map(audit_value, answers))}
        value |= {} if asked is None else {"asked": _value(*asked)}
        value |= {} if failure is None else {"not_asked": str(failure)}
        return json_line(value), failure
    now, columns = time.time(), screen_width()
    lines = [*session_lines(record, entries, now), *([] if asked is None else agent_lines(*asked))]
    lines += [*audit_lines(answers, now, columns), *task_lines(done, now, columns)]
    return "\n".join([*lines, ""]), failure


async def _ask(backend: Backend, record: SessionRecord) -> tuple[RuntimeStatus, Capabilities]:
    async with opened(backend, record) as session:
        with trio.move_on_after(OPEN_SECONDS):
            return await session.runtime.status(session.handle), await session.runtime.capabilities(session.handle)
        raise TurnFailed(f"the agent did not answer within {OPEN_SECONDS:g} s", detail="setup-timeout")


def _value(status: RuntimeStatus, offered: Capabilities) -> dict[str, Any]:
    details = {name: value for name, value in status.details.items() if value is not None}
    return {"summary": status.summary, **details, "controls": sorted(offered.controls), "config": offered.config_keys}
