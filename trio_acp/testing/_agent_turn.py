"""One turn of the scripted agent: its steps, played in order, and what a cancel makes of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import trio

from ._agent_services import use_client
from ._agent_store import RememberedTurn
from ._agent_updates import Json, commands, message_chunk, tool_call, updates_of

if TYPE_CHECKING:
    from ._agent_store import RememberedSession
    from ._script import Step

METHOD_NOT_FOUND = -32601


@attrs.define(eq=False)
class OpenSession:
    """A session on one connection.

    Attributes:
        origin: ``"new"``, ``"loaded"`` or ``"resumed"``.
        turn: The turn whose prompt is unanswered, if there is one.
        poisoned: The next permission fails without being asked.
        stuck_cancel: The next turn is cancelled from the start.
        calls: How many tool calls it has made up ids for.
        config: The values of its configuration options.
    """

    memory: RememberedSession
    origin: str
    mode: str = "ask"
    turn: Turn | None = None
    poisoned: bool = False
    stuck_cancel: bool = False
    calls: int = 0
    config: dict[str, str] = attrs.field(factory=dict)

    @property
    def id(self) -> str:
        """The session's id on the wire."""
        return self.memory.id


@attrs.define(eq=False)
class OpenRequest:
    """A request of the agent that the client has not answered yet."""

    id: int | str
    option_ids: frozenset[str] | None = None
    answered: trio.Event = attrs.field(factory=trio.Event)
    answer: Json = attrs.field(factory=dict)


class Wire(Protocol):
    """What a turn needs of its connection.

    `put` and `notify` return once the writer has room; they may be cancelled,
    and have then sent nothing.
    """

    async def put(self, message: Json | str | bytes) -> None:
        """Send a message: JSON, a text as it stands, or bytes."""

    async def notify(self, method: str, params: Any) -> None:
        """Send a notification."""

    async def ask(self, method: str, params: Any, option_ids: frozenset[str] | None = None) -> OpenRequest:
        """Send a request; return without waiting for its answer."""

    async def end(self, exit_code: int | None) -> None:
        """End the connection after what was sent so far: in order, or by a crash with `exit_code`."""

    def freeze(self, seconds: float) -> None:
        """Stop reading for so long."""

    def save(self, session: OpenSession) -> None:
        """Persist what the session remembers."""


