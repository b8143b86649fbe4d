"""Asking whoever sits at the terminal for permission, in the middle of a turn."""

from __future__ import annotations

import os
import sys
import termios
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from .._permissions import Ask
from ..abc import Verdict
from ._text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..abc import Decision, PermissionRequest
    from ._output import Output

_ANSWERS: Final[dict[str, Decision]] = {"y": "allow", "yes": "allow", "n": "deny", "no": "deny", "": "deny"}
_SHOWN: Final = 5


def can_ask() -> bool:
    """Whether somebody sees what is written to standard error, and can answer."""
    if sys.stderr is None or not sys.stderr.isatty():
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def ask_at_terminal(stderr: Output) -> Ask:
    """Return a policy that asks on standard error and reads the answer from the terminal, one question at a time.

    Standard input is left alone: it may be the prompt.
    """
    lock = trio.Lock()

    async def ask(request: PermissionRequest) -> Verdict:
        async with lock:
            await stderr.write(f"{_question(request)}\n")
            with _terminal() as terminal:
                while True:
                    await stderr.write("Allow it once? [y/N] ")
                    line = await _read_line(terminal)
                    if line is None:
                        await stderr.write("\n")
                        return Verdict(decision="cancel", rule="no answer")
                    decision = _ANSWERS.get(line.strip().lower())
                    if decision is not None:
                        return Verdict(decision=decision, rule="you were asked")

    return Ask(ask)


def _question(request: PermissionRequest) -> str:
    call = request.tool_call
    lines = [f"The agent asks for permission ({one_line(call.kind)}): {one_line(call.title)}"]
    lines += [f"  {one_line(location.path)}" for location in call.locations[:_SHOWN]]
    if len(call.locations) > _SHOWN:
        lines.append(f"  and {len(call.locations) - _SHOWN} more files")
    return "\n".join(lines)


@contextmanager
def _terminal() -> Iterator[int]:
    """Open the terminal anew, so that what is set on it is ours alone."""
    terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        termios.tcflush(terminal, termios.TCIFLUSH)  # what was typed before the question is no answer to it
        yield terminal
    finally:
        os.close(terminal)


async def _read_line(terminal: int) -> str | None:
    """Wait for a line; None once the terminal has gone.  If cancelled, what was typed is lost."""
    while True:
        await trio.lowlevel.wait_readable(terminal)
        try:
            data = os.read(terminal, 4096)
        except BlockingIOError:  # another reader was faster
            continue
        except OSError:
            return None
        return data.decode("utf-8", "replace") if data else None
