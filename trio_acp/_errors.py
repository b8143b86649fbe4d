"""Every error this package raises, in one tree, ordered by blame.

* `UsageError`: you asked for something that cannot be; nothing happened.
* `BackendError`: the agent or its adapter cannot serve a session.
* `TurnError`: a turn was started and did not complete.
* `WireError`: the connection, or what came over it, is at fault.
* `StoreError`: session metadata could not be read or written.

Each class has a `code`, one of seven strings that stay stable for storage and
for other programs.  Each instance has a `detail`, a short machine-readable
slug.  Classify by type and `detail`, never by the text of the message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._limits import Limits
    from ._outcomes import CleanupState


class AcpError(Exception):
    """Base class of every error raised by trio_acp.

    Attributes:
        code: One of the seven stable codes; fixed for each class.
        detail: What happened, as a slug such as ``"disconnected"``.
        retryable: True only if it is certain that nothing was started, so that
            doing the same again cannot do it twice.
    """

    code: ClassVar[str] = "ACP_TURN_FAILED"
    default_detail: ClassVar[str] = "error"

    def __init__(self, message: str, *, detail: str | None = None, retryable: bool = False) -> None:
        super().__init__(message)
        self.detail = self.default_detail if detail is None else detail
        self.retryable = retryable


# -- your fault ---------------------------------------------------------------


class UsageError(AcpError):
    """The call cannot be served as it was made; nothing happened."""


class ManagerClosed(UsageError):
    """The session manager is closing or closed and admits nothing more."""

    code = "ACP_DISPATCH_DISABLED"
    default_detail = "manager-closed"


class SessionClosed(UsageError):
    """The session was closed while this operation waited in its queue."""

    default_detail = "session-closed"


class SessionMissing(UsageError):
    """There is no stored session under this key.

    `detail` is ``"stale-session"`` if the key has the form of one that was made
    for a session (``…:acp:…``), so that there was one once.
    """

    code = "ACP_SESSION_INIT_FAILED"
    default_detail = "session-missing"


class SessionExists(UsageError):
    """The key belongs to a stored session with another agent or mode."""

    code = "ACP_SESSION_INIT_FAILED"
    default_detail = "session-exists"


class SessionInUse(UsageError):
    """Another manager that is alive has the session open; nothing was opened and nothing written.

    Attributes:
        pid: Its process id, which is ours if it is another manager of this process.
    """

    code = "ACP_SESSION_INIT_FAILED"
    default_detail = "session-in-use"

    def __init__(self, message: str, *, pid: int) -> None:
        super().__init__(message)
        self.pid = pid


class QueueFull(UsageError):
    """The session already has as many waiting requests as its settings allow."""

    default_detail = "queue-full"


class TooManySessions(UsageError):
    """As many sessions as the settings allow are open, and none of them is idle and clean."""

    code = "ACP_SESSION_INIT_FAILED"
    default_detail = "too-many-sessions"


class InvalidOption(UsageError):
    """A setting or option has a value that it cannot have."""

    code = "ACP_INVALID_RUNTIME_OPTION"
    default_detail = "invalid-option"


# -- the backend's fault ------------------------------------------------------


class BackendError(AcpError):
    """The agent, or the adapter that speaks to it, cannot serve the session."""

    code = "ACP_SESSION_INIT_FAILED"
    default_detail = "backend"


class BackendMissing(BackendError):
    """No runtime is registered under the name that was asked for."""

    code = "ACP_BACKEND_MISSING"
    default_detail = "backend-missing"


class BackendUnavailable(BackendError):
    """The runtime cannot be reached now: connection refused, bad status, process gone.

    Attributes:
        status: The HTTP status of a rejected WebSocket handshake, else None.
    """

    code = "ACP_BACKEND_UNAVAILABLE"
    default_detail = "backend-unavailable"

    def __init__(
        self, message: str, *, detail: str | None = None, retryable: bool = False, status: int | None = None
    ) -> None:
        super().__init__(message, detail=detail, retryable=retryable)
        self.status = status


class UnsupportedControl(BackendError):
    """The agent does not offer this operation."""

    code = "ACP_BACKEND_UNSUPPORTED_CONTROL"
    default_detail = "unsupported-control"


class UnsupportedContent(BackendError):
    """The agent did not announce that it takes such an attachment; nothing was sent.

    Attributes:
        index: Which attachment, counted from 0.
        kind: What it is: ``image``, ``audio``, ``resource``, or ``unknown``.
    """

    code = "ACP_BACKEND_UNSUPPORTED_CONTROL"
    default_detail = "unsupported-content"

    def __init__(self, message: str, *, index: int, kind: str) -> None:
        super().__init__(message)
        self.index = index
        self.kind = kind


class SessionInitFailed(BackendError):
    """The agent was reached but did not open, resume or load the session."""

    default_detail = "session-init-failed"


class AuthenticationRequired(SessionInitFailed):
    """The agent wants to be authenticated first.  ACP: error -32000, and what ``authenticate`` is for.

    Attributes:
        methods: The ids of the authentication methods that the agent offers.
    """

    default_detail = "authentication-required"

    def __init__(self, message: str, *, methods: Sequence[str] = (), detail: str | None = None) -> None:
        super().__init__(message, detail=detail)
        self.methods = tuple(methods)


# -- a turn did not complete --------------------------------------------------


class TurnError(AcpError):
    """A turn was admitted and did not complete.

    Attributes:
        partial: The text the agent had sent until then.
    """

    def __init__(self, message: str, *, detail: str | None = None, partial: str = "", retryable: bool = False) -> None:
        super().__init__(message, detail=detail, retryable=retryable)
        self.partial = partial


class TurnFailed(TurnError):
    """The turn ended with an error; `detail` names which, `__cause__` has it."""

    default_detail = "failed"


class TurnTimedOut(TurnError):
    """The turn exceeded its deadline.

    Attributes:
        limits: The `Limits` that were in force.
        cleanup: ``"finished"`` if the agent stopped within its cleanup budget,
            ``"deadline"`` if it did not.
    """

    default_detail = "timed-out"

    def __init__(self, message: str, *, limits: Limits, cleanup: CleanupState, partial: str = "") -> None:
        super().__init__(message, partial=partial)
        self.limits = limits
        self.cleanup = cleanup


# -- the wire's fault ---------------------------------------------------------


class WireError(AcpError):
    """The connection, or something that came over it, is at fault."""

    default_detail = "wire"


class ConnectionLost(WireError):
    """The connection ended: closed, reset, or the agent's process exited.

    The end may come from this side too (`detail` is then ``"closed"``).
    """

    default_detail = "disconnected"


class MessageTooLarge(WireError):
    """A single message exceeded the transport's limit; the connection is gone."""

    default_detail = "message-too-large"


class InvalidMessage(WireError):
    """A message does not have the form its protocol demands.

    Attributes:
        path: Where, as a JSON path such as ``$.result.sessionId``.
    """

    default_detail = "invalid-message"

    def __init__(self, message: str, *, path: str = "$", detail: str | None = None) -> None:
        super().__init__(message, detail=detail)
        self.path = path


class RequestFailed(WireError):
    """The agent answered a request with an error (JSON-RPC 2.0, section 5.1).

    Attributes:
        method: The method that was called.
        rpc_code: The JSON-RPC error code, such as -32602.
        data: The error's ``data`` member, as decoded JSON.
    """

    default_detail = "request-failed"

    def __init__(self, message: str, *, method: str, rpc_code: int, data: object = None) -> None:
        super().__init__(message)
        self.method = method
        self.rpc_code = rpc_code
        self.data = data


# -- the store's fault --------------------------------------------------------


class StoreError(AcpError):
    """Session metadata could not be read or written; the message names the file."""

    code = "ACP_SESSION_INIT_FAILED"
    default_detail = "store"