class Turn:
    """A prompt being worked on.

    `run` plays the steps and answers the prompt.  `cancel` is what the
    arrival of ``session/cancel`` calls; it decides synchronously and returns
    what is to be sent about it.  A turn whose request to the client is open
    stops only when that has been answered: four real agents are like this.
    """

    def __init__(
        self, wire: Wire, session: OpenSession, request_id: object, prompt: str, steps: tuple[Step, ...]
    ) -> None:
        self._wire = wire
        self._session = session
        self._request_id = request_id
        self._memory = RememberedTurn(prompt)
        self._scope = trio.CancelScope()
        self._asking = False
        self._cancels = 0
        self._stopped = False
        self._answered = False
        # How the script wants the turn to end.  Decided before its first step: a cancel may come as early as that.
        self._ignore = 0.0
        self._refuse = self._reject = self._run_on = self._sticky = self._poison = False
        self._duplicate: str | None = None
        self._late: tuple[int, float] = (0, 0.0)
        self._steps = [step for step in steps if not self._arrange(step)]

    # -- what the client does ---------------------------------------------------

    @property
    def was_cancelled(self) -> bool:
        """Whether a ``session/cancel`` has arrived for it."""
        return self._cancels > 0

    def cancel(self) -> list[Json]:
        """Take one ``session/cancel``; return the messages to send at once."""
        self._cancels += 1
        if self._poison and self._cancels > 1:
            self._session.poisoned = True
        if self._reject:
            error = {"code": METHOD_NOT_FOUND, "message": '"Method not found": session/cancel'}
            return [{"jsonrpc": "2.0", "id": None, "error": error}]
        if self._stopped:
            return []
        self._stopped = True
        self._session.stuck_cancel = self._sticky
        if self._run_on:
            return [self._answer({"result": {"stopReason": "cancelled"}})]
        if not self._asking:
            self._begin_to_stop()
        return []

    def kill(self) -> None:
        """Stop at once, whatever the script says: the session is being closed."""
        self._stopped = True
        self._scope.cancel(reason="the session was closed")

    def _begin_to_stop(self) -> None:
        self._scope.deadline = trio.current_time() + self._ignore

    # -- what the agent does ----------------------------------------------------

    async def run(self) -> None:
        """Play the steps and answer the prompt.  If cancelled, it answers nothing."""
        turns = self._session.memory.turns
        turns.append(self._memory)
        self._wire.save(self._session)
        if self._session.stuck_cancel:
            self._session.stuck_cancel = False
            self._stopped = True
            self._begin_to_stop()
        ending: Json = {"result": {"stopReason": "end_turn"}}
        with self._scope:
            ending = await self._play(ending)
        self._wire.save(self._session)
        if not self._answered:
            await self._wire.put(self._answer(self._after_cancel(ending) if self._stopped else ending))
        if self._duplicate is not None:
            await self._wire.put(self._response({"result": {"stopReason": self._duplicate}}))
        count, apart = self._late
        for number in range(1, count + 1):
            await trio.sleep(apart)
            await self._show(message_chunk(f"late {number} "))

    def _after_cancel(self, ending: Json) -> Json:
        if "error" in ending:
            return ending
        return {"result": {"stopReason": "end_turn" if self._refuse else "cancelled"}}

    def _answer(self, ending: Json) -> Json:
        # Synchronous with the decision to answer: from here on the client may prompt again.
        self._answered = True
        if self._session.turn is self:
            self._session.turn = None
        return self._response(ending)

    def _response(self, ending: Json) -> Json:
        return {"jsonrpc": "2.0", "id": self._request_id, **ending}

    async def _play(self, ending: Json) -> Json:
        await trio.lowlevel.checkpoint()
        for step in self._steps:
            self._session.calls += step.name in {"tool", "permission", "permission!", "cancel-own-request"}
            updates = updates_of(step, f"call-{self._session.calls}")
            if updates is None:
                early = await self._perform(step)
                if early is not None:
                    return early
                continue
            for number, update in enumerate(updates):
                if number and step.every:
                    await trio.sleep(step.every)
                await self._show(update)
                if step.name == "mode":
                    self._session.mode = step.text
        return ending

    async def _show(self, update: Any) -> None:
        await self._wire.notify("session/update", {"sessionId": self._session.id, "update": update})
        if isinstance(update, dict) and update.get("sessionUpdate") == "agent_message_chunk":
            content = update.get("content")
            if isinstance(content, dict):
                self._memory.reply += str(content.get("text", ""))

    async def _say(self, text: str) -> None:
        await self._show(message_chunk(text))

    async def _perform(self, step: Step) -> Json | None:
        """Do a step that is more than showing something; return the prompt's answer if it ends the turn."""
        match step.name:
            case "history":
                earlier = len(self._session.memory.turns) - 1
                await self._say(f"I remember {earlier} earlier turns; this session is {self._session.origin}.")
            case "permission" | "permission!":
                allowed = await self._permission(step)
                if step.name == "permission!" and not allowed:
                    return {"result": {"stopReason": "refusal"}}
            case "cancel-own-request":
                await self._permission(step, take_back_after=step.number(0))
            case "request":
                await self._request(step)
            case "notify":
                await self._wire.notify(step.text, step.data if step.data is not None else {})
            case "sleep":
                await trio.sleep(step.number(0))
            case "hang":
                await trio.sleep_forever()
            case "stop":
                return {"result": {"stopReason": step.text}}
            case "read-file" | "write-file" | "terminal" | "terminal-start":
                await self._say(await use_client(step, self._session.memory.cwd, self._ask_of_session))
            case "error":
                return {"error": {"code": step.count(0), "message": step.text}}
            case "bad-response":
                return {"result": {"stopReason": 7}}
            case "close":
                await self._wire.end(None)
            case "crash":
                await self._wire.end(step.count(0, 1))
            case "freeze":
                self._wire.freeze(step.number(0, float("inf")))
            case "other-session":
                params = {"sessionId": step.text or "no-such-session", "update": commands()}
                await self._wire.notify("session/update", params)
            case "unknown-response":
                await self._wire.put({"jsonrpc": "2.0", "id": "no-such-request", "result": {}})
            case "raw":
                await self._wire.put(step.text)
            case "binary":
                await self._wire.put(b"\0" * step.count(0))
            case _:
                raise AssertionError(f"the step {step.name!r} has no meaning")
        return None

    def _arrange(self, step: Step) -> bool:
        """Note a step that is about how the turn will end; say whether it is one."""
        match step.name:
            case "ignore-cancel":
                self._ignore = step.number(0)
            case "refuse-cancel":
                self._refuse = True
            case "reject-cancel":
                self._reject = True
            case "run-on":
                self._run_on = True
            case "sticky-cancel":
                self._sticky = True
            case "double-cancel-poison":
                self._poison = True
            case "late":
                self._late = (step.count(0), step.number(1))
            case "duplicate-response":
                self._duplicate = step.text or "end_turn"
            case _:
                return False
        return True

    # -- requests to the client -------------------------------------------------

    async def _permission(self, step: Step, take_back_after: float | None = None) -> bool:
        if self._session.poisoned:
            self._session.poisoned = False
            await self._say("permission: failed without being asked ")
            return False
        kinds = step.options.get("kinds", "allow_once,allow_always,reject_once").split(",")
        options = [
            {"optionId": f"{kind}-{number}", "name": kind.replace("_", " ").capitalize(), "kind": kind}
            for number, kind in enumerate(kinds, 1)
        ]
        call = tool_call(step, f"call-{self._session.calls}", "edit")
        params = {"sessionId": self._session.id, "toolCall": call, "options": options}
        kind_of = {str(option["optionId"]): option["kind"] for option in options}
        answer = await self._answer_to("session/request_permission", params, frozenset(kind_of), take_back_after)
        outcome = answer.get("outcome")
        option_id = outcome.get("optionId") if isinstance(outcome, dict) else None
        if "error" in answer:
            await self._say(f"permission: error {json.dumps(answer['error'])} ")
        elif option_id in kind_of:
            await self._say(f"permission: selected {option_id} ")
        else:
            await self._say("permission: cancelled ")
        return option_id in kind_of and kind_of[str(option_id)].startswith("allow")

    async def _request(self, step: Step) -> None:
        params: Json = {"sessionId": self._session.id}
        if step.text == "fs/read_text_file":
            params["path"] = f"{self._session.memory.cwd.rstrip('/')}/README.md"
        if isinstance(step.data, dict):
            params.update(step.data)
        answer = await self._answer_to(step.text, params)
        await self._say(f"{step.text}: {json.dumps(answer)} ")

    async def _ask_of_session(self, method: str, params: Json) -> Json:
        return await self._answer_to(method, {"sessionId": self._session.id, **params})

    async def _answer_to(
        self,
        method: str,
        params: Json,
        option_ids: frozenset[str] | None = None,
        take_back_after: float | None = None,
    ) -> Json:
        """Ask the client; return its result, or ``{"error": ...}``."""
        self._asking = True
        request = await self._wire.ask(method, params, option_ids)
        if take_back_after is not None:
            with trio.move_on_after(take_back_after):
                await request.answered.wait()
            if not request.answered.is_set():
                await self._wire.notify("$/cancel_request", {"requestId": request.id})
        await request.answered.wait()
        self._asking = False
        if self._stopped and not self._answered:
            # The cancel that arrived meanwhile takes effect now, at the next checkpoint.
            self._begin_to_stop()
            await trio.lowlevel.checkpoint()
        return request.answer
