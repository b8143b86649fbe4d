"""What a turn emits: one frozen value for each ``session/update`` of the agent.

These classes are also what the wire's updates are decoded to, so there is no
second data model.  Updates of a kind that this version does not know arrive
as `UnknownUpdate` and change nothing else.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import attrs

# -- pieces -------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class TextContent:
    """Plain or Markdown text."""

    text: str


@attrs.frozen(kw_only=True)
class ImageContent:
    """An image: base64 `data` of type `mime_type`."""

    data: str
    mime_type: str
    uri: str | None = None


@attrs.frozen(kw_only=True)
class AudioContent:
    """Audio: base64 `data` of type `mime_type`."""

    data: str
    mime_type: str


@attrs.frozen(kw_only=True)
class ResourceLink:
    """A reference to a resource the other side can read."""

    name: str
    uri: str
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    size: int | None = None


@attrs.frozen(kw_only=True)
class EmbeddedResource:
    """A resource with its contents: `text`, or base64 `blob`."""

    uri: str
    text: str | None = None
    blob: str | None = None
    mime_type: str | None = None


@attrs.frozen
class UnknownContent:
    """A content block of a kind this version does not know, as decoded JSON."""

    raw: dict[str, Any]


ContentBlock: TypeAlias = TextContent | ImageContent | AudioContent | ResourceLink | EmbeddedResource | UnknownContent


@attrs.frozen(kw_only=True)
class ToolContent:
    """An ordinary content block produced by a tool."""

    content: ContentBlock


@attrs.frozen(kw_only=True)
class ToolDiff:
    """A file change shown by a tool; `old_text` is None for a new file."""

    path: str
    new_text: str
    old_text: str | None = None


@attrs.frozen(kw_only=True)
class ToolTerminal:
    """A terminal whose output belongs to the tool call."""

    terminal_id: str


ToolCallContent: TypeAlias = ToolContent | ToolDiff | ToolTerminal


@attrs.frozen(kw_only=True)
class Location:
    """A file, and optionally a 1-based line, that a tool call touches."""

    path: str
    line: int | None = None


@attrs.frozen(kw_only=True)
class PlanEntry:
    """One step of a plan: `priority` high/medium/low, `status` pending/in_progress/completed."""

    content: str
    priority: str
    status: str


@attrs.frozen(kw_only=True)
class Command:
    """A slash command that the agent offers; `hint` describes its input."""

    name: str
    description: str
    hint: str | None = None


@attrs.frozen(kw_only=True)
class ConfigOption:
    """A setting of the session that the agent offers.

    Attributes:
        id: What `set_config_option` is given.
        type: ``select`` or ``boolean``.
        current_value: The value in force: text, or bool.
        values: The values of a select, groups flattened.
    """

    id: str
    name: str
    type: str
    current_value: str | bool
    description: str | None = None
    category: str | None = None
    values: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Cost:
    """An amount of money in an ISO 4217 currency."""

    amount: float
    currency: str


# -- events -------------------------------------------------------------------


@attrs.frozen
class TextDelta:
    """The next piece of the agent's message."""

    text: str
    message_id: str | None = None


@attrs.frozen
class Thought:
    """The next piece of the agent's reasoning."""

    text: str
    message_id: str | None = None


@attrs.frozen
class UserText:
    """A piece of the user's own message, echoed or replayed."""

    text: str
    message_id: str | None = None


@attrs.frozen(kw_only=True)
class ContentDelta:
    """A piece of a message that is not text.

    Attributes:
        role: Whose: ``agent``, ``thought`` or ``user``.
    """

    role: str
    content: ContentBlock
    message_id: str | None = None


@attrs.frozen(kw_only=True)
class ToolCall:
    """A tool call, complete as known so far: updates are merged before they get here.

    Attributes:
        id: The agent's id of the call.
        title: What the tool is doing, for people.  The agent's words: make them safe
            before they reach a terminal or a page.
        kind: read, edit, delete, move, search, execute, think, fetch, switch_mode, other.
        status: pending, in_progress, completed, failed.
    """

    id: str
    title: str
    kind: str = "other"
    status: str = "pending"
    name: str | None = None
    content: tuple[ToolCallContent, ...] = ()
    locations: tuple[Location, ...] = ()
    raw_input: Any = None
    raw_output: Any = None


@attrs.frozen(kw_only=True)
class Plan:
    """The agent's whole plan; it replaces the one before."""

    entries: tuple[PlanEntry, ...]


@attrs.frozen(kw_only=True)
class Commands:
    """The slash commands the agent offers now."""

    commands: tuple[Command, ...]


@attrs.frozen(kw_only=True)
class ModeChanged:
    """The session is in another mode now."""

    mode_id: str


@attrs.frozen(kw_only=True)
class ConfigChanged:
    """All configuration options, with their current values."""

    options: tuple[ConfigOption, ...]


@attrs.frozen(kw_only=True)
class SessionInfo:
    """The session's title or time of last change, as the agent keeps them."""

    title: str | None = None
    updated_at: str | None = None


@attrs.frozen(kw_only=True)
class Usage:
    """Tokens in the context window: `used` of `size`; and the cost so far, if told."""

    used: int
    size: int
    cost: Cost | None = None


@attrs.frozen(kw_only=True)
class PermissionAnswered:
    """A request for permission was answered.

    Attributes:
        tool_call: What permission was asked for.
        decision: ``allow``, ``deny`` or ``cancel``.
        option_id: The option that was chosen; None if it was cancelled.
        rule: What made the decision, in a few words for people.
    """

    tool_call: ToolCall
    decision: str
    option_id: str | None
    rule: str = ""


@attrs.frozen
class UnknownUpdate:
    """An update of a kind this version does not know, as decoded JSON."""

    raw: dict[str, Any]


Event: TypeAlias = (
    TextDelta
    | Thought
    | UserText
    | ContentDelta
    | ToolCall
    | Plan
    | Commands
    | ModeChanged
    | ConfigChanged
    | SessionInfo
    | Usage
    | PermissionAnswered
    | UnknownUpdate
)
