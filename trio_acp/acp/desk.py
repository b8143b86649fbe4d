"""Where a session's requests for files and terminals are served.

Some requests are the work of a turn: to read, to write, to start a command, to
wait for its end.  They need a running turn, at most 16 of them are open, and
whatever stops the turn answers them -32800 at once; the commands that the turn
has started are ended.  A turn that ends by itself answers what is still open in
the same way, but leaves its commands running.

The others look at what is there and clear it away: output, kill, release.  They
are served as long as the session is open, four at a time for each terminal that
it may have: more than an honest agent has use for.  After a cancel an agent has to be
able to tidy up before it answers its prompt, and then it is told how commands
that have ended did so.
"""

from __future__ import annotations

import functools
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio

from .._errors import InvalidMessage
from .._serving import serve
from ..services import Refused
from ..services.files import Files
from ..services.terminals import Terminals
from .codec import structure, unstructure
from .connection import RequestRefused
from .schema import ClientCapabilities, EmptyResponse, ErrorCode, FileSystemCapabilities
from .service_schema import (
    CreateTerminalRequest,
    CreateTerminalResponse,
    ReadTextFileRequest,
    ReadTextFileResponse,
    TerminalExitStatus,
    TerminalOutputResponse,
    TerminalRequest,
    WriteTextFileRequest,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    import attrs

    from ..services import ClientServices
    from ..services._refused import Reason
    from ..services._terminal import Terminal
    from .connection import Connection
    from .rpc import RequestId
    from .session import AgentSession

T = TypeVar("T")

_log = logging.getLogger(__name__)

MAX_REQUESTS: Final = 16
"""Requests for work that one session may have open; further ones are refused."""
_LOOKS_PER_TERMINAL: Final = 4

_CODES: Final[Mapping[Reason, ErrorCode]] = {
    "missing": ErrorCode.RESOURCE_NOT_FOUND,
    "invalid": ErrorCode.INVALID_PARAMS,
    "cancelled": ErrorCode.REQUEST_CANCELLED,
    "failed": ErrorCode.INTERNAL_ERROR,
}


def capabilities(services: ClientServices) -> ClientCapabilities:
    """Return what is announced of these services: exactly what is on."""
    files = services.files
    return ClientCapabilities(
        fs=None if files is None else FileSystemCapabilities(read_text_file=files.read, write_text_file=files.write),
        terminal=services.terminals is not None,
    )


def _offered(services: ClientServices) -> Mapping[str, type[attrs.AttrsInstance]]:
    """Return the methods that are on, and what their params are."""
    methods: dict[str, type[attrs.AttrsInstance]] = {}
    if services.files is not None and services.files.read:
        methods["fs/read_text_file"] = ReadTextFileRequest
    if services.files is not None and services.files.write:
        methods["fs/write_text_file"] = WriteTextFileRequest
    if services.terminals is not None:
        methods["terminal/create"] = CreateTerminalRequest
        for name in ("output", "wait_for_exit", "kill", "release"):
            methods[f"terminal/{name}"] = TerminalRequest
    return methods


async def serve_at_desk(
    services: ClientServices, sessions: Mapping[str, AgentSession], request_id: RequestId, method: str, params: object
) -> dict[str, Any]:
    """Answer one request of the agent.  If cancelled, it is answered by whoever cancelled.

    Raises:
        RequestRefused: to answer with an error.
    """
    form = _offered(services).get(method)
    if form is None:
        raise RequestRefused(ErrorCode.METHOD_NOT_FOUND, f"this client does not offer {method}")
    try:
        asked: Any = structure(form, params, at="$.params")
    except InvalidMessage as error:
        raise RequestRefused(ErrorCode.INVALID_PARAMS, str(error)) from error
    session = sessions.get(asked.session_id)
    if session is None:
        raise RequestRefused(ErrorCode.RESOURCE_NOT_FOUND, f"there is no session {asked.session_id!r} here")
    serve(*session.serves)
    try:
        return unstructure(await session.desk.serve(request_id, method, asked))
    except Refused as refused:
        _log.info("session %r was refused %s: %s", session.key, method, refused)
        raise RequestRefused(_CODES[refused.reason], str(refused)) from refused


class Desk:
    """Serves one session.

    Args:
        connection: Over which it asks.
        services: What it is offered.
        root: The session's directory.
        nursery: Has the tasks of its commands; ends with the connection.
    """

    def __init__(self, connection: Connection, services: ClientServices, root: str, nursery: trio.Nursery) -> None:
        self._connection = connection
        self._files = None if services.files is None else Files(services.files, root)
        self._terminals = None if services.terminals is None else Terminals(services.terminals, root, nursery)
        self._in_turn = False
        self._open: dict[RequestId, trio.CancelScope] = {}
        self._looks = 0
        self._most_looks = 0 if services.terminals is None else _LOOKS_PER_TERMINAL * services.terminals.max_terminals

    # -- turns, and the end ---------------------------------------------------------

    def begin_turn(self) -> None:
        """Serve work from now on."""
        self._in_turn = True

    def end_turn(self, *, stopped: bool) -> None:
        """Serve no more work and answer what is open; end what the turn has started if it was stopped."""
        self._in_turn = False
        # Forgotten at once: the agent may use an answered id again.
        answered, self._open = self._open, {}
        for request_id, scope in answered.items():
            self._connection.refuse(request_id, ErrorCode.REQUEST_CANCELLED, "the turn is over")
            scope.cancel(reason="the turn is over")
        if self._terminals is not None:
            self._terminals.turn_ended(stopped=stopped)

    def close(self) -> None:
        """Serve no more work, and have all commands ended; at once."""
        self.end_turn(stopped=True)
        if self._terminals is not None:
            self._terminals.close()

    async def wait_closed(self) -> None:
        """Wait until the commands are gone, about a second at most.  If cancelled, they end all the same."""
        if self._terminals is not None:
            await self._terminals.wait_closed()

    # -- requests -------------------------------------------------------------------

    async def serve(self, request_id: RequestId, method: str, asked: Any) -> attrs.AttrsInstance:
        """Do what is asked.

        If cancelled, it is not done, or wholly, a hanging rename even later; what was started is ended.

        Raises:
            Refused: why not.
        """
        work = functools.partial(self._work, request_id)
        if method == "fs/read_text_file":
            return await work(lambda: self._read(asked))
        if method == "fs/write_text_file":
            return await work(lambda: self._write(asked))
        if method == "terminal/create":
            return await work(lambda: self._create(asked))
        assert self._terminals is not None
        terminal = self._terminals[asked.terminal_id]
        if method == "terminal/wait_for_exit":
            if not terminal.done.is_set():
                await work(terminal.done.wait)
            return _status(terminal) or TerminalExitStatus()
        with self._look():
            if method == "terminal/output":
                return await self._output(asked, terminal)
            if method == "terminal/kill":
                await self._terminals.kill(asked.terminal_id)
            else:
                await self._terminals.release(asked.terminal_id)
            return EmptyResponse()

    @contextmanager
    def _look(self) -> Iterator[None]:
        """Count a request that needs no turn.

        Raises:
            Refused: there are too many.
        """
        if self._looks >= self._most_looks:
            raise Refused("failed", f"{self._most_looks} requests about this session's terminals are open already")
        self._looks += 1
        try:
            yield
        finally:
            self._looks -= 1

    async def _work(self, request_id: RequestId, work: Callable[[], Awaitable[T]]) -> T:
        if not self._in_turn:
            raise Refused("cancelled", "no turn of this session is running")
        if len(self._open) >= MAX_REQUESTS:
            raise Refused("failed", f"{MAX_REQUESTS} requests of this session are open already")
        with trio.CancelScope() as scope:
            self._open[request_id] = scope
            try:
                return await work()
            finally:
                if self._open.get(request_id) is scope:
                    del self._open[request_id]
        raise Refused("cancelled", "the turn is over")

    async def _read(self, asked: ReadTextFileRequest) -> ReadTextFileResponse:
        assert self._files is not None
        answer = ReadTextFileResponse(content=await self._files.read(asked.path, line=asked.line, limit=asked.limit))
        # An agent that asks and asks, and reads nothing, does not fill our memory.
        await self._connection.wait_for_room(len(answer.content))
        return answer

    async def _write(self, asked: WriteTextFileRequest) -> EmptyResponse:
        assert self._files is not None
        await self._files.write(asked.path, asked.content)
        return EmptyResponse()

    async def _create(self, asked: CreateTerminalRequest) -> CreateTerminalResponse:
        assert self._terminals is not None
        terminal_id = await self._terminals.create(
            asked.command,
            asked.args or (),
            env=[(variable.name, variable.value) for variable in asked.env or ()],
            cwd=asked.cwd,
            limit=asked.output_byte_limit,
        )
        return CreateTerminalResponse(terminal_id=terminal_id)

    async def _output(self, asked: TerminalRequest, terminal: Terminal) -> TerminalOutputResponse:
        # As for files; but here what is kept is only copied once there is room.
        await self._connection.wait_for_room(1)
        output, truncated = terminal.output()
        return TerminalOutputResponse(output=output, truncated=truncated, exit_status=_status(terminal))


def _status(terminal: Terminal) -> TerminalExitStatus | None:
    exited = terminal.exit
    return None if exited is None else TerminalExitStatus(exit_code=exited.code, signal=exited.signal)
