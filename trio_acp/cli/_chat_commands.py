"""The commands of a chat: lines that begin with a slash."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from .._errors import AcpError, InvalidOption
from .._records import SessionRecord
from ._export import EXPORTS
from ._files import write_private
from ._text import one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._chat_session import Chat, Face

HELP: Final = {
    "/mode [MODE]": "tell the agent's mode, or change it",
    "/set [KEY VALUE]": "tell its options, or change one",
    "/status": "tell how the session is",
    "/cancel": "stop the turn, take back what waits",
    "/queue [clear]": "tell what waits, or take it back",
    "/export FILE": "write a new file, .md or .jsonl",
    "/help": "this list",
    "/quit": "leave; the session can be resumed",
}
KEYS: Final = {
    "Ctrl-C": "stop the turn; twice: leave",
    "Ctrl-D": "leave",
    "Ctrl-U": "clear the line",
    "Alt-Enter": "begin a new line",
}
_FORMS: Final = {".md": "markdown", ".jsonl": "jsonl"}
_WRITE_SECONDS = 10.0


@attrs.define(eq=False)
class ChatCommands:
    """Carries out what lines say: prompts go to the chat, commands are done here.

    Attributes:
        permissions: What the agent is answered when it asks, in a word.
        quit: Called by ``/quit``.
        base: The directory that names of files begin in.
    """

    chat: Chat
    face: Face
    permissions: str
    quit: Callable[[], None]
    base: Path

    def enter(self, line: str) -> Callable[[], Awaitable[None]] | None:
        """Do what a line says, at once; return what takes longer, for a task that may end late."""
        text = line.strip()
        if not text:
            return None
        name, _, rest = text[1:].partition(" ") if text.startswith("/") else ("", "", "")
        rest = rest.strip()
        if not text.startswith("/") or (name in self.chat.told.commands and f"/{name}" not in _names()):
            self._say(line)
        elif text.startswith("//"):
            self._say(text[1:])
        else:
            match name, rest:
                case "mode", "":
                    self.face.note(f"mode: {self.chat.told.mode or 'not told'}")
                case "mode", mode:
                    self._in_order(functools.partial(self._set_mode, mode))
                case "set", "":
                    self._list_options()
                case "set", pair if " " in pair:
                    key, _, value = pair.partition(" ")
                    self._in_order(functools.partial(self._set_option, key, value.strip()))
                case "status", "":
                    return self._status
                case "cancel", "":
                    self._cancel()
                case "queue", "":
                    self._queue()
                case "queue", "clear":
                    self.face.note(f"{self.chat.withdraw()} taken back")
                case "export", file if file:
                    return functools.partial(self._export, file)
                case "help", _:
                    self._help()
                case "quit" | "exit", "":
                    self.quit()
                case _ if f"/{name}" in _names():
                    usage = next(usage for usage in HELP if usage.split()[0] == f"/{name}")
                    self.face.note(f"usage: {usage}", bad=True)
                case _:
                    self.face.note(
                        f"there is no command /{name}; /help lists them, and // begins a prompt with /", bad=True
                    )
        return None

    def _say(self, text: str) -> None:
        if self.chat.say(text) is None:
            self.face.note("too much waits already; this was not queued (the up key brings it back)", bad=True)

    def _in_order(self, job: Callable[[], Awaitable[None]]) -> None:
        if not self.chat.in_order(job):
            self.face.note("too much waits already; try it again later", bad=True)
        elif self.chat.prompts:
            self.face.note("this is done when the prompts before it have ended")

    async def _set_mode(self, mode: str) -> None:
        options = await self.chat.session.set_mode(mode)
        self.chat.told.mode = options.mode or ""
        self.face.note(f"mode: {options.mode}")

    async def _set_option(self, key: str, value: str) -> None:
        await self.chat.session.set_config_option(key, value)
        self.face.note(f"{key}: {value}")

    def _list_options(self) -> None:
        options = self.chat.told.options
        for option in options:
            values = f" (of {', '.join(option.values)})" if option.values else ""
            self.face.note(one_line(f"{option.id}: {option.current_value}{values}"))
        if not options:
            self.face.note("the agent has told of no options yet")

    async def _status(self) -> None:
        try:
            status = await self.chat.session.status()
        except AcpError as error:
            self.face.note(str(error), bad=True)
            return
        told = {
            "session": status.key,
            "agent's id": status.session_id or "none yet",
            "state": ("open, " if status.live else "closed, ") + status.state,
            "directory": status.cwd or "the agent's own",
            "waiting": str(len(self.chat.waiting)),
            "permissions": self.permissions,
            "mode": self.chat.told.mode,
            "context": self.chat.told.usage_in_words(),
            "last error": status.last_error or "",
        }
        for name, value in told.items():
            if value:
                self.face.note(one_line(f"{name}: {value}"))

    def _cancel(self) -> None:
        waiting = self.chat.withdraw()
        stopped = self.chat.stop()
        if waiting or not stopped:
            self.face.note(f"{'stopping; ' if stopped else 'nothing runs; '}{waiting} taken back")

    def _queue(self) -> None:
        waiting = self.chat.waiting
        for number, said in enumerate(waiting, 1):
            self.face.note(one_line(f"{number}. {said.text}"))
        if not waiting:
            self.face.note("nothing waits")

    async def _export(self, file: str) -> None:
        log, path = self.chat.log, Path(file)
        try:
            path = _place(self.base, file)
            form = _FORMS.get(path.suffix.lower())
            if form is None:
                raise InvalidOption(f"the file's name ends in .md or .jsonl, not {path.name!r}", detail="invalid-file")
            told = await self.chat.session.status()
            record = SessionRecord(key=told.key, agent=told.agent, cwd=told.cwd, identity=told.identity)
            text = EXPORTS[form](record, log.entries)
            with trio.move_on_after(_WRITE_SECONDS) as scope:
                write = functools.partial(write_private, path, text, replace=False)
                await trio.to_thread.run_sync(write, abandon_on_cancel=True)
        except FileExistsError:
            self.face.note(f"/export: {path} is there already; nothing was written", bad=True)
        except AcpError as error:
            self.face.note(f"/export: {error}", bad=True)
        except OSError as error:
            self.face.note(f"/export: {path}: {error.strerror}", bad=True)
        else:
            if scope.cancelled_caught:
                self.face.note(f"/export: {path}: not written within {_WRITE_SECONDS:g} s", bad=True)
            else:
                cut = "; what came after its first 16 MiB is not in it" if log.full else ""
                self.face.note(f"written: {path}{cut}")

    def _help(self) -> None:
        agents = {f"/{name}": f"{words} (the agent's)" for name, words in sorted(self.chat.told.commands.items())}
        self.face.explain({name: words for name, words in agents.items() if name not in _names()} | HELP | KEYS)


def _place(base: Path, file: str) -> Path:
    """Return where a file is.

    Raises:
        InvalidOption: there can be no such file.
    """
    try:
        path = base / Path(file).expanduser()
    except RuntimeError:
        raise InvalidOption(f"there is no such home directory: {file}", detail="invalid-file") from None
    if "\0" in file:
        raise InvalidOption(f"a file's name has no NUL in it: {file!r}", detail="invalid-file")
    return path


def _names() -> set[str]:
    return {usage.split()[0] for usage in HELP}
