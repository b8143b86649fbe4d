"""`AcpRuntime`: the adapter through which the session manager speaks ACP."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from .._errors import RequestFailed, SessionInitFailed
from .._service import ServiceScope, shielded
from ..abc import Handle, RuntimeStatus
from ..services import ClientServices
from ..transports._checks import require_seconds
from .attachments import check_offered
from .link import AcpHandle, Link
from .reopen import reopen
from .schema import CloseSessionRequest, EmptyResponse, ErrorCode, NewSessionRequest, NewSessionResponse
from .session import AgentSession
from .session_controls import RuntimeControls, current_mode

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from .._events import Event
    from ..abc import Dial, Done, EnsureRequest, EventSink, TurnRequest
    from ..transports._engines import Engine

CLOSE_LIMIT = 5.0
"""Seconds for all connections to close when the runtime is left; each has a shorter deadline of its own."""


class AcpRuntime(RuntimeControls):
    """Speaks ACP v1 with an agent.  ACP: ``initialize``, ``authenticate``, and what is called ``session/...``.

    Connects when a session first needs it, keeps one connection for all
    sessions, and dials a new one when it broke or when a session that owes an
    answer there has to be resumed.  No prompt is ever sent twice.

    Args:
        dial: Opens a connection; see `websocket` and `stdio`.
        connect_timeout: Seconds for connecting, initializing and authenticating.
        stall: Seconds after which a write that does not end breaks the connection;
            ``math.inf`` for never.
        auth_method: The id of the agent's authentication method to use on each connection.
        services: What the agent may do through us; nothing by default.

    Attributes:
        on_replay: Hears what the agent sends of a session that was resumed, while no
            turn of it runs: the conversation, if the agent replays it.  With it,
            sessions are loaded rather than resumed, where the agent offers both.

    Raises:
        InvalidOption: a number of seconds cannot be one.
    """

    on_replay: Callable[[Event], None] | None = None
    tells_ids = False  # a session has one id here, and the handle has it

    def __init__(
        self,
        dial: Dial,
        *,
        connect_timeout: float = 30.0,
        stall: float = 30.0,
        auth_method: str | None = None,
        services: ClientServices | None = None,
    ) -> None:
        require_seconds("connect_timeout", connect_timeout)
        if stall != math.inf:
            require_seconds("stall", stall)
        self._dial = dial
        self._connect_timeout = connect_timeout
        self._stall = stall
        self._auth_method = auth_method
        self._services = services or ClientServices()
        self._scope = ServiceScope("connections")
        self._nursery: trio.Nursery | None = None
        self._current: Link | None = None
        self._links: set[Link] = set()

    @classmethod
    def websocket(
        cls,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        token_file: str | Path | None = None,
        token_env: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        ping_interval: float | None = None,
        allow_insecure: bool = False,
        connect_timeout: float = 30.0,
        stall: float = 30.0,
        auth_method: str | None = None,
        services: ClientServices | None = None,
        engine: Engine = "trio-websocket",
    ) -> AcpRuntime:
        """Return a runtime for an agent behind a WebSocket endpoint.

        Args:
            url, headers: Such as ``ws://127.0.0.1:8137/acp``, and what is sent with the handshake.
            token_file, token_env: The file, read at each dial, or the environment variable that has a bearer token.
            ssl_context: For ``wss``; default: the system's trust store.
            ping_interval: Seconds between pings, at least 20; None for none.
            allow_insecure: Send a token over ``ws`` to another machine all the same.
            engine: ``websockets`` is the faster one, of the extra ``fast``.
            connect_timeout, stall, auth_method, services: As for `AcpRuntime`.

        Raises:
            InvalidOption: the URL, a header, the engine or a number of seconds cannot be used.
        """
        from ..transports.websocket import dial_websocket

        dial = dial_websocket(
            url,
            headers=headers,
            token_file=token_file,
            token_env=token_env,
            ssl_context=ssl_context,
            connect_timeout=connect_timeout,
            ping_interval=ping_interval,
            allow_insecure=allow_insecure,
            engine=engine,
        )
        return cls(dial, connect_timeout=connect_timeout, stall=stall, auth_method=auth_method, services=services)

    @classmethod
    def stdio(
        cls,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        connect_timeout: float = 30.0,
        stall: float = 30.0,
        auth_method: str | None = None,
        services: ClientServices | None = None,
    ) -> AcpRuntime:
        """Return a runtime that starts an agent as a child process and speaks over its stdin and stdout.

        POSIX only.  The agent has a process group, which is ended with the connection, grandchildren included.

        Args:
            argv: The program and its arguments; no shell is involved.
            cwd, env: Where it runs, and its whole environment; None inherits ours.
            connect_timeout, stall, auth_method, services: As for `AcpRuntime`.

        Raises:
            InvalidOption: an argument cannot be that, or this is not a POSIX system.
        """
        from ..transports.stdio import dial_stdio

        dial = dial_stdio(argv, cwd=cwd, env=env)
        return cls(dial, connect_timeout=connect_timeout, stall=stall, auth_method=auth_method, services=services)

    async def __aenter__(self) -> AcpRuntime:
        """Get ready; connect to nothing yet.  It is not cancelled; `RuntimeError` if another manager has it."""
        if self._nursery is not None:
            raise RuntimeError("this runtime belongs to an open session manager already")
        self._nursery = await self._scope.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Close all connections, gracefully within their deadlines, by force after 5 seconds; also if cancelled."""
        for link in list(self._links):
            link.close("the runtime is closed")
        interrupt: KeyboardInterrupt | None = None
        try:
            with shielded(CLOSE_LIMIT) as waiting:
                for link in list(self._links):
                    await link.closed.wait()
            if waiting.cancelled_caught:
                self._scope.report()
        except KeyboardInterrupt as error:
            interrupt = error  # raised below: the scope has to be left first
        self._nursery = None
        self._scope, scope = ServiceScope("connections"), self._scope
        await scope.__aexit__(exc_type, exc, tb)
        if interrupt is not None:
            raise interrupt

    # -- abc.Runtime ------------------------------------------------------------------

    async def ensure_session(self, request: EnsureRequest) -> AcpHandle:
        """Open a session, or resume one: see `abc.Runtime`; `RuntimeError` if no manager has entered it."""
        link = self._choose_link(avoid=request.resume)
        cwd = request.cwd or str(Path.cwd())
        with link.in_use():
            await link.wait_ready()
            try:
                if request.resume is None:
                    session = await self._new(link, request.key, cwd)
                else:
                    session = await self._resume(link, request.key, request.resume, cwd)
            except RequestFailed as error:
                raise link.refusal(error, resuming=request.resume is not None) from error
        return AcpHandle(
            key=request.key, session_id=session.id, cwd=cwd, processes=link.processes, link=link, session=session
        )

    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        """Send the prompt, to steer or not, and its updates into `events`: see `abc.Runtime`."""
        assert isinstance(request.handle, AcpHandle)
        check_offered(request.prompt, request.handle.link.agent.agent_capabilities.prompt_capabilities)
        return await request.handle.session.run_turn(request, events)

    async def cancel(self, handle: Handle, reason: str) -> None:
        """Send ``session/cancel`` and wait for the prompt's answer: see `abc.Runtime`; if cancelled, it is sent too."""
        await self._session(handle).cancel()

    async def close(self, handle: Handle, reason: str) -> None:
        """Ask the agent to close the session where it offers that; never closes a connection others use.

        From its first step on, also if cancelled in it, nothing more of the session is listened
        to.  A handle whose agent's session has been resumed for another one leaves it alone.
        """
        assert isinstance(handle, AcpHandle)
        link, session = handle.link, handle.session
        session.desk.close()
        if not link.release(session):
            return
        if session.unanswered:
            link.poisoned.add(session.id)
        with link.in_use():
            await session.desk.wait_closed()
            try:
                if link.connection.usable and link.agent.agent_capabilities.session_capabilities.close:
                    asked = await link.connection.ask("session/close", CloseSessionRequest(session_id=session.id))
                    # Whoever gives up waiting does not take it back: nobody will ask again.
                    await asked.wait(EmptyResponse)
            except RequestFailed as error:
                if error.rpc_code != ErrorCode.RESOURCE_NOT_FOUND:  # then it is closed already
                    raise

    async def status(self, handle: Handle) -> RuntimeStatus:
        """Tell what the connection knows, for ACP v1 has no request for it.  If cancelled, nothing happened."""
        await trio.lowlevel.checkpoint()
        assert isinstance(handle, AcpHandle)
        agent = handle.link.agent.agent_info
        session = handle.session
        return RuntimeStatus(
            summary="connected" if handle.link.connection.usable else "disconnected",
            session_id=session.id,
            details={
                # Only where nothing is lost by asking for it again.
                "status": "no-session" if session.unknown and self.can_resume(handle) else None,
                "agent": None if agent is None else f"{agent.name} {agent.version}",
                "unanswered": session.unanswered,
                "mode": current_mode(session),
                "tolerated": dict(handle.link.connection.ignored),
            },
        )

    def is_alive(self, handle: Handle) -> bool:
        """Whether the handle's connection is up."""
        assert isinstance(handle, AcpHandle)
        return handle.link.connection.usable

    def can_resume(self, handle: Handle) -> bool:
        """Whether the agent offers ``session/resume`` or ``session/load``."""
        assert isinstance(handle, AcpHandle)
        offers = handle.link.agent.agent_capabilities
        return offers.load_session or offers.session_capabilities.resume

    def is_quiet(self, handle: Handle) -> bool:
        """Whether the late answer of the last prompt has come meanwhile."""
        return not self._session(handle).unanswered

    async def authenticate(self, method_id: str) -> None:
        """Authenticate now, connecting if need be, and again on each later connection.

        If cancelled, it may have happened.

        Raises:
            AuthenticationRequired: the agent has no such method, or refused.
            BackendUnavailable: the agent cannot be reached.
            RuntimeError: no manager has entered it.
        """
        link = self._choose_link(avoid=None)
        with link.in_use():
            await link.wait_ready()
            await link.authenticate(method_id)
        self._auth_method = method_id

    # -- opening ------------------------------------------------------------------------

    def _choose_link(self, *, avoid: str | None) -> Link:
        """Return a connection that is up or coming up, and on which the session `avoid` owes no answer."""
        link = self._current
        if link is None or not link.usable or avoid in link.poisoned:
            if link is not None:
                link.retire()
            self._current = link = self._start_link()
        return link

    def _start_link(self) -> Link:
        if self._nursery is None:
            raise RuntimeError("this runtime has not been entered: give it to open_session_manager()")
        link = Link(self._services, self.on_audit)
        self._links.add(link)
        self._nursery.start_soon(self._run_link, link, name="trio_acp link")
        return link

    async def _run_link(self, link: Link) -> None:
        try:
            await link.run(self._dial, timeout=self._connect_timeout, stall=self._stall, auth_method=self._auth_method)
        finally:
            self._links.discard(link)

    async def _new(self, link: Link, key: str, cwd: str) -> AgentSession:
        request = NewSessionRequest(cwd=cwd, mcp_servers=())
        answer = await link.connection.call("session/new", request, NewSessionResponse, on_late=link.close_late)
        if answer.session_id in link.sessions:
            raise SessionInitFailed(f"the agent gave a new session the id of an open one: {answer.session_id!r}")
        session = link.sessions[answer.session_id] = AgentSession(
            link.connection, answer.session_id, key, link.open_desk(cwd), link.on_audit
        )
        session.modes, session.config = answer.modes, answer.config_options
        return session

    async def _resume(self, link: Link, key: str, session_id: str, cwd: str) -> AgentSession:
        """Resume, or else load.  What a load replays finds no running turn: `on_replay` hears it, if there is one."""
        holder = link.sessions.get(session_id)
        if holder is not None and holder.key != key:
            # An agent that numbers its sessions anew in each process has given the id that we remember to another.
            raise SessionInitFailed(f"{session_id!r} of the agent is open as {holder.key!r}", detail="resume-failed")
        session = AgentSession(link.connection, session_id, key, link.open_desk(cwd), link.on_audit)
        session.on_replay = self.on_replay
        # Entered before it is asked for: a handle that had the id must not close it at the agent any more.
        link.sessions[session_id] = session
        try:
            answer = await reopen(link, session_id, cwd, replay=self.on_replay is not None)
            session.modes = answer.modes
            if answer.config_options is not None:  # else what an update said meanwhile stands
                session.config = answer.config_options
        except BaseException:
            link.release(session)
            raise
        return session

    def _session(self, handle: Handle) -> AgentSession:
        assert isinstance(handle, AcpHandle)
        return handle.session
