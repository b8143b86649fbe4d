"""``trio-acp sessions``: what is stored, ended or exported."""

from __future__ import annotations

import argparse
import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from .._errors import AcpError, SessionInUse, StoreError
from .._manager import open_session_manager
from ..stores import SQLiteStore, SQLiteTranscript
from ._backend import add_backend_options, usual_backend
from ._exits import ERROR, OK, exit_code
from ._export import EXPORTS
from ._files import write_private
from ._json import json_line
from ._look import opened, optional_backend, replay_of
from ._options import Commands, add_command
from ._output import Output, complain
from ._signals import run
from ._store import add_store_option, store_path
from ._stored import in_time, is_there, recorded, session_value, stored_session, stored_sessions
from ._tables import screen_width
from ._text import one_line
from ._views import session_lines, session_table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._records import SessionRecord
    from ._backend import Backend

_DESCRIPTION = """\
See to the sessions that trio-acp prompt --session has stored.  Only close and
export need an agent: one that is named, or the usual one of the configuration.
"""
_EXAMPLES = """\
examples:
  trio-acp sessions list
  trio-acp sessions show refactoring
  trio-acp sessions export refactoring --output refactoring.md
"""


def add_parser(commands: Commands) -> None:
    """Add the command, its subcommands and their options."""
    parser = add_command(
        commands,
        "sessions",
        lambda _: ERROR,
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    below = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listed = _add(
        below,
        "list",
        _list,
        "list all sessions",
        "List all sessions, with their states.",
        "trio-acp sessions list --format json",
    )
    add_store_option(listed)
    _add_format(listed)

    shown = _add(
        below,
        "show",
        _show,
        "show one session",
        "Show what is stored of the session KEY.",
        "trio-acp sessions show refactoring",
    )
    _add_key(shown)
    add_store_option(shown)
    _add_format(shown)

    closed = _add(
        below,
        "close",
        _close,
        "end a session's conversation",
        "End the conversation of the session KEY: its next prompt begins a new one.\n"
        "The agent is told so too; if it is the usual one of the configuration, and\n"
        "cannot be told, that is noted, and the session is closed here all the same.",
        'trio-acp sessions close refactoring --forget --stdio "gemini --acp"',
    )
    _add_key(closed)
    closed.add_argument("--forget", action="store_true", help="delete all that is stored of it, the transcript too")
    add_store_option(closed)
    add_backend_options(closed)

    exported = _add(
        below,
        "export",
        _export,
        "write a session's conversation as a document",
        "Write what was recorded of the session KEY.  Where nothing was, the agent, the\n"
        "usual one if none is named, is to replay it; trio-acp prompt --record records.",
        'trio-acp sessions export refactoring --stdio "gemini --acp"',
    )
    _add_key(exported)
    exported.add_argument(
        "--format", choices=tuple(EXPORTS), default="markdown", metavar="FORM", help="markdown (default) or jsonl"
    )
    exported.add_argument("--output", type=Path, metavar="FILE", help="where to (default: standard output)")
    exported.add_argument("--force", action="store_true", help="replace FILE if it is there")
    add_store_option(exported)
    add_backend_options(exported)


def _add(
    commands: Commands,
    name: str,
    command: Callable[[argparse.Namespace], Awaitable[int]],
    summary: str,
    description: str,
    example: str,
) -> argparse.ArgumentParser:
    return add_command(
        commands,
        name,
        lambda options: run(functools.partial(command, options)),
        summary=summary,
        usage=f"trio-acp sessions {name} {'' if name == 'list' else 'KEY '}[options]",
        description=description,
        examples=f"example:\n  {example}\n",
    )


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help=argparse.SUPPRESS)  # the usage has it, and the description


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", metavar="FORM", help="text (default), or json lines"
    )


async def _list(options: argparse.Namespace) -> int:
    path = store_path(options)
    records = await stored_sessions(path)
    if options.format == "json":
        text = "".join(json_line(session_value(record)) for record in records)
    elif records:
        text = "\n".join([*session_table(records, time.time(), screen_width()), ""])
    else:
        there = "" if is_there(path) else ": no file yet"
        text = f"no sessions are stored in {one_line(str(path))}{there}\n"
    await Output.stdout().write(text)
    return OK


async def _show(options: argparse.Namespace) -> int:
    path = store_path(options)
    record = await stored_session(path, options.key)
    entries = await recorded(path, record.key)
    if options.format == "json":
        text = json_line(session_value(record) | {"recorded_turns": len({entry.turn for entry in entries})})
    else:
        text = "\n".join([*session_lines(record, entries, time.time()), ""])
    await Output.stdout().write(text)
    return OK


async def _close(options: argparse.Namespace) -> int:
    backend = optional_backend(options)
    path = store_path(options)
    record = await stored_session(path, options.key)
    if record.session_id is not None:
        await _tell(options, backend, record)
    async with open_session_manager({}, store=SQLiteStore(path), recover=False) as manager:
        await manager.session(record.key).close(forget=options.forget, discard=not options.forget)
    turns = 0
    if options.forget:
        async with SQLiteTranscript(path) as transcript:
            turns = await in_time(transcript.forget(record.key), path)
    ended = "forgotten" if options.forget else "closed"
    also = f", with {turns} recorded turn{'s' * (turns != 1)}" if turns else ""
    await Output.stdout().write(f"{ended}: {one_line(record.key)}{also}\n")
    return OK


async def _tell(options: argparse.Namespace, named: Backend | None, record: SessionRecord) -> None:
    """Tell the agent that a session ends, if there is one to be told.

    Raises:
        AcpError: one that was named could not be told, or the session is in use.
    """
    backend = named or usual_backend(options)
    if backend is None:
        return
    try:
        async with opened(backend, record):
            pass  # leaving closes it
    except SessionInUse:
        raise
    except AcpError as error:
        if named is not None:
            raise
        # The configuration only supposes that it is this one: whoever wants to close needs it not.
        complain(one_line(f"the agent was not told: {error}"))


async def _export(options: argparse.Namespace) -> int:
    backend = optional_backend(options)
    path = store_path(options)
    record = await stored_session(path, options.key)
    entries = await recorded(path, record.key)
    if not entries:
        backend = backend or usual_backend(options)
    if not entries and backend is not None:
        nothing = f"nothing was recorded of session {one_line(record.key)!r}, and the agent"
        try:
            entries = await replay_of(backend, record)
        except AcpError as error:
            complain(one_line(f"{nothing} cannot replay it: {error}", 1000))
            return exit_code(error)
        if not entries:
            complain(f"{nothing} replays nothing")
            return ERROR
    if not entries:
        complain(
            f"nothing was recorded of session {one_line(record.key)!r}; name its agent, which may replay it, "
            "or record from now on: trio-acp prompt --session KEY --record"
        )
        return ERROR
    document = EXPORTS[options.format](record, entries)
    if options.output is None:
        await Output.stdout().write(document)
        return OK
    try:
        # In a thread: whoever should read a FIFO may never come, and Ctrl-C must end that wait too.
        await trio.to_thread.run_sync(write_private, options.output, document, options.force, abandon_on_cancel=True)
    except FileExistsError as error:
        raise StoreError(f"--output {options.output} is there already; --force replaces it") from error
    except OSError as error:
        raise StoreError(f"--output {options.output}: {error.strerror}") from error
    turns = len({entry.turn for entry in entries})
    await Output.stderr().write(f"wrote {one_line(str(options.output))} ({turns} turn{'s' * (turns != 1)})\n")
    return OK
