"""Agent sessions over ACP, the Agent Client Protocol, inside Trio programs.

A map of the code.  Imports only go down::

    _manager  _session                   what a program holds: SessionManager, Session, Turn
    _actor  _turn  _turn_state           the task that serves a session; THE TURN (start reading here)
    _operations  _ensure  _requests      its other operations; getting a backend handle; what waits in a lane
    _close  _resolve                     closing; what is known under a key
    _controls                            its options: changing them, telling the backend before a turn
    _background                          the ledger's record of a turn that works for another session
    _evictor                             closing what is idle; room for another backend session
    _context  _calls                     what the actors share; calling code that may not end
    _queue  _cache  _capacity  _options  _keys  _statistics
    _backends  _starting  _retry  _timeouts  _ledger     policy: synchronous, without I/O or Trio
    acp/                                 AcpRuntime: links, connections, JSON-RPC, the messages of ACP
    transports/                          WebSocket, stdio, memory: send, receive, aclose
    _permissions  _owner  _service       choosing an option; who owns a row; the one maker of shields
    _errors _events _outcomes _limits _records _tasks _trace     the vocabulary
    abc                                  what you may implement
    stores/                              metadata and tasks that survive
    testing/                             the public testing kit; nothing imports it
    cli/                                 the command `trio-acp`; nothing imports it
"""

from __future__ import annotations

from . import abc as abc
from ._close import CloseReport as CloseReport
from ._errors import AcpError as AcpError
from ._errors import AuthenticationRequired as AuthenticationRequired
from ._errors import BackendError as BackendError
from ._errors import BackendMissing as BackendMissing
from ._errors import BackendUnavailable as BackendUnavailable
from ._errors import ConnectionLost as ConnectionLost
from ._errors import InvalidMessage as InvalidMessage
from ._errors import InvalidOption as InvalidOption
from ._errors import ManagerClosed as ManagerClosed
from ._errors import MessageTooLarge as MessageTooLarge
from ._errors import QueueFull as QueueFull
from ._errors import RequestFailed as RequestFailed
from ._errors import SessionClosed as SessionClosed
from ._errors import SessionExists as SessionExists
from ._errors import SessionInitFailed as SessionInitFailed
from ._errors import SessionMissing as SessionMissing
from ._errors import StoreError as StoreError
from ._errors import TooManySessions as TooManySessions
from ._errors import TurnError as TurnError
from ._errors import TurnFailed as TurnFailed
from ._errors import TurnTimedOut as TurnTimedOut
from ._errors import UnsupportedContent as UnsupportedContent
from ._errors import UnsupportedControl as UnsupportedControl
from ._errors import UsageError as UsageError
from ._errors import WireError as WireError
from ._events import AudioContent as AudioContent
from ._events import Command as Command
from ._events import Commands as Commands
from ._events import ConfigChanged as ConfigChanged
from ._events import ConfigOption as ConfigOption
from ._events import ContentBlock as ContentBlock
from ._events import ContentDelta as ContentDelta
from ._events import Cost as Cost
from ._events import EmbeddedResource as EmbeddedResource
from ._events import Event as Event
from ._events import ImageContent as ImageContent
from ._events import Location as Location
from ._events import ModeChanged as ModeChanged
from ._events import PermissionAnswered as PermissionAnswered
from ._events import Plan as Plan
from ._events import PlanEntry as PlanEntry
from ._events import ResourceLink as ResourceLink
from ._events import SessionInfo as SessionInfo
from ._events import TextContent as TextContent
from ._events import TextDelta as TextDelta
from ._events import Thought as Thought
from ._events import ToolCall as ToolCall
from ._events import ToolContent as ToolContent
from ._events import ToolDiff as ToolDiff
from ._events import ToolTerminal as ToolTerminal
from ._events import UnknownContent as UnknownContent
from ._events import UnknownUpdate as UnknownUpdate
from ._events import Usage as Usage
from ._events import UserText as UserText
from ._limits import Limits as Limits
from ._limits import Settings as Settings
from ._manager import SessionManager as SessionManager
from ._manager import open_session_manager as open_session_manager
from ._operations import SessionStatus as SessionStatus
from ._options import UNSET as UNSET
from ._options import OptionChanges as OptionChanges
from ._options import Unset as Unset
from ._outcomes import Completed as Completed
from ._outcomes import Failed as Failed
from ._outcomes import Outcome as Outcome
from ._outcomes import Reply as Reply
from ._outcomes import Stopped as Stopped
from ._outcomes import StoppedBy as StoppedBy
from ._outcomes import TimedOut as TimedOut
from ._permissions import AllowAll as AllowAll
from ._permissions import DenyAll as DenyAll
from ._prompt import Turn as Turn
from ._records import Owner as Owner
from ._records import RuntimeOptions as RuntimeOptions
from ._records import SessionRecord as SessionRecord
from ._resolve import Missing as Missing
from ._resolve import Ready as Ready
from ._resolve import Resolution as Resolution
from ._resolve import Stale as Stale
from ._session import Session as Session
from ._statistics import CapacityUse as CapacityUse
from ._statistics import Statistics as Statistics
from ._tasks import TaskOutcome as TaskOutcome
from ._tasks import TaskRecord as TaskRecord
from ._tasks import TaskStatus as TaskStatus
from .acp.runtime import AcpRuntime as AcpRuntime
from .stores import MemoryLedger as MemoryLedger
from .stores import MemoryStore as MemoryStore
from .stores import SQLiteLedger as SQLiteLedger
from .stores import SQLiteStore as SQLiteStore

__all__ = [
    "UNSET",
    "AcpError",
    "AcpRuntime",
    "AllowAll",
    "AudioContent",
    "AuthenticationRequired",
    "BackendError",
    "BackendMissing",
    "BackendUnavailable",
    "CapacityUse",
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
    "ImageContent",
    "InvalidMessage",
    "InvalidOption",
    "Limits",
    "Location",
    "ManagerClosed",
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
    "Reply",
    "RequestFailed",
    "Resolution",
    "ResourceLink",
    "RuntimeOptions",
    "SQLiteLedger",
    "SQLiteStore",
    "Session",
    "SessionClosed",
    "SessionExists",
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
    "TextContent",
    "TextDelta",
    "Thought",
    "TimedOut",
    "TooManySessions",
    "ToolCall",
    "ToolContent",
    "ToolDiff",
    "ToolTerminal",
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
