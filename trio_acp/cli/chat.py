"""``trio-acp chat``: a conversation with an agent."""

from __future__ import annotations

import functools
import logging
import os
import secrets
import shlex
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from .._errors import AcpError
from .._limits import Limits, Settings
from .._manager import open_session_manager
from .._resolve import Ready
from .._service import shielded
from ..stores import SQLiteStore
from ._ask import AskUser
from ._backend import Backend, add_backend_options, find_backend
from ._chat_commands import ChatCommands
from ._chat_log import ChatLog
from ._chat_plain import LineReader, PlainFace, chat_in_lines
from ._chat_session import MOST_WAITING, Chat
from ._chat_terminal import NoteHandler, TerminalChat
from ._chat_view import ChatView
from ._exits import INTERRUPTED, exit_code
from ._keys import KeyDecoder
from ._line_editor import LineEditor
from ._logging import log_to_stderr
from ._options import Commands, add_command, seconds
from ._output import Output, complain
from ._policy import add_permission_option, make_policy
from ._record import add_record_option, make_audit, make_transcript
from ._render_plain import PlainRenderer
from ._services import add_service_options
from ._signals import run
from ._store import USUAL_AGENT, add_store_option, store_path
from ._terminal import Terminal
from ._text import one_line
from ._trace import add_trace_option, open_trace
from ._why import begins_anew, why

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable, Iterator

    from .._manager import SessionManager
    from .._session import Session
    from ..abc import PermissionPolicy, Transcript
    from ._chat_session import Face

