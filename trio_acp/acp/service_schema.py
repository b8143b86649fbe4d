"""The messages of ACP v1 by which an agent uses the files and terminals of its client.

Requests arrive and results are sent.  The rules are those of `schema`.
"""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class ReadTextFileRequest:
    """``fs/read_text_file``; `line` is counted from 1."""

    session_id: str
    path: str
    line: int | None = None
    limit: int | None = None


@attrs.frozen(kw_only=True)
class ReadTextFileResponse:
    """A file, or the lines of it that were asked for."""

    content: str


@attrs.frozen(kw_only=True)
class WriteTextFileRequest:
    """``fs/write_text_file``: all of a file, which is made if there is none."""

    session_id: str
    path: str
    content: str


@attrs.frozen(kw_only=True)
class EnvVariable:
    """A variable of a command's environment."""

    name: str
    value: str


@attrs.frozen(kw_only=True)
class CreateTerminalRequest:
    """``terminal/create``: run a command; it is answered once that has started."""

    session_id: str
    command: str
    args: tuple[str, ...] | None = None
    env: tuple[EnvVariable, ...] | None = None
    cwd: str | None = None
    output_byte_limit: int | None = None


@attrs.frozen(kw_only=True)
class CreateTerminalResponse:
    """A command was started."""

    terminal_id: str


@attrs.frozen(kw_only=True)
class TerminalRequest:
    """``terminal/output``, ``terminal/wait_for_exit``, ``terminal/kill``, ``terminal/release``."""

    session_id: str
    terminal_id: str


@attrs.frozen(kw_only=True)
class TerminalExitStatus:
    """How a command ended: by its own code, or by a signal.  Also the result of ``terminal/wait_for_exit``."""

    exit_code: int | None = None
    signal: str | None = None


@attrs.frozen(kw_only=True)
class TerminalOutputResponse:
    """What a command has written so far; `truncated` says that the beginning is missing."""

    output: str
    truncated: bool
    exit_status: TerminalExitStatus | None = None
