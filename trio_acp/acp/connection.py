"""One ACP connection: a reader, a single writer, and the requests of both sides.

Nobody but the writer task touches the transport's sending side: callers put
whole frames into a queue, synchronously, so no cancellation can tear a frame.
A frame that the writer has not taken yet can be withdrawn, and then nothing
was ever sent.  The reader never waits for anybody: it hands out what arrived
with synchronous calls, and starts a task for each of the agent's requests.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import attrs
import trio

from .._errors import ConnectionLost, WireError
from .chunks import read_chunk
from .codec import encode, unstructure, written
from .frame_log import LoggedTransport
from .outbox import Outbox
from .pending import Frame, PendingReply
from .rpc import (
    AnswerWith,
    ErrorArrived,
    Ignored,
    NotificationArrived,
    PeerState,
    RequestArrived,
    ResponseArrived,
    RpcPeer,
)
from .schema import CancelRequestNotification, ErrorCode
from .writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..abc import Transport
    from .chunks import Chunk
    from .rpc import RequestId

_log = logging.getLogger(__name__)

T = TypeVar("T", bound=attrs.AttrsInstance)

LAST_WORDS = 1.0
"""Seconds for reading on when nothing can be written any more."""


class RequestRefused(Exception):
    """Raised by a handler to answer the agent's request with a JSON-RPC error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Handler(Protocol):
    """Who is told what the agent sends of its own accord."""

    def on_update(self, session_id: str, update: object, size: int) -> bool:
        """Take a ``session/update`` of `size` bytes; False if nobody waits for it."""

    def on_chunk(self, session_id: str, chunk: Chunk, size: int) -> bool:
        """Take one that has been read already, as for `on_update`."""

    async def serve(self, request_id: RequestId, method: str, params: object) -> dict[str, Any]:
        """Answer one request; its task is cancelled if the agent takes the request back.

        Raises:
            RequestRefused: to answer with an error.
        """


