"""Asking whoever sits at the terminal for permission, in the middle of a turn."""

from __future__ import annotations

import os
import sys
import termios
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import trio

from .._permissions import Ask
from ..abc import Verdict
from ._answers import answers_to
from ._text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..abc import PermissionRequest
    from ._answers import Answer
    from ._output import Output

_MEANING: Final = {
    "allow_once": "allow it once",
    "allow_always": "allow it ALWAYS",
    "reject_once": "deny it",
    "reject_always": "deny it ALWAYS",
}
_MAX_FILES: Final = 20
# Long enough for the end of a command to be seen: it may be what matters.
_MAX_TEXT: Final = 1000


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
        answers = answers_to(request.options)
        keys = [answer.key for answer in answers]
        words = {word: answer for answer in answers for word in (answer.key, answer.word)}
        words[""] = words["n"]
        async with lock:
            await stderr.write(f"{_question(request, answers)}\n")
            with _terminal() as terminal:
                while True:
                    await stderr.write(f"Allow it? [{'/'.join(keys).replace('n', 'N')}] ")
                    line = await _read_line(terminal)
                    if line is None:
                        await stderr.write("\n")
                        return Verdict(decision="cancel", rule="no answer")
                    answer = words.get(line.strip().lower())
                    if answer is not None:
                        return answer.verdict("you were asked")
                    await stderr.write(f"Please answer {', '.join(keys[:-1])} or {keys[-1]}.\n")

    return Ask(ask)


def _question(request: PermissionRequest, answers: Sequence[Answer]) -> str:
    """Say what is asked, and what each answer does: that depends on what the agent offers."""
    call = request.tool_call
    lines = [f"The agent asks for permission ({one_line(call.kind)}): {one_line(call.title, limit=_MAX_TEXT)}"]
    lines += [f"  {one_line(location.path, limit=_MAX_TEXT)}" for location in call.locations[:_MAX_FILES]]
    if len(call.locations) > _MAX_FILES:
        lines.append(f"  and {len(call.locations) - _MAX_FILES} more files")
    for answer in answers:
        option = answer.option
        meaning = "cancel: the agent does not offer this" if option is None else _MEANING[option.kind]
        once = " (once is not offered)" if meaning.endswith("ALWAYS") and not answer.always else ""
        lines.append(f"  {answer.key} = {meaning}{once}")
    return "\n".join(lines)


@contextmanager
def _terminal() -> Iterator[int]:
    """Open the terminal anew, so that what is set on it is ours alone."""
    terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        termios.tcflush(terminal, termios.TCIFLUSH)  # what was typed before the question is no answer to it
        yield terminal
    except trio.Cancelled:
        with suppress(OSError):
            os.write(terminal, b"\n")  # whatever is written next is no part of the question
        raise
    finally:
        os.close(terminal)


async def _read_line(terminal: int) -> str | None:
    """Wait for a line; None if it was ended (Ctrl-D), or has gone.  If cancelled, what was typed is lost."""
    while True:
        await trio.lowlevel.wait_readable(terminal)
        try:
            data = os.read(terminal, 4096)
        except BlockingIOError:  # another reader was faster
            continue
        except OSError:
            return None
        return data.decode("utf-8", "replace") if data else None
