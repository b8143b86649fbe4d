"""``trio-acp prompt``: one turn on an agent."""

from __future__ import annotations

import argparse
import functools
import logging
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from .._errors import AcpError, RequestFailed, TurnTimedOut
from .._events import PermissionAnswered
from .._limits import Limits, Settings
from .._manager import open_session_manager
from .._outcomes import Completed, Failed, Outcome, Stopped, TimedOut
from .._service import shielded
from ..stores import MemoryStore, SQLiteStore
from ._backend import add_backend_options, find_backend
from ._consent import ask_at_terminal, can_ask
from ._defaults import is_given
from ._exits import DENIED, ERROR, INTERRUPTED, OK, TIMEOUT, exit_code
from ._formats import WRITERS, Writer
from ._logging import log_to_stderr
from ._options import Commands, add_command, seconds
from ._output import Output, complain
from ._policy import add_permission_option, make_policy
from ._record import add_record_option, make_audit, make_transcript
from ._services import add_service_options
from ._signals import run
from ._store import USUAL_AGENT, add_store_option, store_path
from ._text import one_line
from ._trace import add_trace_option, open_trace
from ._why import begins_anew, why

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._manager import SessionManager
    from .._records import Mode
    from ..abc import AuditLog, PermissionPolicy, SessionStore, Transcript
    from ..acp.runtime import AcpRuntime

