"""JSON-RPC 2.0 bookkeeping of one connection, both directions, without I/O.

`RpcPeer` numbers our requests and remembers which are unanswered; it reads
what arrives, says what it is, and remembers which of the other side's requests
we still owe an answer.  It sends nothing: it *returns* messages, and the numbers
of requests.  All of it is synchronous, so nothing can come in between.

What it guarantees:

* A request is settled at most once: by `receive`, `forget`, `close` or
  `break_`.  Whoever waited may be gone; the entry stays until the answer.
* One incoming request gets at most one reply: the second is None.
* Nothing that looks like a response is ever answered, so two peers that
  misunderstand each other cannot go on answering each other for ever.
* Once `CLOSED` or `BROKEN`, nothing resolves and nothing is produced.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, Generic, Literal, NoReturn, TypeAlias, TypeVar

import attrs

from trio_acp._errors import ConnectionLost, InvalidMessage, RequestFailed, WireError

from .codec import decode
from .schema import ErrorCode

T = TypeVar("T")

RequestId: TypeAlias = int | str
"""Ours are numbers; the other side may use text too.  1 and "1" are two ids."""


class PeerState(Enum):
    """How far the connection has come; it only moves down this list."""

    OPEN = "open"
    CLOSING = "closing"
    """No new requests of ours; answers are still taken."""
    CLOSED = "closed"
    BROKEN = "broken"


_ENDED: Final = (PeerState.CLOSED, PeerState.BROKEN)

# -- what arrived -------------------------------------------------------------


@attrs.frozen
class ResponseArrived(Generic[T]):
    """Our request was answered; `result` is decoded JSON."""

    token: T
    method: str
    result: object


@attrs.frozen
class ErrorArrived(Generic[T]):
    """Our request was answered with an error, or with something that is no answer (`InvalidMessage`)."""

    token: T
    method: str
    error: RequestFailed | InvalidMessage


@attrs.frozen
class RequestArrived:
    """The other side asks; it is owed one `RpcPeer.reply` or `RpcPeer.reply_error`."""

    id: RequestId
    method: str
    params: object


@attrs.define  # frozen ones take twice as long to make, and these are nearly all that arrives
class NotificationArrived:
    """The other side tells something."""

    method: str
    params: object


@attrs.frozen
class AnswerWith:
    """What arrived was bad: send `message`, and go on."""

    kind: Literal["parse-error", "batch", "invalid-request", "duplicate-id"]
    message: dict[str, Any]


@attrs.frozen
class Ignored:
    """What arrived is to be counted and dropped."""

    kind: Literal[
        "unknown-response", "duplicate-response", "error-without-id", "response-without-id", "not-json-rpc", "ended"
    ]


Incoming: TypeAlias = ResponseArrived[T] | ErrorArrived[T] | RequestArrived | NotificationArrived | AnswerWith | Ignored


@attrs.frozen
class _Pending(Generic[T]):
    method: str
    token: T


# -- the peer -----------------------------------------------------------------


class RpcPeer(Generic[T]):
    """Our end of a JSON-RPC connection.  T is the type of the tokens that the caller gives its requests."""

    def __init__(self) -> None:
        self._state = PeerState.OPEN
        self._error: WireError | None = None
        self._next_id = 1
        self._pending: dict[int, _Pending[T]] = {}
        self._owed: dict[RequestId, str] = {}

    def __repr__(self) -> str:
        return f"<RpcPeer {self._state.value}: {len(self._pending)} pending, {len(self._owed)} owed>"

    @property
    def state(self) -> PeerState:
        """How far the connection has come."""
        return self._state

    @property
    def pending(self) -> dict[int, str]:
        """The methods of our unanswered requests, by id; a copy."""
        return {request_id: entry.method for request_id, entry in self._pending.items()}

    @property
    def open_requests(self) -> dict[RequestId, str]:
        """The methods of the requests we owe an answer, by id; a copy."""
        return dict(self._owed)

    # -- ours ------------------------------------------------------------------

    def request(self, method: str, token: T) -> int:
        """Number a request and remember it; return its id, for the message.

        Raises:
            ConnectionLost: the connection is closing, closed or broken.
        """
        if self._state is not PeerState.OPEN:
            self._refuse(method)
        request_id = self._next_id
        self._next_id += 1
        self._pending[request_id] = _Pending(method, token)
        return request_id

    def notification(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Return the message of a notification.

        Raises:
            ConnectionLost: the connection is closed or broken.
        """
        if self._state in _ENDED:
            self._refuse(method)
        return {"jsonrpc": "2.0", "method": method, "params": params}

    def forget(self, request_id: int) -> bool:
        """Withdraw a request that was never sent; return False if it is no longer pending."""
        return self._pending.pop(request_id, None) is not None

    # -- theirs ----------------------------------------------------------------

    def reply(self, request_id: RequestId, result: object) -> dict[str, Any] | None:
        """Return the answer to an incoming request; None if it was answered, or nobody hears it any more."""
        if self._owed.pop(request_id, None) is None:
            return None
        return {"jsonrpc": "2.0", "id": request_id, "result": result}

    def reply_error(self, request_id: RequestId, code: int, message: str, data: object = None) -> dict[str, Any] | None:
        """Return the answer to an incoming request; None if it was answered, or nobody hears it any more."""
        if self._owed.pop(request_id, None) is None:
            return None
        return _error_message(request_id, code, message, data)

    def receive(self, text: str) -> Incoming[T]:
        """Take one message, as text.  Raises nothing: whatever arrives has its kind of `Incoming`."""
        if self._state in _ENDED:
            return Ignored("ended")
        try:
            message = decode(text)
        except InvalidMessage:
            return AnswerWith("parse-error", _error_message(None, ErrorCode.PARSE_ERROR, "Parse error"))
        return self.receive_decoded(message)

    def receive_decoded(self, message: object) -> Incoming[T]:
        """Take one message, as decoded JSON.  Raises nothing."""
        if self._state in _ENDED:
            return Ignored("ended")
        if isinstance(message, list):
            return _invalid("Invalid request: JSON-RPC batches are not supported", kind="batch")
        if not isinstance(message, dict):
            return _invalid("Invalid request: not an object")
        # Some languages write null for every member that they leave out, so null says nothing ...
        answers = message.get("result") is not None or message.get("error") is not None
        if message.get("method") is None:
            # ... unless no method says what else it could be: {"id": 7, "result": null} is an answer, and so
            # is {"id": 7} if 7 is unanswered: JavaScript drops a result that is undefined.
            if answers or "result" in message or "error" in message or self._is_pending(message.get("id")):
                return self._take_response(message)
            return _invalid("Invalid request: no method")
        if answers:
            return Ignored("not-json-rpc")  # a request that brings its answer, or the reverse
        return self._take_call(message)

    # -- ending ----------------------------------------------------------------

    def start_closing(self) -> None:
        """Make no more requests; answers are still taken.  Does nothing if it is not open."""
        if self._state is PeerState.OPEN:
            self._state = PeerState.CLOSING

    def close(self) -> tuple[T, ...]:
        """End in good order; return the tokens that will get no answer, oldest first."""
        return self._end(PeerState.CLOSED, None)

    def break_(self, error: WireError) -> tuple[T, ...]:
        """End because of `error`; return the tokens that will get no answer, oldest first.

        Does nothing if it has ended before: the first reason stands.
        """
        return self._end(PeerState.BROKEN, error)

    def lost(self) -> ConnectionLost:
        """Return a new error that says why nothing can be sent any more."""
        if self._error is None:
            return ConnectionLost("the connection is closed", detail="closed")
        lost = ConnectionLost(str(self._error), detail=self._error.detail)
        lost.__cause__ = self._error
        return lost

    def _end(self, state: PeerState, error: WireError | None) -> tuple[T, ...]:
        if self._state in _ENDED:
            return ()
        self._state = state
        self._error = error
        tokens = tuple(entry.token for entry in self._pending.values())
        self._pending.clear()
        self._owed.clear()
        return tokens

    def _refuse(self, method: str) -> NoReturn:
        lost = self.lost()
        raise ConnectionLost(f"{method} was not sent: {lost}", detail=lost.detail, retryable=True) from self._error

    # -- reading ---------------------------------------------------------------

    def _is_pending(self, message_id: object) -> bool:
        return type(message_id) is int and message_id in self._pending  # to a dict, 1.0 and True are 1

    def _take_response(self, message: dict[str, Any]) -> Incoming[T]:
        if message.get("jsonrpc") != "2.0":
            return Ignored("not-json-rpc")
        message_id = message.get("id")
        if message_id is None:
            return Ignored("response-without-id" if message.get("error") is None else "error-without-id")
        if type(message_id) is not int or not 0 < message_id < self._next_id:
            return Ignored("unknown-response")
        entry = self._pending.pop(message_id, None)
        if entry is None:
            return Ignored("duplicate-response")
        if message.get("error") is not None:
            return ErrorArrived(entry.token, entry.method, _read_error(entry.method, message))
        if "result" not in message:
            missing = InvalidMessage(f"$.result: {entry.method} was answered without a result", path="$.result")
            return ErrorArrived(entry.token, entry.method, missing)
        return ResponseArrived(entry.token, entry.method, message["result"])

    def _take_call(self, message: dict[str, Any]) -> Incoming[T]:
        method, params = message["method"], message.get("params")
        if message.get("jsonrpc") != "2.0":
            return self._invalid_call(message, 'Invalid request: jsonrpc is not "2.0"')
        if not isinstance(method, str):
            return self._invalid_call(message, "Invalid request: the method is not a string")
        if params is not None and not isinstance(params, dict | list):
            return self._invalid_call(message, "Invalid request: params are neither an object nor an array")
        if "id" not in message:
            return NotificationArrived(method, params)
        message_id = message["id"]
        if not _is_request_id(message_id):
            return _invalid("Invalid request: an id is an integer or a string")
        if message_id in self._owed:
            # With the id, this would be taken for the answer to the first.
            return _invalid("Invalid request: the id is in use", kind="duplicate-id", data={"id": message_id})
        self._owed[message_id] = method
        return RequestArrived(message_id, method, params)

    def _invalid_call(self, message: dict[str, Any], text: str) -> AnswerWith:
        message_id = message.get("id")
        usable = _is_request_id(message_id) and message_id not in self._owed
        return _invalid(text, request_id=message_id if usable else None)


