"""ACP over pipes: start an agent as a child process, or be the agent on our own standard streams.

One JSON value a line.  POSIX only: the guarantee that nothing of an agent
survives rests on process groups.
"""

from __future__ import annotations

import logging
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from trio_acp._errors import ConnectionLost, InvalidOption, MessageTooLarge
from trio_acp._owner import start_time
from trio_acp._records import ProcessGroup
from trio_acp._service import ServiceScope, shielded
from trio_acp.abc import Transport

from ._agent_process import AgentProcess, open_agent_process
from ._checks import MAX_MESSAGE, require_max_message, require_seconds
from ._life import CLOSED_HERE, SEND_CANCELLED, Life, require_text
from ._lines import MessageReader, frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from trio_acp.abc import Dial

__all__ = ["LineTransport", "StdioTransport", "dial_stdio", "stdio_server_transport"]

_log = logging.getLogger(__name__)

_POSIX = os.name == "posix"
_EXIT_SECONDS = 0.5
_FORCE_SECONDS = 1.0


async def _send_line(life: Life, stream: trio.abc.SendStream, message: str, gone: str) -> None:
    """Send one message as a line, with the laws of `Transport.send`; `gone` says that nobody reads any more."""
    require_text(message)
    with life.sending:
        await life.require()
        try:
            await stream.send_all(frame(message))
        except trio.Cancelled:
            life.end(SEND_CANCELLED)
            with shielded(_FORCE_SECONDS):
                await trio.aclose_forcefully(stream)
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise (life.lost() if life.ended else ConnectionLost(gone)) from None


class StdioTransport(Transport):
    """A connection to an agent that runs as a child process."""

    def __init__(self, process: AgentProcess, program: str, *, max_message: int) -> None:
        self._process = process
        self._program = program
        # Nobody has waited for it yet, so the number is its own, even if it has exited.
        self.processes = (ProcessGroup(pgid=process.pid, start_time=start_time(process.pid)),)
        self._reader = MessageReader(max_message)
        self._life = Life()
        # Handed over, not stored: what the agent writes waits in its pipe until somebody receives.
        self._deliver, self._incoming = trio.open_memory_channel[str](0)
        self._failure: ConnectionLost | MessageTooLarge | None = None
        self._closing = False
        self._closed = trio.Event()

    @property
    def pid(self) -> int:
        """The agent's process id."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """The agent's exit status once it has exited, negative for a signal."""
        return self._process.status

    @property
    def stderr_tail(self) -> str:
        """The last 8 KiB of what the agent wrote to its standard error.  Untrusted."""
        return self._process.stderr_tail

    @property
    def skipped_lines(self) -> int:
        """How many lines of the agent's output were no messages."""
        return self._reader.skipped

    async def send(self, message: str) -> None:
        """Send one message as a line.  If cancelled in the middle, the connection is gone.

        Raises:
            ConnectionLost: the connection has ended, or an earlier send was cancelled.
            InvalidMessage: the text has a lone surrogate.
        """
        try:
            await _send_line(self._life, self._process.stdin, message, "the agent no longer reads its standard input")
        finally:
            if self._life.ended:
                self._incoming.close()

    async def receive(self) -> str | bytes:
        """Wait for the next message.  If cancelled, no message was taken.

        Raises:
            ConnectionLost: the agent exited (`detail` is ``"agent-exited"``; the message has its status and
                its last words) or the connection has ended otherwise.
            MessageTooLarge: a line exceeded the limit; the connection is gone.
        """
        with self._life.receiving:
            await self._life.require()
            try:
                return await self._incoming.receive()
            except (trio.EndOfChannel, trio.ClosedResourceError):
                failure, self._failure = self._failure, None
            await trio.lowlevel.checkpoint()
            if failure is None or self._life.ended:
                raise self._life.lost()
            self._life.end(str(failure), detail=failure.detail)
            raise failure

    async def aclose(self) -> None:
        """Close the agent's input and end its process group, by force if need be.

        Of the close timeout, half is for the agent to exit by itself, a quarter
        to heed SIGTERM, a quarter to be gone after SIGKILL.  If cancelled, it
        is killed at once.  A second caller waits for the first.
        """
        first, self._closing = not self._closing, True
        self._life.end(CLOSED_HERE, detail="closed")
        self._incoming.close()
        try:
            if first:
                await self._process.stop()
            else:
                await self._closed.wait()
        finally:
            self._closed.set()
        await trio.lowlevel.checkpoint()

    @trio.lowlevel.enable_ki_protection
    async def pump(self) -> None:
        """Hand the agent's messages to `receive`; afterwards read and drop, so that it can exit.

        If cancelled, it stops reading.
        """
        stdout = self._process.stdout
        with self._deliver:
            try:
                failure: ConnectionLost | MessageTooLarge = await self._deliver_all(stdout)
            except MessageTooLarge as error:
                failure = error
            self._failure = failure
        try:
            while await stdout.receive_some():
                pass
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            await trio.lowlevel.checkpoint()

    async def _deliver_all(self, stdout: trio.abc.ReceiveStream) -> ConnectionLost:
        reported = False
        while True:
            try:
                data = await stdout.receive_some()
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                data = b""
            if not data:
                return await self._end_of_output()
            self._reader.feed(data)
            while (message := self._reader.next_message()) is not None:
                try:
                    await self._deliver.send(message)
                except trio.BrokenResourceError:
                    return self._life.lost()
            if self._reader.skipped and not reported:
                reported = True
                first = self._process.redacted(self._reader.first_skipped or "")
                _log.info("%s wrote a line that is no message, ignored: %.80r", self._program, first)

    async def _end_of_output(self) -> ConnectionLost:
        how = await self._process.describe_exit(_EXIT_SECONDS)
        torn = f" (in the middle of a line, after {self._reader.pending} bytes)" if self._reader.pending else ""
        if how is None:
            return ConnectionLost(f"the agent closed its standard output{torn}")
        return ConnectionLost(f"{how}{torn}", detail="agent-exited")


