"""Terminals for an agent: commands from a list, each in a process group of its own, bounded in every way.

What the protocol calls a terminal is a command and its output, nothing more: no
shell, no screen, no input.
"""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from .._errors import InvalidOption
from ..transports._checks import require_seconds
from ._environment import base_environment, environment
from ._refused import Refused, quoted
from ._replace import Gate
from ._root import components, open_directory
from ._terminal import Terminal, start_terminal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_log = logging.getLogger(__name__)

_DIRECTORY_SECONDS: Final = 10.0
_THREADS: Final = 4


def _resolve(commands: Iterable[str]) -> dict[str, str]:
    if isinstance(commands, str):
        raise InvalidOption("commands must be a list of names, not one text", detail="invalid-commands")
    found = {}
    for name in commands:
        if not name or "\0" in name or ("/" in name and not name.startswith("/")):
            raise InvalidOption(
                f"a command is the name of a program, or its absolute path, not {name!r}", detail="invalid-commands"
            )
        program = shutil.which(name)
        if program is None:
            where = "" if name.startswith("/") else " on PATH"
            raise InvalidOption(f"there is no program {name!r}{where}", detail="no-such-program")
        found[name] = str(Path(program).absolute())
    if not found:
        raise InvalidOption("a TerminalService must allow at least one command", detail="invalid-commands")
    return found


