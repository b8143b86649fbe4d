"""An agent's session on one connection: the running prompt, its events and its permissions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from .._audit import AuditEvent
from .._errors import ConnectionLost, InvalidMessage, RequestFailed, TurnFailed
from .._events import (
    ConfigChanged,
    ModeChanged,
    PermissionAnswered,
    TextDelta,
    Thought,
    ToolCall,
    UnknownUpdate,
    UserText,
)
from .._permissions import choose_option, verdict_of
from .._serving import serving
from .._tool_calls import ToolCalls
from ..abc import Done, PermissionRequest, Verdict
from .codec import unstructure, written
from .schema import (
    CancelNotification,
    ErrorCode,
    PermissionCancelled,
    PermissionSelected,
    PromptRequest,
    PromptResponse,
    RequestPermissionResponse,
    ToolCallUpdate,
)
from .updates import read_update

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._events import ConfigOption, Event
    from ..abc import Decision, EventSink, TurnRequest
    from .connection import Connection
    from .desk import Desk
    from .pending import PendingReply
    from .rpc import RequestId
    from .schema import RequestPermissionRequest, SessionModes

_log = logging.getLogger(__name__)

MAX_PERMISSIONS: Final = 16
"""Requests for permission that one session may have open; further ones are cancelled at once."""

_KEPT_UPDATES: Final = frozenset({"config_option_update", "current_mode_update"})
_MERE_TEXT: Final = frozenset({TextDelta, Thought, UserText})
_OVER: Final = "the turn is over"
_ENDED: Final = "the connection has ended"
_CANCELLED: Final = RequestPermissionResponse(outcome=PermissionCancelled())


@attrs.frozen(eq=False)
class _Question:
    """A request for permission that was not answered yet."""

    turn: str
    title: str
    scope: trio.CancelScope


class AgentSession:
    """One session of an agent; at most one prompt of it is unanswered at any time."""

    def __init__(
        self,
        connection: Connection,
        session_id: str,
        key: str,
        desk: Desk,
        on_audit: Callable[[AuditEvent], None] | None = None,
    ) -> None:
        self.connection = connection
        self.desk = desk  # where its requests for files and terminals are served
        self.id = session_id
        self.key = key  # by which the manager knows it
        self.modes: SessionModes | None = None
        self.config: tuple[ConfigOption, ...] | None = None
        self.unknown = False  # the agent answered a prompt "not found": perhaps it means this session
        self._turn: TurnRequest | None = None
        self._sink: EventSink | None = None
        self._pending: PendingReply | None = None
        self._cancelled = False
        self._malformed = False  # the update that is being read
        self._tool_calls = ToolCalls()
        self._permissions: dict[RequestId, _Question] = {}
        self._on_audit = on_audit
        self.on_replay: Callable[[Event], None] | None = None  # hears what comes while no turn runs

    @property
    def unanswered(self) -> bool:
        """Whether the agent still owes the answer to a prompt."""
        return self._pending is not None and not self._pending.done

    @property
    def _running(self) -> bool:
        return self._sink is not None and self._pending is not None and self._pending.sent

    @property
    def serves(self) -> tuple[str, str]:
        """The session's key and the id of its running turn, if any: for the log."""
        return self.key, "" if self._turn is None else self._turn.request_id

    # -- the turn -----------------------------------------------------------------

    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        """Send one prompt and wait for its answer.

        If cancelled, the prompt is withdrawn if it was not sent yet; else it
        stays unanswered, and no further one is sent until its answer came.
        """
        if self.unanswered:
            raise TurnFailed("an earlier prompt of this session is still unanswered", detail="session-busy")
        self._turn, self._sink, self._cancelled = request, events, False
        self._pending = None
        self.desk.begin_turn()
        try:
            prompt = written(PromptRequest(session_id=self.id, prompt=request.prompt))
            await self.connection.wait_for_room(len(prompt))
            if self._cancelled:
                return Done(stop_reason="cancelled")
            self._pending = self.connection.request("session/prompt", prompt)
            answer = await self._pending.wait(PromptResponse)
            return Done(stop_reason=answer.stop_reason)
        except RequestFailed as error:
            if error.rpc_code == ErrorCode.REQUEST_CANCELLED:
                return Done(stop_reason="cancelled")
            self.unknown = error.rpc_code == ErrorCode.RESOURCE_NOT_FOUND
            raise
        finally:
            if self._pending is not None and not self._pending.done:
                self._pending.withdraw(_never_sent())
            self._turn = self._sink = None
            self._tool_calls.clear()
            self._cancel_permissions()
            self.desk.end_turn(stopped=self._cancelled or self.unanswered)

    async def cancel(self) -> None:
        """Tell the agent to stop, once, and wait until the prompt is answered."""
        first, self._cancelled = not self._cancelled, True
        pending = self._pending
        if pending is None or pending.done or pending.withdraw(_never_sent()):
            return
        if first:
            self.connection.notify("session/cancel", CancelNotification(session_id=self.id))
            # The protocol demands it, and real agents never finish the turn otherwise.
            self._cancel_permissions()
            self.desk.end_turn(stopped=True)
        await pending.wait_done()

    def on_update(self, raw: object, size: int) -> bool:
        """Turn an update into an event of the running turn; False if there is none, or its prompt is not sent yet."""
        # Between turns nobody reads, but what the session's options are now must be known for the next one.
        if not (self._running or self.on_replay is not None or _is_kept(raw)):
            return False
        self._malformed = False
        event = read_update(raw, on_invalid=self._on_invalid)
        if isinstance(event, ToolCallUpdate):
            event = event.merged_into(self._tool_calls.get(event.id))
        if type(event) not in _MERE_TEXT:
            self._remember(event)
        self.deliver(event, size)
        return True

    def deliver(self, event: Event, size: int) -> bool:
        """Pass an event to the running turn; False if there is none, or its prompt is not sent yet."""
        sink, pending = self._sink, self._pending
        if sink is not None and pending is not None and pending.sent:
            sink.send(event, size)
        elif self.on_replay is not None:
            self.on_replay(event)
        else:
            return False
        return True

    def _remember(self, event: Event) -> None:
        """Keep what later updates or turns depend on; count what nobody knows."""
        if isinstance(event, ToolCall):
            self._tool_calls.put(event)
        elif isinstance(event, ConfigChanged):
            self.config = event.options
        elif isinstance(event, ModeChanged) and self.modes is not None:
            self.modes = attrs.evolve(self.modes, current_mode_id=event.mode_id)
        elif isinstance(event, UnknownUpdate) and not self._malformed:
            self.connection.count("unknown-update")

    def _on_invalid(self, error: InvalidMessage) -> None:
        self._malformed = True
        with serving(*self.serves):
            if not self.connection.ignored["malformed-update"]:
                _log.warning("passed on as it is: %s", error)
            self.connection.count("malformed-update")

    # -- permissions ----------------------------------------------------------------

    async def ask_permission(self, request_id: RequestId, asked: RequestPermissionRequest) -> dict[str, Any]:
        """Let the turn's policy decide; ``cancelled`` outside a turn, after a cancel, or if nothing fits.

        If cancelled, the request is answered by whoever cancelled.
        """
        turn, sink = self._turn, self._sink
        tool_call = asked.tool_call.merged_into(self._tool_calls.get(asked.tool_call.id))
        if turn is None or sink is None:
            return self._turn_away(None, tool_call, "no turn runs")
        if self._cancelled:
            return self._turn_away(turn, tool_call, _OVER)
        if len(self._permissions) >= MAX_PERMISSIONS:
            return self._turn_away(turn, tool_call, f"{MAX_PERMISSIONS} requests are open")
        self._tool_calls.put(tool_call)
        request = PermissionRequest(
            session=turn.handle.key, tool_call=tool_call, options=asked.options, cwd=turn.handle.cwd
        )
        verdict = Verdict(decision="cancel", rule=_OVER)
        question = self._permissions[request_id] = _Question(turn.request_id, tool_call.title, trio.CancelScope())
        try:
            with question.scope:
                verdict = verdict_of(await turn.permissions.decide(request), turn.permissions)
        except Exception:  # noqa: BLE001 - a broken policy denies
            _log.exception("the permission policy failed; permission is denied")
            verdict = Verdict(decision="deny", rule="the policy failed")
        except BaseException:  # cancelled, alone or in a group: a policy may ask several at once
            if self._permissions.get(request_id) is question:  # it was not us: see `_cancel_permissions`
                rule = "the agent took its request back" if self.connection.usable else _ENDED
                self._audit("cancel", rule, question.title, question.turn)
            raise
        finally:
            if unanswered := self._permissions.get(request_id) is question:
                del self._permissions[request_id]
        if not unanswered:
            verdict = Verdict(decision="cancel", rule=_OVER)
        elif not self.connection.usable:  # in this very step, before the policy's task could be cancelled
            verdict = Verdict(decision="cancel", rule=_ENDED)
        option = choose_option(verdict.decision, asked.options, always=verdict.always)
        option_id = None if option is None else option.id
        chosen = verdict.decision if option is not None else "cancel"
        if unanswered:
            rule = verdict.rule if chosen == verdict.decision else f"{verdict.rule}; no option says {verdict.decision}"
            self._audit(chosen, rule, question.title, question.turn)
        sink.send(PermissionAnswered(tool_call=tool_call, decision=chosen, option_id=option_id, rule=verdict.rule))
        if option is None:
            return unstructure(_CANCELLED)
        return unstructure(RequestPermissionResponse(outcome=PermissionSelected(option_id=option.id)))

    def _turn_away(self, turn: TurnRequest | None, tool_call: ToolCall, rule: str) -> dict[str, Any]:
        self._audit("cancel", rule, tool_call.title, None if turn is None else turn.request_id)
        return unstructure(_CANCELLED)

    def _cancel_permissions(self) -> None:
        """Answer what is open at once, before the policy's task had a chance to notice."""
        # Forgotten at once too: the agent may use an answered id again.
        answered, self._permissions = self._permissions, {}
        for request_id, question in answered.items():
            self.connection.answer(request_id, unstructure(_CANCELLED))
            self._audit("cancel", _OVER, question.title, question.turn)
            question.scope.cancel(reason=_OVER)

    def _audit(self, decision: Decision, rule: str, title: str, turn: str | None) -> None:
        if self._on_audit is not None:
            self._on_audit(
                AuditEvent(
                    event="permission",
                    decision=decision,
                    rule=rule,
                    title=title,
                    session=self.key,
                    session_id=self.id,
                    turn=turn,
                )
            )


def _is_kept(raw: object) -> bool:
    kind = raw.get("sessionUpdate") if isinstance(raw, dict) else None
    return isinstance(kind, str) and kind in _KEPT_UPDATES


def _never_sent() -> ConnectionLost:
    return ConnectionLost("the prompt was withdrawn before it was sent", detail="withdrawn")
