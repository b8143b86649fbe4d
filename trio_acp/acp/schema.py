"""The messages of ACP v1 that a client sends and receives.

Content blocks, tool calls and everything a ``session/update`` carries are the
public classes of `trio_acp.abc` and of the events: there is no second data
model.  A member that the protocol has and no class names is ignored when it
arrives, ``_meta`` included.

A class says what is required: a member without a default must arrive, and is
always sent; one that equals its default is left out.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import attrs

from trio_acp._events import (
    ConfigOption,
    ContentBlock,
    Location,
    ToolCall,
    ToolCallContent,
)
from trio_acp.abc import PermissionOption  # noqa: TC001 - as above

PROTOCOL_VERSION: Final = 1

MARKER: Final = "trio_acp.marker"
"""Metadata key of a member that the wire writes as an object: ``{}`` means yes, null or none means no."""


class ErrorCode(IntEnum):
    """The JSON-RPC error codes that ACP v1 names; an agent may use others."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    REQUEST_CANCELLED = -32800
    AUTHENTICATION_REQUIRED = -32000
    RESOURCE_NOT_FOUND = -32002


def _marker() -> bool:
    offered: bool = attrs.field(default=False, metadata={MARKER: True})
    return offered


# -- initialize ---------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Implementation:
    """Who speaks: a program's name and version."""

    name: str
    version: str
    title: str | None = None


@attrs.frozen(kw_only=True)
class ConfigOptionCapabilities:
    """Which types of configuration option the client can show, besides ``select``."""

    boolean: bool = _marker()


@attrs.frozen(kw_only=True)
class ClientSessionCapabilities:
    """What the client can do with a session."""

    config_options: ConfigOptionCapabilities | None = None


@attrs.frozen(kw_only=True)
class FileSystemCapabilities:
    """What the client does with files for the agent."""

    read_text_file: bool = False
    write_text_file: bool = False


@attrs.frozen(kw_only=True)
class ClientCapabilities:
    """What the client offers."""

    session: ClientSessionCapabilities | None = None
    fs: FileSystemCapabilities | None = None
    terminal: bool = False


@attrs.frozen(kw_only=True)
class InitializeRequest:
    """``initialize``: the first message of a connection."""

    protocol_version: int
    client_capabilities: ClientCapabilities = attrs.field(factory=ClientCapabilities)
    client_info: Implementation | None = None


@attrs.frozen(kw_only=True)
class PromptCapabilities:
    """What a prompt may contain, besides text and resource links."""

    image: bool = False
    audio: bool = False
    embedded_context: bool = False


@attrs.frozen(kw_only=True)
class SessionCapabilities:
    """Which ``session/…`` methods the agent has, besides the ones that all have."""

    list: bool = _marker()
    delete: bool = _marker()
    resume: bool = _marker()
    close: bool = _marker()
    additional_directories: bool = _marker()


@attrs.frozen(kw_only=True)
class AuthCapabilities:
    """Which methods around authentication the agent has."""

    logout: bool = _marker()


@attrs.frozen(kw_only=True)
class AgentCapabilities:
    """What the agent offers."""

    load_session: bool = False
    prompt_capabilities: PromptCapabilities = attrs.field(factory=PromptCapabilities)
    session_capabilities: SessionCapabilities = attrs.field(factory=SessionCapabilities)
    auth: AuthCapabilities = attrs.field(factory=AuthCapabilities)


@attrs.frozen(kw_only=True)
class AuthMethod:
    """A way to authenticate; `type` is ``agent``, or ``terminal`` if a person must run a program."""

    id: str
    name: str
    type: str = "agent"
    description: str | None = None


@attrs.frozen(kw_only=True)
class InitializeResponse:
    """The agent's version, capabilities and ways to authenticate."""

    protocol_version: int
    agent_capabilities: AgentCapabilities = attrs.field(factory=AgentCapabilities)
    auth_methods: tuple[AuthMethod, ...] = ()
    agent_info: Implementation | None = None


@attrs.frozen(kw_only=True)
class AuthenticateRequest:
    """``authenticate`` with one of the offered methods."""

    method_id: str


@attrs.frozen
class EmptyResponse:
    """``{}``: the result of ``authenticate``, ``session/close`` and ``session/set_mode``."""


# -- sessions -----------------------------------------------------------------


@attrs.frozen(kw_only=True)
class SessionMode:
    """A mode the session can be in."""

    id: str
    name: str
    description: str | None = None


@attrs.frozen(kw_only=True)
class SessionModes:
    """The mode a session is in, and those it can be in."""

    current_mode_id: str
    available_modes: tuple[SessionMode, ...]


