"""One connection of the scripted agent: a reader, a writer, and a task for each prompt."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol, TypeAlias, runtime_checkable

import attrs
import trio

from trio_acp._errors import WireError

from ._agent_methods import INVALID_REQUEST, Methods, Refused
from ._agent_turn import OpenRequest, OpenSession, Turn

if TYPE_CHECKING:
    from trio_acp.abc import Transport

    from ._agent_store import AgentStore
    from ._agent_updates import Json
    from ._scripted_agent import ScriptedAgent

PARSE_ERROR = -32700

_ROOM = 16

Kind: TypeAlias = Literal["request", "notification", "response", "invalid"]


@runtime_checkable
class SendsBytes(Protocol):
    """A transport that can also send binary messages."""

    async def send_bytes(self, message: bytes) -> None:
        """Send one binary message.  If cancelled, the connection may be gone, as for `Transport.send`."""


@attrs.frozen(kw_only=True)
class Received:
    """One message that the agent received.

    Attributes:
        connection: Which connection it came over, counted from 1.
        kind: What it is; ``"invalid"`` for what is no JSON-RPC message.
        method: The method of a request or notification, else None.
        id: The id of a request or response, else None.
        params: The params; of a response its result or error; of an invalid message all of it.
        time: When, in seconds of Trio's clock; not compared.
    """

    connection: int
    kind: Kind
    method: str | None = None
    id: Any = None
    params: Any = None
    time: float = attrs.field(factory=trio.current_time, eq=False)


@attrs.frozen
class _End:
    """Takes its place among the outgoing messages, and ends the connection when its turn comes."""

    exit_code: int | None


class Connection:
    """One connection: a reader, a writer, and a task for each prompt.

    What a message means is decided synchronously, in the reader's order.
    """

    def __init__(self, agent: ScriptedAgent, store: AgentStore, transport: Transport, number: int) -> None:
        self._agent = agent
        self._store = store
        self._transport = transport
        self._number = number
        self._methods = Methods(agent, store, self._blame)
        self._requests: dict[int | str, OpenRequest] = {}
        self._asked = 0
        self._frames, self._outgoing = trio.open_memory_channel[str | bytes | _End](_ROOM)
        self._receiving = trio.CancelScope()
        self._frozen_until = -math.inf
        self._nursery: trio.Nursery

    async def run(self) -> None:
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._write, name="scripted agent: writer")
            await self._read()
            self._over()
        now = trio.current_time()
        self._agent.abandoned.extend((self._number, session, now) for session in self._methods.sessions)

    def _over(self) -> None:
        self._nursery.cancel_scope.cancel(reason="the connection has ended")

    # -- reading and writing ----------------------------------------------------

    async def _write(self) -> None:
        try:
            async for frame in self._outgoing:
                if isinstance(frame, str):
                    await self._transport.send(frame)
                elif isinstance(frame, _End):
                    await self._carry_out(frame)
                elif isinstance(self._transport, SendsBytes):
                    await self._transport.send_bytes(frame)
        except WireError:
            self._over()

    async def _carry_out(self, end: _End) -> None:
        self._agent.exit_code = end.exit_code
        if end.exit_code is None:
            await self._transport.aclose()
        else:
            with trio.CancelScope() as by_force:
                by_force.cancel(reason="a crash says no goodbye")
                await self._transport.aclose()
        self._over()

    async def _read(self) -> None:
        while True:
            await trio.sleep_until(max(self._frozen_until, trio.current_time()))
            message = None
            with trio.CancelScope() as self._receiving:
                try:
                    message = await self._transport.receive()
                except WireError:
                    return
            if message is not None:
                for answer in self._take(message):
                    await self.put(answer)

    def freeze(self, seconds: float) -> None:
        self._frozen_until = trio.current_time() + seconds
        self._receiving.cancel(reason="the agent froze")

    async def put(self, message: Json | str | bytes) -> None:
        await self._frames.send(json.dumps(message) if isinstance(message, dict) else message)

    async def notify(self, method: str, params: Any) -> None:
        await self.put({"jsonrpc": "2.0", "method": method, "params": params})

    async def ask(self, method: str, params: Any, option_ids: frozenset[str] | None = None) -> OpenRequest:
        request = OpenRequest(f"agent-{self._asked}" if self._agent.string_ids else self._asked, option_ids)
        self._asked += 1
        self._requests[request.id] = request
        await self.put({"jsonrpc": "2.0", "id": request.id, "method": method, "params": params})
        return request

    async def end(self, exit_code: int | None) -> NoReturn:
        await self._frames.send(_End(exit_code))
        await trio.sleep_forever()

    def save(self, session: OpenSession) -> None:
        self._store.save(session.memory)

    # -- what a message means -----------------------------------------------------

    def _log(self, kind: Kind, params: object, method: str | None = None, id: object = None) -> None:  # noqa: A002 - the wire's word
        received = Received(connection=self._number, kind=kind, method=method, id=id, params=params)
        self._agent.log.append(received)

    def _blame(self, text: str) -> None:
        self._agent.violations.append(f"connection {self._number}: {text}")

    def _take(self, message: str | bytes) -> list[Json]:
        """Take one message; return the answers that are due at once."""
        if isinstance(message, bytes):
            return self._invalid(message, "a binary message", None)
        try:
            decoded = json.loads(message, parse_constant=_no_constant)
        except ValueError:
            return self._invalid(message, "not JSON", PARSE_ERROR)
        if not isinstance(decoded, dict) or decoded.get("jsonrpc") != "2.0":
            return self._invalid(decoded, "no JSON-RPC 2.0 message", INVALID_REQUEST)
        method, params = decoded.get("method"), decoded.get("params")
        if isinstance(method, str) and "id" in decoded:
            self._log("request", params, method, decoded["id"])
            return self._request(decoded["id"], method, params if isinstance(params, dict) else {})
        if isinstance(method, str):
            self._log("notification", params, method)
            return self._cancel(params) if method == "session/cancel" else []
        if "id" in decoded and ("result" in decoded) != ("error" in decoded):
            self._log("response", decoded.get("result", decoded.get("error")), id=decoded["id"])
            self._response(decoded)
            return []
        return self._invalid(decoded, "neither request, notification nor response", INVALID_REQUEST)

    def _invalid(self, message: object, text: str, code: int | None) -> list[Json]:
        self._log("invalid", message)
        self._blame(text)
        return [] if code is None else [{"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": text}}]

    def _response(self, response: Json) -> None:
        number = response["id"]
        request = self._requests.pop(number, None) if isinstance(number, int | str) else None
        if request is None:
            self._blame(f"a response to the unknown id {number!r}")
            return
        result = response.get("result")
        if "error" in response:
            request.answer = {"error": response["error"]}
        elif isinstance(result, dict):
            request.answer = result
        outcome = request.answer.get("outcome")
        chosen = outcome.get("optionId") if isinstance(outcome, dict) else None
        if request.option_ids is not None and chosen is not None and chosen not in request.option_ids:
            self._blame(f"the option {chosen!r} was not offered")
        request.answered.set()

    def _cancel(self, params: Any) -> list[Json]:
        session = self._methods.sessions.get(str(params.get("sessionId"))) if isinstance(params, dict) else None
        if session is None:
            self._blame("session/cancel for an unknown session")
            return []
        if session.turn is None:
            self._blame(f"session/cancel for the idle session {session.id}")
            return []
        if session.turn.was_cancelled:
            self._blame(f"a second session/cancel for one turn of {session.id}")
        return session.turn.cancel()

    def _request(self, id: object, method: str, params: Json) -> list[Json]:  # noqa: A002 - the wire's word - the protocol's word
        """Answer a request, or begin the turn it asks for; return what is to be sent at once."""
        try:
            if method == "session/prompt":
                prompt = self._methods.prompt(params)
                prompt.session.turn = turn = Turn(self, prompt.session, id, prompt.text, prompt.steps)
                self._nursery.start_soon(turn.run, name="scripted agent: a turn")
                return []
            answers = self._methods.answers(method, params)
        except Refused as refused:
            return [{"jsonrpc": "2.0", "id": id, "error": refused.error}]
        messages = [body if "method" in body else {"jsonrpc": "2.0", "id": id, "result": body} for body in answers]
        delay = self._methods.delay(method)
        if delay == 0:
            return messages
        self._nursery.start_soon(self._put_later, delay, messages, name="scripted agent: a late answer")
        return []

    async def _put_later(self, seconds: float, messages: list[Json]) -> None:
        await trio.sleep(seconds)
        for message in messages:
            await self.put(message)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
