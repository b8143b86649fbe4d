"""The life of one connection to an agent: dial, initialize, serve, close.

A link is a task of its own, so that the caller who happened to need it first
can be cancelled without taking it away from the others.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from copy import copy
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import attrs
import trio

from .._audit import AuditEvent
from .._errors import (
    AcpError,
    AuthenticationRequired,
    BackendUnavailable,
    ConnectionLost,
    InvalidMessage,
    RequestFailed,
    SessionInitFailed,
)
from .._serving import serve
from ..abc import Handle
from .codec import structure, written
from .connection import Connection, RequestRefused
from .desk import Desk, capabilities, serve_at_desk
from .frame_log import logged
from .schema import (
    PROTOCOL_VERSION,
    AuthenticateRequest,
    CloseSessionRequest,
    EmptyResponse,
    ErrorCode,
    Implementation,
    InitializeRequest,
    InitializeResponse,
    NewSessionResponse,
    RequestPermissionRequest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._records import ProcessGroup
    from ..abc import Dial, Transport
    from ..services import ClientServices
    from .chunks import Chunk
    from .pending import PendingReply
    from .rpc import RequestId
    from .session import AgentSession

_log = logging.getLogger(__name__)


def _our_version() -> str:
    try:
        return version("trio-acp")
    except PackageNotFoundError:  # run from a directory that was never installed
        return "0"


class Link:
    """A connection, from the wish for it to its end.

    Args:
        services: What the agent is offered.

    Attributes:
        ready: Set once it can be used, or never will be.
        closed: Set when its task has ended.
        processes: The processes that were started for it.
        agent: What the agent said about itself; valid once ready without `error`.
        error: Why it cannot be used.
        sessions: The agent's sessions that are open on it, by ACP session id.
        poisoned: Ids of sessions that owe an answer here and are not used here again.
        retired: It serves the sessions it has, and gets no new ones.
        on_audit: Told of each answer to a request for permission; see `abc.Runtime`.
    """

    def __init__(self, services: ClientServices, on_audit: Callable[[AuditEvent], None] | None = None) -> None:
        self._services = services
        self._nursery: trio.Nursery
        self.on_audit = on_audit
        self.ready = trio.Event()
        self.closed = trio.Event()
        self.processes: tuple[ProcessGroup, ...] = ()
        self.agent: InitializeResponse
        self.connection: Connection
        self.error: AcpError | None = None
        self.sessions: dict[str, AgentSession] = {}
        self.poisoned: set[str] = set()
        self.retired = False
        self._opening_or_closing = 0
        self._scope = trio.CancelScope()

    @property
    def usable(self) -> bool:
        """Whether new sessions can be opened on it, now or when it is ready."""
        return not self.retired and self.error is None and (not self.ready.is_set() or self.connection.usable)

    async def wait_ready(self) -> None:
        """Wait until it can be used.  If cancelled, it goes on connecting, for others.

        Raises:
            AcpError: why it cannot be used.
        """
        await self.ready.wait()
        if self.error is not None:
            error = copy(self.error)  # each who waits gets one of his own: raising writes into it
            error.__cause__ = self.error.__cause__
            raise error

    def close(self, reason: str) -> None:
        """End it: gracefully if it is up, at once if it is not yet."""
        if self.ready.is_set() and self.error is None:
            self.connection.close()
        else:
            self._scope.cancel(reason=reason)

    def open_desk(self, root: str) -> Desk:
        """Return where a session of the directory `root` is served."""
        return Desk(self.connection, self._services, root, self._nursery)

    def release(self, session: AgentSession) -> bool:
        """Forget a session; False if its id is another's by now, or nobody's."""
        mine = self.sessions.get(session.id) is session
        if mine:
            del self.sessions[session.id]
        return mine

    def retire(self) -> None:
        """Give it no new sessions, and close it as soon as it has none."""
        self.retired = True
        self.close_if_unused()

    def close_if_unused(self) -> None:
        """Close it if it is retired, no session is left on it, and none is being opened or closed."""
        if self.retired and not self.sessions and not self._opening_or_closing:
            self.close("no session uses this connection any more")

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Have it stay open while a session is opened or closed on it, though others retire it meanwhile."""
        self._opening_or_closing += 1
        try:
            yield
        finally:
            self._opening_or_closing -= 1
            self.close_if_unused()

    @trio.lowlevel.enable_ki_protection
    async def run(self, dial: Dial, *, timeout: float, stall: float, auth_method: str | None) -> None:
        """Connect within `timeout` seconds and serve until the end.  Raises no error: see `error`."""
        serve()  # whichever session needed it first: it is nobody's
        try:
            with self._scope:
                self._scope.deadline = trio.current_time() + timeout
                async with dial() as transport:
                    await self._serve(transport, stall, auth_method)
        except Exception as error:  # noqa: BLE001 - whatever a dial raises, it ends this link and nothing else
            cause = _sole(error)
            if not isinstance(cause, AcpError):
                _log.exception("connecting to the agent, or hanging up, failed unexpectedly")
                unexpected = BackendUnavailable(f"connecting failed: {cause!r}", detail="internal-error")
                unexpected.__cause__, cause = cause, unexpected
            self._fail(cause)
        finally:
            self._fail(BackendUnavailable(f"the agent was not ready within {timeout:g} s", detail="connect-timeout"))
            self.closed.set()

    async def _serve(self, transport: Transport, stall: float, auth_method: str | None) -> None:
        self.connection = Connection(logged(transport, self._serves), self, stall=stall)
        self.processes = transport.processes
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self.connection.run, name="trio_acp connection")
            try:
                self.agent = await self._initialize()
                if auth_method is not None:
                    await self.authenticate(auth_method)
            except AcpError as error:
                self._fail(_as_unavailable(error))
                self.connection.close()
            else:
                self._scope.deadline = float("inf")
                self.ready.set()
            await self.connection.ended.wait()
            self._nursery.cancel_scope.cancel(reason="the connection has ended, and what it ran for the agent with it")

    def _fail(self, error: AcpError) -> None:
        if not self.ready.is_set():
            self.error = error
            self.ready.set()

    async def _initialize(self) -> InitializeResponse:
        ours = Implementation(name="trio-acp", version=_our_version())
        request = InitializeRequest(
            protocol_version=PROTOCOL_VERSION, client_capabilities=capabilities(self._services), client_info=ours
        )
        agent = await self.connection.request("initialize", written(request)).wait(InitializeResponse)
        if agent.protocol_version != PROTOCOL_VERSION:
            raise BackendUnavailable(
                f"the agent speaks version {agent.protocol_version} of the protocol, not {PROTOCOL_VERSION}",
                detail="protocol-version",
            )
        return agent

    async def authenticate(self, method_id: str) -> None:
        """Authenticate with one of the agent's methods.  If cancelled, it may have happened.

        Raises:
            AuthenticationRequired: the agent has no such method, or refused.
        """
        methods = [method.id for method in self.agent.auth_methods]
        if method_id not in methods:
            raise AuthenticationRequired(
                f"the agent has no authentication method {method_id!r} (it has: {', '.join(methods) or 'none'})",
                methods=methods,
            )
        try:
            await self.connection.call("authenticate", AuthenticateRequest(method_id=method_id), EmptyResponse)
        except RequestFailed as error:
            raise AuthenticationRequired(f"authentication failed: {error}", methods=methods) from error

    def refusal(self, error: RequestFailed, *, resuming: bool) -> SessionInitFailed:
        """Return what the agent's answer means to whoever wanted to open a session."""
        if error.rpc_code == ErrorCode.AUTHENTICATION_REQUIRED:
            methods = [method.id for method in self.agent.auth_methods]
            return AuthenticationRequired(
                f"the agent wants to be authenticated first; it offers: {', '.join(methods) or 'nothing'}",
                methods=methods,
            )
        # A request that the agent gave up says nothing about the session.
        lost = resuming and error.rpc_code != ErrorCode.REQUEST_CANCELLED
        detail = "resume-failed" if lost else None
        return SessionInitFailed(f"the agent refused the session: {error}", detail=detail)

    def close_late(self, pending: PendingReply, *, session_id: str | None = None) -> None:
        """Close a session that was opened or resumed for somebody who is gone, unless it is another's by now."""
        if pending.error is not None or not self.agent.agent_capabilities.session_capabilities.close:
            return
        try:
            opened = session_id or pending.read(NewSessionResponse).session_id
        except InvalidMessage:
            return
        if self.connection.usable and opened not in self.sessions:
            self.connection.request("session/close", written(CloseSessionRequest(session_id=opened)))

    # -- what the agent sends of its own accord -------------------------------------

    def on_update(self, session_id: str, update: object, size: int) -> bool:
        """Pass an update to its session; False if it has no running turn here."""
        session = self.sessions.get(session_id)
        return session is not None and session.on_update(update, size)

    def on_chunk(self, session_id: str, chunk: Chunk, size: int) -> bool:
        """Pass a chunk of text to its session; False if it has no running turn here."""
        session = self.sessions.get(session_id)
        return session is not None and session.deliver(chunk, size)

    async def serve(self, request_id: RequestId, method: str, params: object) -> dict[str, Any]:
        """Answer one request of the agent: see `connection.Handler`."""
        if method != "session/request_permission":
            return await serve_at_desk(self._services, self.sessions, request_id, method, params)
        try:
            asked = structure(RequestPermissionRequest, params, at="$.params")
        except InvalidMessage as error:
            self._turned_away("the request makes no sense", None, "")
            raise RequestRefused(ErrorCode.INVALID_PARAMS, str(error)) from error
        session = self.sessions.get(asked.session_id)
        if session is None:
            self.connection.count("permission-of-unknown-session")
            self._turned_away("there is no such session", asked.session_id, asked.tool_call.merged_into(None).title)
            return {"outcome": {"outcome": "cancelled"}}
        serve(*session.serves)
        return await session.ask_permission(request_id, asked)

    def _serves(self, session_id: str) -> tuple[str, str]:
        session = self.sessions.get(session_id)
        return ("", "") if session is None else session.serves

    def _turned_away(self, rule: str, session_id: str | None, title: str) -> None:
        if self.on_audit is not None:
            self.on_audit(
                AuditEvent(event="permission", decision="cancel", rule=rule, title=title, session_id=session_id)
            )


@attrs.define(eq=False, kw_only=True)
class AcpHandle(Handle):
    """A handle of `AcpRuntime`: an agent's session on a link."""

    link: Link
    session: AgentSession


def _sole(error: Exception) -> Exception:
    """Return what a group of one is about: a dial that has a nursery raises such groups."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _as_unavailable(error: AcpError) -> AcpError:
    if isinstance(error, RequestFailed):
        return BackendUnavailable(f"the agent refused to initialize: {error}", detail="initialize-failed")
    if isinstance(error, ConnectionLost):
        return BackendUnavailable(f"the connection ended before it was ready: {error}", detail=error.detail)
    return error