_DESCRIPTION = """\
Send a prompt (TEXT, or - for standard input) to an agent; show what it answers.
Its text is on standard output, what it does meanwhile on standard error.
"""
_EXAMPLES = """\
example: git diff | trio-acp prompt - --agent gemini --format quiet
"""
_LAST_LINE_SECONDS = 1.0
# A pager may be left standing for long; the library's own bound is for programs that should read.
_MAX_BUFFERED = 256 * 2**20


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = add_command(
        commands,
        "prompt",
        prompt,
        usage="trio-acp prompt TEXT|- [options]",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    option = parser.add_argument
    option("text", metavar="TEXT", help=argparse.SUPPRESS)
    add_backend_options(parser)
    option("--session", metavar="KEY", help="resume or create it; else one for this prompt")
    option("--cwd", metavar="DIR", help="its working directory (default: the current one)")
    option("--timeout", type=seconds, metavar="S", help="seconds until it is stopped")
    add_store_option(parser)
    add_record_option(parser)
    add_permission_option(parser)
    add_service_options(parser)
    add_trace_option(parser)
    option("--format", choices=tuple(WRITERS), default="text", metavar="WORD", help="text (default), json or quiet")
    option("-v", "--verbose", action="store_true", help="tell on standard error what went on")


def prompt(options: argparse.Namespace) -> int:
    """Run the command; return its exit code.

    Raises:
        InvalidOption: an option has a value that it cannot have.
        BrokenPipeError: nobody reads standard output any more.
    """
    fail = options.parser.error
    if is_given(options, "store") and options.session is None:
        fail("--store needs --session")
    if is_given(options, "record") and options.session is None:
        fail("--record needs --session")
    if options.session is not None and not options.session.strip():
        fail("--session needs a name")
    cwd = Path(options.cwd or ".").resolve()
    if not cwd.is_dir():
        fail(f"--cwd: there is no directory {options.cwd}")
    log_to_stderr(logging.INFO if options.verbose else None)
    backend = find_backend(options)
    text = _read_stdin() if options.text == "-" else options.text
    # Bytes of another encoding came in as lone surrogates, which nothing can send.
    text = text.encode("utf-8", "replace").decode()
    if not text.strip():
        fail("the prompt is empty")
    limits = Limits()
    if options.timeout is not None:
        limits = attrs.evolve(limits, turn=options.timeout, setup=min(limits.setup, options.timeout))
    path = store_path(options)
    writer = WRITERS[options.format](Output.stdout(), Output.stderr())
    job = _Job(
        text=text,
        make_runtime=backend.make_runtime,
        key=options.session,
        cwd=str(cwd),
        settings=Settings(limits=limits, max_buffered=_MAX_BUFFERED),
        store=MemoryStore() if options.session is None else SQLiteStore(path),
        audit=None if options.session is None else make_audit(path),
        transcript=None if options.session is None else make_transcript(options, path),
        policy=make_policy(options, ask=ask_at_terminal(Output.stderr()) if can_ask() else None),
        trace=options.trace,
        writer=writer,
        why=functools.partial(why, command=backend.command, limits=limits, timeout=options.timeout),
    )
    code = run(functools.partial(_run, job))
    if job.complaint is not None and code != OK:
        complain(one_line(job.complaint, limit=1000), interrupted=code == INTERRUPTED)
    return code


def _read_stdin() -> str:
    return "" if sys.stdin is None else sys.stdin.buffer.read().decode("utf-8", "replace")


@attrs.define(kw_only=True)
class _Job:
    """What is to be done.

    Attributes:
        why: Finds the words for an error that ended it.
        complaint: Why the exit code is not 0, once that is known.
        begun: Whether its turn was begun.
        refused: The last permission that was not given.
    """

    text: str
    make_runtime: Callable[[], AcpRuntime]
    key: str | None
    cwd: str
    settings: Settings
    store: SessionStore
    audit: AuditLog | None
    transcript: Transcript | None
    policy: PermissionPolicy
    trace: Path | None
    writer: Writer
    why: Callable[[AcpError], str]
    complaint: str | None = None
    begun: bool = False
    refused: PermissionAnswered | None = None


async def _run(job: _Job) -> int:
    """Open a manager for one turn.  If cancelled, the turn is stopped within its cleanup budget."""
    async with (
        open_trace(job.trace) as trace,
        open_session_manager(
            {USUAL_AGENT: job.make_runtime()},
            store=job.store,
            audit=job.audit,
            transcript=job.transcript,
            settings=job.settings,
            permissions=job.policy,
            instrument=trace,
        ) as manager,
    ):
        try:
            outcome = await _turn(job, manager)
        except trio.Cancelled:
            job.complaint = "interrupted; the turn was stopped" if job.begun else "interrupted before the turn began"
            with shielded(_LAST_LINE_SECONDS), suppress(BrokenPipeError):
                await job.writer.finish(Stopped(by="caller", reason="interrupted"))
            raise
        await job.writer.finish(outcome)
    return _judge(job, outcome)


async def _turn(job: _Job, manager: SessionManager) -> Outcome:
    began = trio.current_time()
    mode: Mode = "oneshot" if job.key is None else "persistent"
    try:
        session = await manager.start_session(job.key or uuid.uuid4().hex, agent=USUAL_AGENT, cwd=job.cwd, mode=mode)
        if session.origin == "replaced":
            await job.writer.note(begins_anew(session))
        left = max(job.settings.limits.turn - (trio.current_time() - began), 0.001)
        async with session.turn(job.text, timeout=left) as turn:
            job.begun = True
            async for event in turn:
                if isinstance(event, PermissionAnswered) and event.decision != "allow":
                    job.refused = event
                await job.writer.show(event)
    except TurnTimedOut as error:
        return TimedOut(limits=job.settings.limits, cleanup=error.cleanup)
    except AcpError as error:
        return Failed(error)
    assert turn.outcome is not None
    return turn.outcome


def _judge(job: _Job, outcome: Outcome) -> int:
    """Return the exit code of a turn, and note the complaint that goes with it."""
    refusal = ""
    if job.refused is not None:
        refusal = f", after this was not permitted: {job.refused.tool_call.title}"
    match outcome:
        case Failed(error=error):
            code = exit_code(error)
            # A crash or a lost connection after a denial is not because of it; an answer that is an error may be.
            denied = isinstance(error.__cause__, RequestFailed) and job.refused is not None
            job.complaint = job.why(error) + (refusal if denied else "")
            return DENIED if denied else code
        case Completed(stop_reason="refusal") if job.refused is not None:
            job.complaint = f"the agent refused{refusal}"
            return DENIED
        case Completed():
            return OK
        case TimedOut(limits=limits):
            job.complaint = f"the time was up after {limits.turn:g} s"
            return TIMEOUT
        case _:
            job.complaint = "the agent stopped the turn"
            return ERROR
