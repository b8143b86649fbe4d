"""One agent tried out, step by step, over the same connection code that sessions use."""

from __future__ import annotations

import math
import shutil
import ssl
import stat
import time
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from .._errors import AcpError, BackendUnavailable, RequestFailed
from .._service import ServiceScope
from ..acp.link import Link
from ..acp.schema import CloseSessionRequest, EmptyResponse, NewSessionRequest, NewSessionResponse
from ..services import ClientServices
from ..transports._request import read_token
from ..transports._url import parse_url
from ..transports.stdio import dial_stdio
from ..transports.websocket import dial_websocket
from ._backend import environment
from ._remedies import remedy_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ..abc import Dial, Transport
    from ._backend import Backend

_CLOSE_SECONDS: Final = 5.0
_DAY: Final = 86400


@attrs.frozen(kw_only=True)
class Step:
    """What one step has shown.

    Attributes:
        status: ``ok``, ``failed`` or ``skipped``.
        seconds: How long it took; None if it was skipped.
        words: What was found, for people; from the agent in part, so not safe for a terminal.
        facts: The same for programs.
        remedy: What to do about it.
        error: The code and the detail of the error.
    """

    name: str
    status: str
    seconds: float | None = None
    words: str = ""
    facts: dict[str, Any] = attrs.field(factory=dict)
    remedy: str | None = None
    error: tuple[str, str] | None = None


@attrs.frozen
class Found:
    """What a step that went well has found."""

    words: str = ""
    facts: dict[str, Any] = attrs.field(factory=dict)
    hint: str | None = None