class Connection:
    """A connection over a transport that somebody else opens and closes.

    Args:
        transport: Where messages go and come from.
        handler: Hears what the agent sends of its own accord.
        stall: Seconds after which a write that does not end breaks the connection.
    """

    def __init__(self, transport: Transport, handler: Handler, *, stall: float) -> None:
        self.ignored: Counter[str] = Counter()
        self.ended = trio.Event()
        self._over = False  # the same, for the hottest path
        self._transport = transport
        self._handler = handler
        self._peer: RpcPeer[PendingReply] = RpcPeer()
        # A frame that is logged is logged with the session it is about.
        self._outbox = Outbox(mixed=not isinstance(transport, LoggedTransport))
        self._writer = Writer(self._outbox, transport, stall)
        self._serving: dict[RequestId, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None

    def __repr__(self) -> str:
        return f"<Connection {self._peer!r}, {self._outbox.size} characters queued>"

    @property
    def usable(self) -> bool:
        """Whether requests can be made."""
        return self._peer.state is PeerState.OPEN

    # -- sending ----------------------------------------------------------------

    async def wait_for_room(self, size: int) -> None:
        """Wait until so many characters more fit into the queue; a checkpoint only if it waits.

        Answers and notifications need not wait: they always fit.
        """
        if self._outbox:
            await self._outbox.wait_for_room(size, lambda: self.usable)

    def request(self, method: str, params: str) -> PendingReply:
        """Enqueue a request, whose params are `codec.written` already.

        Raises:
            ConnectionLost: the connection has ended; nothing was sent, so it is retryable.
        """
        pending = PendingReply(method, self._forget)
        pending.id = self._peer.request(method, pending)
        pending.frame = self._outbox.put(f'{{"jsonrpc":"2.0","id":{pending.id},"method":"{method}","params":{params}}}')
        return pending

    async def ask(self, method: str, params: attrs.AttrsInstance) -> PendingReply:
        """Enqueue a request once there is room for it.  If cancelled, nothing happened.

        Raises:
            ConnectionLost: as for `request`.
        """
        text = written(params)
        await self.wait_for_room(len(text))
        return self.request(method, text)

    def notify(self, method: str, params: attrs.AttrsInstance) -> None:
        """Enqueue a notification; does nothing once the connection has ended."""
        if self._peer.state in {PeerState.OPEN, PeerState.CLOSING}:
            self._enqueue(self._peer.notification(method, unstructure(params)))

    def answer(self, request_id: RequestId, result: dict[str, Any]) -> bool:
        """Enqueue the answer to a request of the agent; False if it has one already.

        What its task says later is dropped: the agent may have used the id again.
        """
        return self._reply(request_id, self._peer.reply(request_id, result))

    def refuse(self, request_id: RequestId, code: int, text: str) -> bool:
        """Do the same with an error as the answer."""
        return self._reply(request_id, self._peer.reply_error(request_id, code, text))

    def _reply(self, request_id: RequestId, message: dict[str, Any] | None) -> bool:
        if message is None:
            return False
        self._serving.pop(request_id, None)
        self._enqueue(message)
        return True

    async def call(
        self,
        method: str,
        params: attrs.AttrsInstance,
        cls: type[T],
        *,
        on_answer: Callable[[PendingReply], None] | None = None,
        on_late: Callable[[PendingReply], None] | None = None,
    ) -> T:
        """Send a request and wait for its answer.

        If cancelled, it is withdrawn or, if it was sent, the agent is told that
        it is not wanted any more; an answer that comes all the same goes to `on_late`.

        Args:
            on_answer: Told of the answer, however late, as soon as it was read
                and before anything behind it is.

        Raises:
            RequestFailed: the agent answered with an error.
            InvalidMessage: the answer has not the form of `cls`.
            ConnectionLost: the connection ended first.
        """
        pending = await self.ask(method, params)
        pending.on_answer = on_answer
        try:
            return await pending.wait(cls)
        except trio.Cancelled:
            if not pending.withdraw(ConnectionLost(f"{method} was withdrawn before it was sent", detail="withdrawn")):
                self.notify("$/cancel_request", CancelRequestNotification(request_id=pending.id))
                if on_late is not None:
                    pending.on_answer = on_late
                    if pending.done:
                        on_late(pending)
            raise

    def _forget(self, pending: PendingReply) -> None:
        self._peer.forget(pending.id)
        if pending.frame is not None:
            self._outbox.remove(pending.frame)

    def _enqueue(self, message: dict[str, Any]) -> Frame:
        return self._outbox.put(encode(message))

    # -- ending -----------------------------------------------------------------

    def close(self) -> None:
        """End in good order, at once: what is unanswered fails, what is unsent is not sent."""
        self._end(self._peer.close())

    def break_(self, error: WireError) -> None:
        """End because of an error; the first one counts."""
        self._end(self._peer.break_(error))

    def _end(self, tokens: tuple[PendingReply, ...]) -> None:
        for pending in tokens:
            lost = self._peer.lost()
            # Before the writer took it, nothing can have been started.  After that nobody knows.
            lost.retryable = not pending.sent
            pending.settle(error=lost)
        self._outbox.wake()
        self._over = True
        self.ended.set()

    # -- tasks ------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Read and write until the connection ends.  If cancelled, it ends.

        Raises no error: what ended the connection is the error of everything that was pending.
        """
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._guard, self._read, name="trio_acp reader")
                self._nursery.start_soon(self._guard, self._write, name="trio_acp writer")
                self._nursery.start_soon(self._guard, self._writer.watch, name="trio_acp writer's watch")
                await self.ended.wait()
                self._nursery.cancel_scope.cancel(reason="the connection has ended")
        finally:
            self.close()

    @trio.lowlevel.enable_ki_protection
    async def _guard(self, serve: Callable[[], Any]) -> None:
        try:
            await serve()
        except WireError as error:
            self.break_(error)
        except Exception as error:  # noqa: BLE001 - our fault: the connection pays, nobody else
            _log.exception("the connection failed in trio_acp itself")
            broken = ConnectionLost(
                "trio_acp failed while it served the connection; see the log", detail="internal-error"
            )
            broken.__cause__ = error
            self.break_(broken)

    async def _write(self) -> None:
        lost = await self._writer.write()
        # The agent is gone, but what it said before may still be on its way to the reader.
        with trio.move_on_after(LAST_WORDS):
            await self.ended.wait()
        raise lost

    async def _read(self) -> None:
        while True:
            # All of them without a checkpoint between: the transport bounds how many there are.
            for message in await self._transport.receive_many():
                if isinstance(message, bytes):
                    self.count("binary-frame")
                else:
                    self._take(message)

    def _take(self, text: str) -> None:
        if not self._over and (chunk := read_chunk(text)) is not None:  # nearly all there is
            if not self._handler.on_chunk(*chunk, len(text)):
                self.count("update-outside-a-turn")
            return
        match self._peer.receive(text):
            case ResponseArrived(token=pending, result=result):
                pending.settle(result=result)
            case NotificationArrived(method="session/update", params=params):
                self._take_update(params, len(text))
            case ErrorArrived(token=pending, error=error):
                pending.settle(error=error)
            case RequestArrived() as arrived:
                assert self._nursery is not None
                scope = self._serving[arrived.id] = trio.CancelScope()
                self._nursery.start_soon(self._serve, arrived, scope, name=f"trio_acp {arrived.method}")
            case NotificationArrived(method="$/cancel_request", params=dict(params)):
                self._take_cancel(params.get("requestId"))
            case NotificationArrived():
                self.count("unknown-notification")
            case AnswerWith(kind=kind, message=answer):
                self.count(kind)
                self._enqueue(answer)
            case Ignored(kind=kind):
                self.count(kind)

    def _take_chunk(self, session_id: str, chunk: Chunk, size: int) -> None:
        if not self._handler.on_chunk(session_id, chunk, size):
            self.count("update-outside-a-turn")

    def _take_update(self, params: object, size: int) -> None:
        if not isinstance(params, dict) or not isinstance(session_id := params.get("sessionId"), str):
            self.count("malformed-update")
        elif not self._handler.on_update(session_id, params.get("update"), size):
            self.count("update-outside-a-turn")

    def _take_cancel(self, request_id: object) -> None:
        scope = self._serving.get(request_id) if isinstance(request_id, int | str) else None
        if scope is None:
            self.count("cancel-of-unknown-request")
        else:
            scope.cancel(reason="the agent took its request back")

    @trio.lowlevel.enable_ki_protection
    async def _serve(self, arrived: RequestArrived, scope: trio.CancelScope) -> None:
        """Answer one request of the agent, exactly once, whatever the handler does."""
        unanswered = False
        result: dict[str, Any] | None = None
        code, text = int(ErrorCode.REQUEST_CANCELLED), "the request was cancelled"
        try:
            with scope:
                result = await self._handler.serve(arrived.id, arrived.method, arrived.params)
        except RequestRefused as refusal:
            code, text = refusal.code, str(refusal)
        except Exception:  # noqa: BLE001 - the agent gets an error for its request, and that is all
            _log.exception("answering the agent's %s failed", arrived.method)
            code, text = int(ErrorCode.INTERNAL_ERROR), "the client failed to answer"
        finally:
            if unanswered := self._serving.get(arrived.id) is scope:
                del self._serving[arrived.id]
        if not unanswered:
            return
        if result is not None:
            self.answer(arrived.id, result)
        else:
            self.refuse(arrived.id, code, text)

    def count(self, kind: str) -> None:
        """Count something that is tolerated, and log its first occurrence."""
        self.ignored[kind] += 1
        if self.ignored[kind] == 1:
            _log.info("tolerated from the agent: %s", kind)