@attrs.frozen(kw_only=True)
class TerminalService:
    """Lets agents run commands below their session's directory.

    A command runs if its name is one of `commands`, to the letter.  What the
    name means is looked up once, when the service is made; neither the agent's
    ``PATH`` nor a program in its working directory can change it.  There is no
    shell unless one is in the list; and with a shell, an interpreter, a build
    tool or anything that runs other programs in it, everything is allowed.

    A command has no input.  Its output and errors are one stream, of which the
    end is kept.  Its process group is ended (SIGTERM, and half a second later
    SIGKILL) when it is killed or released, when the turn that started it is
    stopped, when its session or its connection ends, and after `wall` seconds.
    A turn that ends by itself leaves its commands running.

    Starting one cannot be interrupted and has no deadline: if the file system
    of the program hangs while it is loaded, so does the request, and with it the
    end of the connection.  Name programs of a local file system.

    None of this is a sandbox.  A command that leaves its process group, as
    ``setsid`` and daemons do, is not ended with the group, nor counted, nor
    held to `wall`: it lives on, until somebody else ends it.  Where that must
    not be, run the whole program in something that ends all of its processes:
    a container, or a unit of the system's service manager.

    Args:
        commands: Names of programs, or absolute paths.
        max_output: Bytes of output that are kept, at most; the agent may ask for fewer.
        wall: Seconds that a command may run.
        max_terminals: How many a session may have that are not released, or not gone yet.

    Attributes:
        env: What a command's environment begins with: not ours, but a short list of ours.

    Raises:
        InvalidOption: a value cannot be, or there is no such program.
    """

    commands: Mapping[str, str] = attrs.field(converter=_resolve)
    max_output: int = 2**20
    wall: float = 600.0
    max_terminals: int = 8
    env: Mapping[str, str] = attrs.field(factory=base_environment, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        for name, value in (("max_output", self.max_output), ("max_terminals", self.max_terminals)):
            _require_count(name, value)
        require_seconds("wall", self.wall)


def _require_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidOption(f"{name} must be a whole number of at least 1, not {value!r}", detail=f"invalid-{name}")


class Terminals:
    """The terminals of one session.

    Args:
        service: What is allowed, and how much of it.
        root: The session's directory.
        nursery: Has the task of each command; ends with the connection.
    """

    def __init__(self, service: TerminalService, root: str, nursery: trio.Nursery) -> None:
        self._service = service
        self._root = root
        self._nursery = nursery
        self._terminals: dict[str, Terminal] = {}
        self._of_this_turn: set[Terminal] = set()
        self._running: set[Terminal] = set()  # those that were released are here until they are gone
        self._starting = self._started = 0
        self._none_starts = trio.Event()
        self._none_starts.set()
        # As for files: what hangs in a file system must not take the threads that all else needs.
        self._limiter = trio.CapacityLimiter(_THREADS)
        self._closed = False

    async def create(
        self,
        command: str,
        args: Sequence[str],
        *,
        env: Iterable[tuple[str, str]],
        cwd: str | None,
        limit: int | None,
    ) -> str:
        """Start a command; return its id.

        If cancelled, it is not started, or ended as soon as it was.

        Raises:
            Refused: why it is not started.
        """
        service = self._service
        program = service.commands.get(command)
        if program is None:
            allowed = ", ".join(service.commands)
            raise Refused(
                "invalid", f"{quoted(command)} may not be run, but: {allowed} (arguments are given apart, in args)"
            )
        if any("\0" in word for word in args):
            raise Refused("invalid", "an argument has a null character in it")
        if limit is not None and limit < 0:
            raise Refused("invalid", f"outputByteLimit must be at least 0, not {limit}")
        whole = environment(dict(service.env), env)
        # Those that were released count until they are gone: they may take no notice of SIGTERM.
        if len(self._running.union(self._terminals.values())) + self._starting >= service.max_terminals:
            raise Refused("failed", f"{service.max_terminals} terminals are not released; release one of them first")
        if not self._starting:
            self._none_starts = trio.Event()
        self._starting += 1
        try:
            terminal = await self._start(command, [program, *args], cwd, whole, limit)
        finally:
            self._starting -= 1
            if not self._starting:
                self._none_starts.set()
        # From here on without a checkpoint: whoever was started has an owner, and can be stopped.
        self._running.add(terminal)
        self._nursery.start_soon(self._own, terminal, name=f"trio_acp terminal {terminal.pid}")
        if self._closed or trio.current_effective_deadline() == float("-inf"):
            terminal.end()
            raise Refused("cancelled", "the turn or the session ended while the command was being started")
        self._started += 1
        terminal_id = f"terminal-{self._started}"
        self._terminals[terminal_id] = terminal
        self._of_this_turn.add(terminal)
        # Without its arguments, which may have a secret in them.
        _log.info("%s: the agent runs %s as process %d", terminal_id, program, terminal.pid)
        return terminal_id

    @trio.lowlevel.enable_ki_protection
    async def _own(self, terminal: Terminal) -> None:
        try:
            await terminal.run()
        finally:
            self._running.discard(terminal)

    async def _start(
        self, command: str, argv: list[str], cwd: str | None, env: dict[str, str], limit: int | None
    ) -> Terminal:
        most = self._service.max_output
        path = self._root if cwd is None else cwd
        found: list[int] = []
        gate = Gate()
        with ExitStack() as opened:
            try:
                with trio.move_on_after(_DIRECTORY_SECONDS):
                    await trio.to_thread.run_sync(
                        self._open, cwd, found, gate, abandon_on_cancel=True, limiter=self._limiter
                    )
            finally:
                if not gate.withdraw():  # else the thread closes what it may still open
                    opened.callback(os.close, found[0])
            if not found:
                raise Refused("failed", f"{path!r}: the file system did not answer within {_DIRECTORY_SECONDS:g} s")
            return await start_terminal(
                argv,
                name=command,
                directory=found[0],
                path=path,
                env=env,
                limit=most if limit is None else min(limit, most),
                wall=self._service.wall,
            )

    def _open(self, cwd: str | None, found: list[int], gate: Gate) -> None:
        names = [] if cwd is None else components(self._root, cwd)
        with open_directory(self._root, names, cwd or self._root) as directory:
            opened = os.dup(directory)
        found.append(opened)
        try:
            gate.enter()
        except Refused:
            os.close(opened)
            raise

    def __getitem__(self, terminal_id: str) -> Terminal:
        """Return a terminal that is not released.

        Raises:
            Refused: there is none of that id.
        """
        try:
            return self._terminals[terminal_id]
        except KeyError:
            raise Refused("missing", f"there is no terminal {quoted(terminal_id)}") from None

    async def kill(self, terminal_id: str) -> None:
        """End a command; its id stays valid.  If cancelled, it is ended all the same.

        Raises:
            Refused: there is none of that id.
        """
        terminal = self[terminal_id]
        terminal.end()
        await terminal.done.wait()

    async def release(self, terminal_id: str) -> None:
        """End a command and forget it.  If cancelled, that happens all the same.

        Raises:
            Refused: there is none of that id.
        """
        terminal = self[terminal_id]
        del self._terminals[terminal_id]
        self._of_this_turn.discard(terminal)
        terminal.end()
        await terminal.done.wait()

    def turn_ended(self, *, stopped: bool) -> None:
        """Have what the turn started ended, if it was stopped; afterwards nothing is this turn's any more."""
        if stopped:
            for terminal in self._of_this_turn:
                terminal.end()
        self._of_this_turn.clear()

    def close(self) -> None:
        """Have all ended and let none be started, at once; see `wait_closed`."""
        self._closed = True
        for terminal in self._running:
            terminal.end()

    async def wait_closed(self) -> None:
        """Wait until all that `close` ended are gone.  If cancelled, they are ended all the same."""
        await self._none_starts.wait()  # what was being started is ended as soon as it was
        for terminal in tuple(self._running):
            await terminal.done.wait()