def dial_stdio(
    argv: Sequence[str],
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    close_timeout: float = 2.0,
    max_message: int = MAX_MESSAGE,
) -> Dial:
    """Say how to start an ACP agent as a child process; nothing is started yet.

    ``async with dial() as transport`` starts it, in a process group of its own
    that is gone when the block is left.  Cancelled while starting, it is killed.
    Starting raises `BackendUnavailable` with `detail` ``no-such-program``,
    ``no-such-directory`` or ``cannot-start``; the body's exceptions leave as
    they are.

    Args:
        argv: The program and its arguments; no shell is involved.
        cwd: Its working directory; ours if None.
        env: Its whole environment, but for ``TRIO_ACP_OWNER``; ours if None.
        close_timeout: Seconds for its end: see `StdioTransport.aclose`.
        max_message: The longest line to receive, in bytes.

    Raises:
        InvalidOption: an argument has a value that it cannot have, or this is not a POSIX system.
    """
    _require_posix()
    if isinstance(argv, str) or not argv or any("\0" in word for word in argv):
        raise InvalidOption("argv must be a list of words: the program, then its arguments", detail="invalid-argv")
    require_seconds("close_timeout", close_timeout)
    require_max_message(max_message)
    return _StdioDial(
        program=argv[0],
        argv=tuple(argv),
        cwd=None if cwd is None else os.fspath(cwd),
        env=None if env is None else dict(env),
        close_timeout=close_timeout,
        max_message=max_message,
    )


@attrs.frozen(kw_only=True, eq=False)
class _StdioDial:
    program: str
    argv: tuple[str, ...] = attrs.field(repr=False)
    cwd: str | None
    env: dict[str, str] | None = attrs.field(repr=False)
    close_timeout: float
    max_message: int

    def __call__(self) -> AbstractAsyncContextManager[StdioTransport]:
        return self._start()

    @asynccontextmanager
    async def _start(self) -> AsyncIterator[StdioTransport]:
        # Opened first: nothing can come between the start of the process and the tasks that look after it.
        async with ServiceScope("stdio") as nursery:
            process = await open_agent_process(self.argv, cwd=self.cwd, env=self.env, close_timeout=self.close_timeout)
            transport = StdioTransport(process, self.program, max_message=self.max_message)
            try:
                nursery.start_soon(process.watch_exit)
                nursery.start_soon(process.drain_stderr)
                nursery.start_soon(transport.pump)
                yield transport
            finally:
                await transport.aclose()


class LineTransport(Transport):
    """Messages as lines over a pair of streams; it owns both."""

    def __init__(
        self, outgoing: trio.abc.SendStream, incoming: trio.abc.ReceiveStream, *, max_message: int = MAX_MESSAGE
    ) -> None:
        # It closes the outgoing one first: where both are one file, each puts back the blocking mode it found.
        self._streams = trio.StapledStream(outgoing, incoming)
        self._reader = MessageReader(max_message)
        self._life = Life()

    @property
    def skipped_lines(self) -> int:
        """How many lines were no messages."""
        return self._reader.skipped

    async def send(self, message: str) -> None:
        """Send one message as a line.  If cancelled in the middle, the connection is gone.

        Raises:
            ConnectionLost: the connection has ended, or an earlier send was cancelled.
            InvalidMessage: the text has a lone surrogate.
        """
        await _send_line(self._life, self._streams, message, "the peer no longer reads")

    async def receive(self) -> str | bytes:
        """Wait for the next message.  If cancelled, no message was taken.

        Raises:
            ConnectionLost: the connection has ended.
            MessageTooLarge: a line exceeded the limit; the connection is gone.
        """
        with self._life.receiving:
            await self._life.require()
            await trio.lowlevel.checkpoint()
            try:
                while (message := self._reader.next_message()) is None:
                    data = await self._streams.receive_some()
                    if not data:
                        self._life.end("the peer closed its end of the connection")
                        raise self._life.lost()
                    self._reader.feed(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._life.end("the connection broke off")
                raise self._life.lost() from None
            except MessageTooLarge as error:
                self._life.end(str(error), detail=error.detail)
                with shielded(_FORCE_SECONDS):
                    await trio.aclose_forcefully(self._streams)
                raise
            return message

    async def aclose(self) -> None:
        """Close both streams.  If cancelled, they are closed all the same."""
        self._life.end(CLOSED_HERE, detail="closed")
        with shielded(_FORCE_SECONDS):
            await trio.aclose_forcefully(self._streams)
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def stdio_server_transport(*, max_message: int = MAX_MESSAGE) -> AsyncIterator[LineTransport]:
    """Be an agent: a transport over this process's own standard input and output.

    The descriptors are duplicated, so standard input and output stay open, and
    are put back into blocking mode at the end.  Nothing else may print to
    standard output meanwhile.  If cancelled, it closes.

    Raises:
        InvalidOption: this is not a POSIX system.
    """
    _require_posix()
    require_max_message(max_message)
    incoming = trio.lowlevel.FdStream(os.dup(0))
    outgoing = trio.lowlevel.FdStream(os.dup(1))
    transport = LineTransport(outgoing, incoming, max_message=max_message)
    try:
        yield transport
    finally:
        await transport.aclose()


def _require_posix() -> None:
    if not _POSIX:
        raise InvalidOption("agents over pipes need a POSIX system: use a WebSocket", detail="unsupported-platform")