@attrs.frozen(kw_only=True)
class NewSessionRequest:
    """``session/new``; `mcp_servers` are objects as the protocol writes them."""

    cwd: str
    mcp_servers: tuple[dict[str, Any], ...]
    additional_directories: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class NewSessionResponse:
    """A session was opened."""

    session_id: str
    modes: SessionModes | None = None
    config_options: tuple[ConfigOption, ...] | None = None


@attrs.frozen(kw_only=True)
class LoadSessionRequest:
    """``session/load``: continue a session; the agent replays its history."""

    session_id: str
    cwd: str
    mcp_servers: tuple[dict[str, Any], ...]
    additional_directories: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class LoadSessionResponse:
    """A session was loaded."""

    modes: SessionModes | None = None
    config_options: tuple[ConfigOption, ...] | None = None


@attrs.frozen(kw_only=True)
class ResumeSessionRequest:
    """``session/resume``: continue a session without a replay."""

    session_id: str
    cwd: str
    mcp_servers: tuple[dict[str, Any], ...] = ()
    additional_directories: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class ResumeSessionResponse:
    """A session was resumed."""

    modes: SessionModes | None = None
    config_options: tuple[ConfigOption, ...] | None = None


@attrs.frozen(kw_only=True)
class CloseSessionRequest:
    """``session/close``: stop its work and free what it holds."""

    session_id: str


@attrs.frozen(kw_only=True)
class SetModeRequest:
    """``session/set_mode``."""

    session_id: str
    mode_id: str


@attrs.frozen(kw_only=True)
class SetConfigOptionRequest:
    """``session/set_config_option``; a bool is sent with ``"type": "boolean"``."""

    session_id: str
    config_id: str
    value: str | bool


@attrs.frozen(kw_only=True)
class SetConfigOptionResponse:
    """All configuration options, as they are now."""

    config_options: tuple[ConfigOption, ...]


@attrs.frozen(kw_only=True)
class ConfigSelectOption:
    """One value of a select."""

    value: str
    name: str


@attrs.frozen(kw_only=True)
class ConfigSelectGroup:
    """Values of a select that belong together."""

    group: str
    name: str
    options: tuple[ConfigSelectOption, ...]


# -- turns --------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class PromptRequest:
    """``session/prompt``: one turn; it is answered when the turn is over."""

    session_id: str
    prompt: tuple[ContentBlock, ...]


@attrs.frozen(kw_only=True)
class PromptResponse:
    """A turn is over.

    Attributes:
        stop_reason: Any text: agents use more than the protocol names.
        usage: Not in the stable protocol but sent by many: as decoded JSON.
    """

    stop_reason: str
    usage: Any = None


@attrs.frozen(kw_only=True)
class CancelNotification:
    """``session/cancel``: stop the running turn."""

    session_id: str


@attrs.frozen(kw_only=True)
class ToolCallUpdate:
    """What changed in a tool call; None means unchanged.  A user gets it merged, as a `ToolCall`."""

    id: str
    title: str | None = None
    kind: str | None = None
    status: str | None = None
    name: str | None = None
    content: tuple[ToolCallContent, ...] | None = None
    locations: tuple[Location, ...] | None = None
    raw_input: Any = None
    raw_output: Any = None

    def merged_into(self, call: ToolCall | None) -> ToolCall:
        """Return `call` with these changes, or a new call if there was none."""
        if call is None:
            call = ToolCall(id=self.id, title=self.title or self.name or self.id)
        fields = ("title", "kind", "status", "name", "content", "locations", "raw_input", "raw_output")
        changed = {name: value for name in fields if (value := getattr(self, name)) is not None}
        return attrs.evolve(call, **changed) if changed else call


@attrs.frozen(kw_only=True)
class RequestPermissionRequest:
    """``session/request_permission``: the agent asks before it uses a tool."""

    session_id: str
    tool_call: ToolCallUpdate
    options: tuple[PermissionOption, ...]


@attrs.frozen(kw_only=True)
class PermissionSelected:
    """One of the offered options was chosen."""

    option_id: str


@attrs.frozen
class PermissionCancelled:
    """The turn was cancelled before anybody chose, or no option fits."""


@attrs.frozen(kw_only=True)
class RequestPermissionResponse:
    """The answer to a request for permission."""

    outcome: PermissionSelected | PermissionCancelled


@attrs.frozen(kw_only=True)
class CancelRequestNotification:
    """``$/cancel_request``, in either direction: the request is not wanted any more, but is still answered."""

    request_id: int | str
