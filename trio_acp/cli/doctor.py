"""``trio-acp doctor``: an agent tried out step by step, with what to do where it fails."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ._backend import add_backend_options, find_backend
from ._checkup import Checkup, Step
from ._exits import ERROR, OK
from ._logging import log_to_stderr
from ._options import Commands, add_command, seconds
from ._output import Output
from ._signals import run
from ._text import one_line

if TYPE_CHECKING:
    import argparse

    from ._backend import Backend

_DESCRIPTION = """\
Try an agent step by step, up to a session without a prompt, and leave nothing
behind.  The exit code is 0 if all is well, and else 1.
"""
_EXAMPLES = """\
examples:
  trio-acp doctor --agent gemini
  trio-acp doctor --url wss://example.org/acp --token-file token
"""


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = add_command(
        commands,
        "doctor",
        doctor,
        usage="trio-acp doctor [options]",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_backend_options(parser)
    option = parser.add_argument
    option("--cwd", metavar="DIR", help="the session's directory (default: one made for it)")
    option("--timeout", type=seconds, default=10.0, metavar="S", help="seconds for each step (default: 10)")
    option("--format", choices=("text", "json"), default="text", help="lines (default), or JSON")


def doctor(options: argparse.Namespace) -> int:
    """Run the command; return its exit code.

    Raises:
        InvalidOption: an option has a value that it cannot have.
        BrokenPipeError: nobody reads standard output any more.
    """
    log_to_stderr(None)
    if options.cwd is not None and not Path(options.cwd).is_dir():
        options.parser.error(f"--cwd: there is no directory {options.cwd}")
    backend = find_backend(options)
    with tempfile.TemporaryDirectory(prefix="trio-acp-doctor-", ignore_cleanup_errors=True) as made:
        cwd = str(Path(options.cwd or made).resolve())
        return run(functools.partial(_check, backend, cwd, options.timeout, as_json=options.format == "json"))


async def _check(backend: Backend, cwd: str, timeout: float, *, as_json: bool) -> int:
    out = Output.stdout()
    steps: list[Step] = []

    async def show(step: Step) -> None:
        steps.append(step)
        if not as_json:
            await out.write(_lines(step))

    checkup = Checkup(backend, cwd=cwd, timeout=timeout, show=show)
    await checkup.run()
    if as_json:
        told = {"agent": backend.shown, "ok": not checkup.failed, "steps": [_json(step) for step in steps]}
        await out.write(json.dumps(told) + "\n")
    return ERROR if checkup.failed else OK


def _lines(step: Step) -> str:
    took = "" if step.seconds is None else f"{step.seconds * 1000:.0f} ms"
    line = f"{step.status:8}{step.name:15}{took:>9}  {one_line(step.words)}".rstrip() + "\n"
    return line if step.remedy is None else f"{line}        -> {one_line(step.remedy)}\n"


def _json(step: Step) -> dict[str, Any]:
    told = attrs.asdict(step, filter=lambda field, _: field.name not in {"seconds", "error"})
    told["ms"] = None if step.seconds is None else round(step.seconds * 1000, 3)
    told["error"] = None if step.error is None else {"code": step.error[0], "detail": step.error[1]}
    return told
