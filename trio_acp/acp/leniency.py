"""How forgiving the official ACP v1 schema is, as facts about our classes.

Taken from the stable schema of protocol version 1, schema version 1.25 (178
definitions).  Its annotations map to these tables like this:

* ``x-deserialize-default-on-error``: `DEFAULT_ON_ERROR`
* ``x-deserialize-default-on-null``: `DEFAULT_ON_NULL`
* ``x-deserialize-skip-invalid-items``: `SKIP_INVALID_ITEMS`

Members are given by the names of our classes; only classes that we have are
listed.  Where a member has no default (the schema requires it *and* forgives
its value) the default is an empty list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trio_acp._events import (
    Command,
    Commands,
    ConfigChanged,
    ConfigOption,
    EmbeddedResource,
    ImageContent,
    Location,
    Plan,
    PlanEntry,
    ResourceLink,
    SessionInfo,
    ToolCall,
    ToolDiff,
    Usage,
)

from . import schema as s

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOOL_CALL = frozenset({"name", "kind", "status", "content", "locations", "raw_input", "raw_output"})
_SESSION_STATE = frozenset({"modes", "config_options"})

DEFAULT_ON_ERROR: Final[Mapping[type, frozenset[str]]] = {
    # initialize
    s.Implementation: frozenset({"title"}),
    s.InitializeRequest: frozenset({"client_capabilities", "client_info"}),
    s.ClientCapabilities: frozenset({"session", "fs", "terminal"}),
    s.FileSystemCapabilities: frozenset({"read_text_file", "write_text_file"}),
    s.ClientSessionCapabilities: frozenset({"config_options"}),
    s.ConfigOptionCapabilities: frozenset({"boolean"}),
    s.InitializeResponse: frozenset({"agent_capabilities", "auth_methods", "agent_info"}),
    s.AgentCapabilities: frozenset({"load_session", "prompt_capabilities", "session_capabilities", "auth"}),
    s.PromptCapabilities: frozenset({"image", "audio", "embedded_context"}),
    s.SessionCapabilities: frozenset({"list", "delete", "resume", "close", "additional_directories"}),
    s.AuthCapabilities: frozenset({"logout"}),
    # `type` is not annotated: whatever is not "terminal" is the agent's own method, by an `anyOf`.
    s.AuthMethod: frozenset({"type", "description"}),
    # sessions
    s.SessionMode: frozenset({"description"}),
    s.SessionModes: frozenset({"available_modes"}),
    s.NewSessionResponse: _SESSION_STATE,
    s.LoadSessionResponse: _SESSION_STATE,
    s.ResumeSessionResponse: _SESSION_STATE,
    s.SetConfigOptionResponse: frozenset({"config_options"}),
    s.ConfigSelectGroup: frozenset({"options"}),
    # `usage` is unstable: it must not matter at all.
    s.PromptResponse: frozenset({"usage"}),
    # updates and what they contain
    ConfigOption: frozenset({"description", "category"}),
    ConfigChanged: frozenset({"options"}),
    # Text or base64, by an `anyOf`: the codec wants one of them to be right.
    EmbeddedResource: frozenset({"mime_type", "text", "blob"}),
    ImageContent: frozenset({"uri"}),
    ResourceLink: frozenset({"title", "description", "mime_type", "size"}),
    ToolCall: _TOOL_CALL,
    s.ToolCallUpdate: _TOOL_CALL | {"title"},
    ToolDiff: frozenset({"old_text"}),
    Location: frozenset({"line"}),
    Plan: frozenset({"entries"}),
    Commands: frozenset({"commands"}),
    Command: frozenset({"hint"}),
    SessionInfo: frozenset({"title", "updated_at"}),
    Usage: frozenset({"cost"}),
}

DEFAULT_ON_NULL: Final[Mapping[type, frozenset[str]]] = {
    s.NewSessionRequest: frozenset({"mcp_servers", "additional_directories"}),
    s.LoadSessionRequest: frozenset({"mcp_servers", "additional_directories"}),
    s.ResumeSessionRequest: frozenset({"mcp_servers", "additional_directories"}),
}

SKIP_INVALID_ITEMS: Final[Mapping[type, frozenset[str]]] = {
    s.InitializeResponse: frozenset({"auth_methods"}),
    s.SessionModes: frozenset({"available_modes"}),
    s.NewSessionResponse: frozenset({"config_options"}),
    s.LoadSessionResponse: frozenset({"config_options"}),
    s.ResumeSessionResponse: frozenset({"config_options"}),
    s.SetConfigOptionResponse: frozenset({"config_options"}),
    s.ConfigSelectGroup: frozenset({"options"}),
    ConfigChanged: frozenset({"options"}),
    ToolCall: frozenset({"content", "locations"}),
    s.ToolCallUpdate: frozenset({"content", "locations"}),
    Plan: frozenset({"entries"}),
    Commands: frozenset({"commands"}),
}

# What the schema forgives includes a value outside a closed set or range, so these belong here.
# Stop reasons and the kinds of permission options are closed sets too, but agents use other
# values, and refusing those would cost a whole turn: they are any text.

_TOOL_KINDS = frozenset(
    {"read", "edit", "delete", "move", "search", "execute", "think", "fetch", "switch_mode", "other"}
)
_TOOL_STATUSES = frozenset({"pending", "in_progress", "completed", "failed"})

CLOSED_SETS: Final[Mapping[tuple[type, str], frozenset[str]]] = {
    (ToolCall, "kind"): _TOOL_KINDS,
    (ToolCall, "status"): _TOOL_STATUSES,
    (s.ToolCallUpdate, "kind"): _TOOL_KINDS,
    (s.ToolCallUpdate, "status"): _TOOL_STATUSES,
    (PlanEntry, "priority"): frozenset({"high", "medium", "low"}),
    (PlanEntry, "status"): frozenset({"pending", "in_progress", "completed"}),
}

NOT_NEGATIVE: Final[frozenset[tuple[type, str]]] = frozenset(
    {
        (s.InitializeRequest, "protocol_version"),
        (s.InitializeResponse, "protocol_version"),
        (Location, "line"),
        (Usage, "used"),
        (Usage, "size"),
    }
)
