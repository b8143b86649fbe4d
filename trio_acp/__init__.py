"""Agent sessions over ACP, the Agent Client Protocol, inside Trio programs.

A map of the code.  Imports only go down::

    _manager  _session  _prompt          what a program holds: SessionManager, Session, Turn
    _reconcile                           confirming the ids of stored sessions
    _actor  _turn  _turn_state           the task that serves a session; THE TURN (start reading here)
    _operations  _ensure  _requests      its other operations; getting a backend handle; what waits in a lane
    _close  _resolve  _shutdown          closing; what is known under a key; the end of everything
    _controls                            its options: changing them, telling the backend before a turn
    _claims  _recovery                   holding sessions in the store; repairing what dead managers left
    _background                          the ledger's record of a turn that works for another session
    _recording  _appender                the audit of what agents were answered; the transcript; writing them
    _refresh                             what the backend tells between turns: its ids, its health
    _evictor                             closing what is idle; room for another backend session
    _gates  _alarm                       the deadlines of all turns that run; one sleeper for many deadlines
    _context  _calls                     what the actors share; calling code that may not end
    _serving  logs                       whom a task works for, and the log: its filter, frames, what is secret in them
    otel  prometheus                     spans of turns; a manager's numbers (extras, imported by whoever wants them)
    _queue  _cache  _capacity  _identity  _options  _keys  _statistics
    _backends  _ownership  _starting  _retry  _timeouts  _ledger    policy: synchronous, without I/O or Trio
    acp/                                 AcpRuntime: links, connections, JSON-RPC, the messages of ACP
    transports/                          WebSocket, stdio, memory: send, receive, aclose
    services/                            files and terminals for agents; knows no protocol
    _trace_file                          writing down what happens to turns
    _permissions  _reads  _rules  _patterns    policies for permissions
    _owner  _service                     who we are, who lives; the one maker of shields
    _reaper  _procfs                     ending what is left of dead managers' agents
    _errors _events _outcomes _limits _records _tasks _trace _audit _transcript    the vocabulary
    abc                                  what you may implement
    stores/                              what survives: metadata, tasks, audit, transcript
    explore/                             finding what cancellation and order break; knows nothing of the rest
    testing/                             the public testing kit; nothing imports it
    cli/                                 the command `trio-acp`; nothing imports it

Nothing is loaded before a name is asked for: see `_public`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._public import *  # noqa: F403 - the names are in __all__, and a test compares the two

__all__ = [
    "UNSET",
    "AcpError",
    "AcpRuntime",
    "AllowAll",
    "ApproveReads",
    "Ask",
    "AudioContent",
    "AuthenticationRequired",
    "BackendError",
    "BackendMissing",
    "BackendUnavailable",
    "CapacityUse",
    "ClientServices",
    "CloseReport",
    "Command",
    "Commands",
    "Completed",
    "ConfigChanged",
    "ConfigOption",
    "ConnectionLost",
    "ContentBlock",
    "ContentDelta",
    "Cost",
    "DenyAll",
    "EmbeddedResource",
    "Event",
    "Failed",
    "FileService",
    "Identity",
    "ImageContent",
    "InvalidMessage",
    "InvalidOption",
    "Limits",
    "Location",
    "ManagerClosed",
    "MemoryAudit",
    "MemoryLedger",
    "MemoryStore",
    "MessageTooLarge",
    "Missing",
    "ModeChanged",
    "OptionChanges",
    "Outcome",
    "Owner",
    "PermissionAnswered",
    "Plan",
    "PlanEntry",
    "QueueFull",
    "Ready",
    "ReconcileReport",
    "RecoveryReport",
    "Reply",
    "RequestFailed",
    "Resolution",
    "ResourceLink",
    "Rule",
    "RulePolicy",
    "RuntimeOptions",
    "SQLiteAudit",
    "SQLiteLedger",
    "SQLiteStore",
    "SQLiteTranscript",
    "Session",
    "SessionClosed",
    "SessionExists",
    "SessionInUse",
    "SessionInfo",
    "SessionInitFailed",
    "SessionManager",
    "SessionMissing",
    "SessionRecord",
    "SessionStatus",
    "Settings",
    "Stale",
    "Statistics",
    "Stopped",
    "StoppedBy",
    "StoreError",
    "TaskOutcome",
    "TaskRecord",
    "TaskStatus",
    "TerminalService",
    "TextContent",
    "TextDelta",
    "Thought",
    "TimedOut",
    "TooManySessions",
    "ToolCall",
    "ToolContent",
    "ToolDiff",
    "ToolTerminal",
    "TraceFile",
    "Turn",
    "TurnError",
    "TurnFailed",
    "TurnTimedOut",
    "UnknownContent",
    "UnknownUpdate",
    "Unset",
    "UnsupportedContent",
    "UnsupportedControl",
    "Usage",
    "UsageError",
    "UserText",
    "WireError",
    "abc",
    "open_session_manager",
]

if not TYPE_CHECKING:  # a type checker would take it for a promise that every name exists

    def __getattr__(name: str) -> object:
        """Load what `__all__` names when the first of it is asked for, so that `trio_acp.explore` needs none of it."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import _public

        globals().update({public: getattr(_public, public) for public in __all__})
        return globals()[name]

    def __dir__() -> list[str]:
        """Return also what is not loaded yet."""
        return sorted({*globals(), *__all__})