def _is_request_id(value: object) -> bool:
    return type(value) in (int, str)


def _error_message(request_id: RequestId | None, code: int, text: str, data: object = None) -> dict[str, Any]:
    error: dict[str, Any] = {"code": int(code), "message": text}
    if data is not None:
        error["data"] = data
    return {"jsonrpc": "2.0", "id": request_id, "error": error}


def _invalid(
    text: str,
    *,
    kind: Literal["batch", "invalid-request", "duplicate-id"] = "invalid-request",
    request_id: RequestId | None = None,
    data: object = None,
) -> AnswerWith:
    return AnswerWith(kind, _error_message(request_id, ErrorCode.INVALID_REQUEST, text, data))


def _read_error(method: str, message: dict[str, Any]) -> RequestFailed | InvalidMessage:
    """Read the ``error`` of a response: what the agent said, or what is wrong with how it said it."""
    error = message["error"]
    if message.get("result") is not None:
        return InvalidMessage(f"$: {method} was answered with a result and an error")
    if not isinstance(error, dict):
        return InvalidMessage(f"$.error: expected an object in the answer to {method}", path="$.error")
    code, text = error.get("code"), error.get("message")
    if type(code) is not int:
        return InvalidMessage(f"$.error.code: expected an integer in the answer to {method}", path="$.error.code")
    if not isinstance(text, str):
        return InvalidMessage(f"$.error.message: expected a string in the answer to {method}", path="$.error.message")
    return RequestFailed(f"{method}: {text} ({code})", method=method, rpc_code=code, data=error.get("data"))