_DESCRIPTION = "Talk with an agent.  Without a terminal, each line of the input is a prompt."
_EXAMPLES = """\
example: trio-acp chat --stdio "gemini --acp"      (/help there lists commands)
"""
_LAST_LINE_SECONDS = 1.0
_MAX_BUFFERED = 256 * 2**20
"""Characters of a turn that may wait for a terminal that was stopped."""


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = add_command(
        commands,
        "chat",
        chat,
        usage="trio-acp chat [options]",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_backend_options(parser)
    option = parser.add_argument
    option("--session", metavar="KEY", help="the session to resume or create (default: a new one)")
    option("--cwd", metavar="DIR", help="the agent's directory (default: the current one)")
    option("--timeout", type=seconds, metavar="S", help="seconds for each turn")
    add_store_option(parser)
    add_record_option(parser)
    add_permission_option(parser)
    add_service_options(parser)
    add_trace_option(parser)


def chat(options: argparse.Namespace) -> int:
    """Run the command; return its exit code.

    Raises:
        InvalidOption: an option has a value that it cannot have.
        BrokenPipeError: nobody reads standard output any more.
    """
    fail = options.parser.error
    if options.session is not None and not options.session.strip():
        fail("--session needs a name")
    if options.cwd is not None and not Path(options.cwd).is_dir():
        fail(f"--cwd: there is no directory {options.cwd}")
    on_terminal = is_terminal()
    log_to_stderr(None)
    backend = find_backend(options)
    limits = Limits()
    asking = AskUser() if on_terminal else None
    store = store_path(options)
    job = _Job(
        backend=backend,
        key=options.session or f"chat-{secrets.token_hex(3)}",
        cwd=str(Path(options.cwd or ".").resolve()),
        moved=options.cwd is not None,
        settings=Settings(limits=limits, max_buffered=_MAX_BUFFERED, max_queued=MOST_WAITING + 8),
        store=store,
        transcript=make_transcript(options, store),
        trace=options.trace,
        timeout=options.timeout,
        permissions=options.permissions or ("deny" if asking is None else "ask"),
        policy=make_policy(options, ask=asking),
        asking=asking,
        resume=functools.partial(resume_command, options, backend),
        explain=functools.partial(why, command=backend.command, limits=limits, timeout=None),
    )
    code = run(functools.partial(_run, job, _on_terminal if on_terminal else _in_lines))
    if code == INTERRUPTED and not on_terminal:
        job.complaint = f"interrupted; to go on: {job.resume(job.key)}"
    if job.complaint is not None:
        complain(one_line(job.complaint, limit=1000), interrupted=code == INTERRUPTED)
    return code


def is_terminal() -> bool:
    """Whether there is a terminal to chat on: one that can move its cursor, for input and output."""
    streams = (sys.stdin, sys.stdout)
    dumb = os.environ.get("TERM", "dumb") == "dumb"
    return not dumb and all(stream is not None and stream.isatty() for stream in streams)


def resume_command(options: argparse.Namespace, backend: Backend, key: str) -> str:
    """Return the command line that resumes a session, without what may be secret."""
    words = ["trio-acp", "chat", "--session", key]
    # Not the trace: the next chat would write over it.
    kept = (
        "url",
        "stdio",
        "agent",
        "config",
        "token_file",
        "ca_file",
        "engine",
        "store",
        "cwd",
        "timeout",
        "permissions",
    )
    for name in kept:
        value = getattr(options, name, None)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", backend.shown if name == "url" else str(value)]
    words += ["--record"] if options.record else []
    words += ["--allow-fs"] if options.allow_fs else []
    for command in options.allow_terminal or ():
        words += ["--allow-terminal", command]
    for name, _ in options.header:
        words += ["--header", f"{name}: ..."]
    return one_line(shlex.join(words), limit=2000)


@attrs.define(kw_only=True)
class _Job:
    """What is to be done.

    Attributes:
        cwd: The agent's directory.
        moved: Whether that was given, so that it holds for a stored session too.
        explain: Finds the words for an error.
        complaint: Why there was no chat, if there was none.
        resume: Makes the command line that resumes a session from its key.
    """

    backend: Backend
    key: str
    cwd: str
    moved: bool
    settings: Settings
    store: Path
    transcript: Transcript | None
    trace: Path | None
    timeout: float | None
    permissions: str
    policy: PermissionPolicy
    asking: AskUser | None
    explain: Callable[[AcpError], str]
    resume: Callable[[str], str]
    complaint: str | None = None


async def _run(job: _Job, how: Callable[[_Job, Session], Awaitable[int]]) -> int:
    """Open a manager and a session in it, and chat.  If cancelled, a turn is stopped within its cleanup budget."""
    runtimes = {USUAL_AGENT: job.backend.make_runtime()}
    async with (
        open_trace(job.trace) as trace,
        open_session_manager(
            runtimes,
            store=SQLiteStore(job.store),
            audit=make_audit(job.store),
            transcript=job.transcript,
            settings=job.settings,
            permissions=job.policy,
            instrument=trace,
        ) as manager,
    ):
        try:
            session = await _open(job, manager)
        except AcpError as error:
            job.complaint = job.explain(error)
            return exit_code(error)
        return await how(job, session)


async def _open(job: _Job, manager: SessionManager) -> Session:
    """Resume the session, or create it; a stored one keeps its directory, unless another was given."""
    known = isinstance(await manager.resolve(job.key), Ready)
    return await manager.start_session(job.key, agent=USUAL_AGENT, cwd=None if known and not job.moved else job.cwd)


def _introduce(face: Face, session: Session, more: str = "") -> None:
    if session.origin == "replaced":
        face.note(begins_anew(session), bad=True)
    face.note(f"{'resumed' if session.origin in {'resumed', 'reused'} else 'new'} session {session.key}{more}")


def _commands(job: _Job, chat: Chat, face: Face) -> ChatCommands:
    return ChatCommands(chat=chat, face=face, permissions=job.permissions, quit=lambda: None, base=Path())


async def _on_terminal(job: _Job, session: Session) -> int:
    output, editor = Output.stdout(), LineEditor()
    terminal = Terminal(sys.stdin.fileno(), sys.stdout.fileno())
    renderer = renderer_for(sys.stdout.encoding or "utf-8")
    view = ChatView(output, terminal.size, renderer, editor, job.asking, job.explain)
    view.chat = chat = Chat(session, view, ChatLog(session.key), timeout=job.timeout)
    on_terminal = TerminalChat(terminal, view, editor, KeyDecoder(sys.stdin.encoding or "utf-8"), job.asking, chat)
    on_terminal.commands = commands = _commands(job, chat, view)
    commands.quit = on_terminal.leave
    _introduce(view, session, f" | {job.backend.shown}")
    if job.permissions == "approve-all":
        view.note("WHATEVER THE AGENT ASKS FOR IS ALLOWED (--permissions approve-all)", bad=True)
    with _notes_instead_of_logs(view):
        code = await on_terminal.run()
    with trio.move_on_after(_LAST_LINE_SECONDS), suppress(OSError):  # the terminal may be stopped, or gone
        await output.write(f"to go on: {job.resume(session.key)}\n")
    return code


async def _in_lines(job: _Job, session: Session) -> int:
    """Chat.  If cancelled, a running turn is stopped within the manager's bounds, and the last line is ended."""
    face = PlainFace(Output.stdout(), Output.stderr(), job.explain)
    _introduce(face, session)
    chat = Chat(session, face, ChatLog(session.key), timeout=job.timeout)
    fd = os.open(os.devnull, os.O_RDONLY) if sys.stdin is None else sys.stdin.fileno()
    code = None
    try:
        code = await chat_in_lines(LineReader(fd), face, chat, _commands(job, chat, face))
    finally:
        if code is None:
            with shielded(_LAST_LINE_SECONDS), suppress(BrokenPipeError):
                await face.break_off()
    return code


def renderer_for(encoding: str) -> PlainRenderer:
    """Return the one with Markdown if rich is installed; its lines and bullets need Unicode."""
    colours = "NO_COLOR" not in os.environ
    if encoding.lower().replace("-", "") == "utf8":
        try:
            from ._render_rich import RichRenderer
        except ImportError:
            pass
        else:
            return RichRenderer(colours, encoding)
    return PlainRenderer(colours, encoding)


@contextmanager
def _notes_instead_of_logs(view: ChatView) -> Iterator[None]:
    handler, ours = NoteHandler(view), logging.getLogger("trio_acp")
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