class Checkup:
    """Tries an agent out.

    Args:
        backend: The agent.
        cwd: The directory of the session that is tried.
        timeout: Seconds for each step.
        show: Told of each step when it is over.
    """

    def __init__(self, backend: Backend, *, cwd: str, timeout: float, show: Callable[[Step], Awaitable[None]]) -> None:
        self._backend = backend
        self._cwd = cwd
        self._timeout = timeout
        self._show = show
        self._link = Link(ClientServices())
        self._session_id: str | None = None
        self._send, self._receive = trio.open_memory_channel[tuple[str, Any]](math.inf)
        self.failed = False

    async def run(self) -> None:
        """Take all steps; after one that failed the others are skipped.

        If cancelled, the connection or the process is ended, within its own bounds.
        """
        spec = self._backend.spec
        dial = self._dial()
        await self._step("settings", self._settings)
        await self._step("resolve", self._find_host if spec.url is not None else self._find_program)
        async with ServiceScope("doctor") as nursery:
            started = not self.failed
            if started:
                nursery.start_soon(self._run_link, dial)
                nursery.start_soon(self._watch_ready)
            if spec.url is not None:
                await self._step("connect", self._connected)
                await self._step(
                    "tls", self._encrypted if parse_url(spec.url).secure else None, "ws:// is not encrypted"
                )
                await self._step("handshake", self._opened)
            else:
                await self._step("start", self._started)
            await self._step("initialize", self._initialized)
            await self._step("capabilities", self._capabilities)
            await self._step("authentication", self._authentication)
            await self._step("session/new", self._new_session)
            await self._step("session/close", self._close_session)
            self._link.close("all has been tried")
            if started:
                with trio.move_on_after(_CLOSE_SECONDS):
                    await self._link.closed.wait()

    async def _step(self, name: str, act: Callable[[], Awaitable[Found]] | None, why_not: str = "") -> None:
        if self.failed or act is None:
            await self._show(Step(name=name, status="skipped", words="" if self.failed else why_not))
            return
        began = trio.current_time()
        found, error = Found(), None
        with trio.move_on_after(self._timeout) as scope:
            try:
                found = await act()
            except AcpError as caught:
                error = caught
        if scope.cancelled_caught:
            error = BackendUnavailable(f"it was not over within {self._timeout:g} s", detail="step-timeout")
        seconds = trio.current_time() - began
        if error is None:
            step = Step(
                name=name, status="ok", seconds=seconds, words=found.words, facts=found.facts, remedy=found.hint
            )
        else:
            self.failed = True
            step = Step(
                name=name,
                status="failed",
                seconds=seconds,
                words=str(error),
                remedy=remedy_for(error, name, self._backend),
                error=(error.code, error.detail),
            )
        await self._show(step)

    # -- before anything is connected ---------------------------------------------------

    async def _settings(self) -> Found:
        spec = self._backend.spec
        facts = {"agent": spec.name, "from": spec.origin}
        hint = None
        if spec.token_file is not None:
            await read_token(spec.token_file, None)
            if stat.S_IMODE(spec.token_file.stat().st_mode) & 0o077:
                hint = f"others can read the token: chmod 600 {spec.token_file}"
        return Found(f"{spec.shown} ({spec.origin})", facts, hint)

    async def _find_program(self) -> Found:
        spec = self._backend.spec
        assert spec.argv is not None
        path = shutil.which(spec.argv[0], path=spec.env.get("PATH"))
        if path is None:
            await trio.lowlevel.checkpoint()
            raise BackendUnavailable(f"there is no program {spec.argv[0]!r}", detail="no-such-program")
        await trio.lowlevel.checkpoint()
        return Found(path, {"path": path})

    async def _find_host(self) -> Found:
        address = parse_url(self._backend.spec.url or "")
        try:
            found = await trio.socket.getaddrinfo(address.host, address.port, type=trio.socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise BackendUnavailable(f"the host name {address.host} cannot be resolved", detail="dns") from None
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        return Found(", ".join(addresses), {"addresses": addresses})

    # -- the connection -----------------------------------------------------------------

    def _dial(self) -> Dial:
        spec = self._backend.spec
        # Each step has its own deadline; these only bound all of them together.
        together = self._timeout * 4
        if spec.url is None:
            assert spec.argv is not None
            dial: Dial = dial_stdio(spec.argv, cwd=spec.cwd, env=environment(spec))
        else:
            dial = dial_websocket(
                spec.url,
                headers=spec.headers,
                token_file=spec.token_file,
                ssl_context=self._backend.trust,
                engine=spec.engine,
                connect_timeout=together,
                on_phase=lambda phase, stream: self._send.send_nowait((phase, stream)),
            )

        @asynccontextmanager
        async def told() -> AsyncIterator[Transport]:
            async with dial() as transport:
                self._send.send_nowait(("open", transport))
                yield transport

        return told

    async def _run_link(self, dial: Dial) -> None:
        method = self._backend.spec.auth_method
        await self._link.run(dial, timeout=self._timeout * 6, stall=self._timeout, auth_method=method)

    async def _watch_ready(self) -> None:
        await self._link.ready.wait()
        self._send.close()

    async def _next_phase(self) -> Any:
        """Wait until the next phase of connecting is done; cancelled, it goes on."""
        with suppress(trio.EndOfChannel):
            _, facts = await self._receive.receive()
            return facts
        await self._link.wait_ready()  # raises why
        raise AssertionError("a link that is ready has gone through its phases")

    async def _connected(self) -> Found:
        stream: trio.SocketStream = await self._next_phase()
        host, port = stream.socket.getpeername()[:2]
        return Found(f"{host} port {port}", {"address": host, "port": port})

    async def _encrypted(self) -> Found:
        stream: trio.SSLStream[trio.SocketStream] = await self._next_phase()
        certificate = stream.getpeercert()
        names = [value for _, value in certificate.get("subjectAltName", ())]
        names = names or [
            value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"
        ]
        expires = certificate["notAfter"]
        days = math.floor((ssl.cert_time_to_seconds(expires) - time.time()) / _DAY)
        facts = {"names": names, "expires": expires, "days_left": days, "protocol": stream.version()}
        hint = "the certificate is about to expire: renew it" if days < 7 else None
        return Found(f"{stream.version()}, certificate of {', '.join(names)}, expires {expires}", facts, hint)

    async def _opened(self) -> Found:
        transport = await self._next_phase()
        named = transport.connection_id
        engine = self._backend.spec.engine
        words = f"engine {engine} {version(engine)}"
        facts = {"connection_id": named, "engine": engine, "engine_version": version(engine)}
        return Found(words if named is None else f"{words}, connection {named}", facts)

    async def _started(self) -> Found:
        transport = await self._next_phase()
        pid = transport.processes[0].pgid if transport.processes else None
        return Found(f"process {pid}", {"pid": pid})

    # -- the protocol -------------------------------------------------------------------

    async def _initialized(self) -> Found:
        await self._link.wait_ready()
        agent = self._link.agent
        info = agent.agent_info
        name = "an agent that does not tell its name" if info is None else f"{info.title or info.name} {info.version}"
        facts = {
            "name": None if info is None else info.name,
            "version": None if info is None else info.version,
            "protocol_version": agent.protocol_version,
        }
        return Found(f"{name}, protocol version {agent.protocol_version}", facts)

    async def _capabilities(self) -> Found:
        await trio.lowlevel.checkpoint()
        offers = self._link.agent.agent_capabilities
        offered = ["load"] if offers.load_session else []
        for group in (offers.session_capabilities, offers.prompt_capabilities):
            offered += [name.replace("_", "-") for name, there in attrs.asdict(group, recurse=False).items() if there]
        words = ", ".join(offered) or "none of the optional ones"
        # No fault of it, but whoever wants to go on another day should know.
        resumable = offers.load_session or offers.session_capabilities.resume
        note = "" if resumable else "; it cannot resume sessions: each process begins them anew"
        return Found(words + note, {"offered": offered})

    async def _authentication(self) -> Found:
        await trio.lowlevel.checkpoint()
        methods = [
            {"id": method.id, "name": method.name, "type": method.type} for method in self._link.agent.auth_methods
        ]
        return Found(", ".join(method["id"] for method in methods) or "no methods", {"methods": methods})

    async def _new_session(self) -> Found:
        request = NewSessionRequest(cwd=self._cwd, mcp_servers=())
        call = self._link.connection.call
        try:
            answer = await call("session/new", request, NewSessionResponse, on_late=self._link.close_late)
        except RequestFailed as error:
            raise self._link.refusal(error, resuming=False) from error
        self._session_id = answer.session_id
        return Found(f"session {answer.session_id}", {"session_id": answer.session_id})

    async def _close_session(self) -> Found:
        if not self._link.agent.agent_capabilities.session_capabilities.close:
            await trio.lowlevel.checkpoint()
            return Found("not offered; the session is left to the agent")
        assert self._session_id is not None
        request = CloseSessionRequest(session_id=self._session_id)
        await self._link.connection.call("session/close", request, EmptyResponse)
        return Found()
