"""What the scripted agent does with the files and terminals of its client."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._agent_updates import Json
    from ._script import Step

    Ask: TypeAlias = Callable[[str, Json], Awaitable[Json]]


async def use_client(step: Step, cwd: str, ask: Ask) -> str:
    """Do one of these steps; return what is to be said about it.  If cancelled, it stops between two requests.

    Args:
        step: Which, and with what.
        cwd: The session's directory, from which relative paths count.
        ask: Sends a request and returns its result, or ``{"error": ...}``.
    """
    if step.name == "read-file":
        lines = {name: int(value) for name, value in step.options.items()}
        answer = await ask("fs/read_text_file", {"path": _absolute(step.text, cwd), **lines})
        return _said(answer, f"read: {answer.get('content')} ")
    if step.name == "write-file":
        path, _, content = step.text.partition(" ")
        return _said(await ask("fs/write_text_file", {"path": _absolute(path, cwd), "content": content}), "written ")
    try:
        command, *args = shlex.split(step.text)
    except ValueError as error:
        return f"error {error} "
    created = await ask("terminal/create", {"command": command, "args": args})
    if "error" in created or step.name == "terminal-start":
        return _said(created, f"started: {created.get('terminalId')} ")
    this = {"terminalId": created["terminalId"]}
    ended = await ask("terminal/wait_for_exit", this)
    output = await ask("terminal/output", this)
    await ask("terminal/release", this)
    return _said(ended, f"ran: {output.get('output')}[{ended.get('signal') or ended.get('exitCode')}] ")


def _absolute(path: str, cwd: str) -> str:
    return path if path.startswith("/") else f"{cwd.rstrip('/')}/{path}"


def _said(answer: Json, otherwise: str) -> str:
    error: Any = answer.get("error")
    return otherwise if error is None else f"error {json.dumps(error)} "
