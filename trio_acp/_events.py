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
    """Plain or Markdown text.  ACP: ``ContentBlock``, ``text``."""

    text: str


@attrs.frozen(kw_only=True)
class ImageContent:
    """An image: base64 `data` of type `mime_type`, and its `uri` if it has one.  ACP: ``ContentBlock``, ``image``."""

    data: str
    mime_type: str
    uri: str | None = None


@attrs.frozen(kw_only=True)
class AudioContent:
    """Audio: base64 `data` of type `mime_type`.  ACP: ``ContentBlock``, ``audio``."""

    data: str
    mime_type: str


@attrs.frozen(kw_only=True)
class ResourceLink:
    """A reference to a resource the other side can read at `uri`.  ACP: ``ContentBlock``, ``resource_link``.

    `name` identifies it, `title` and `description` are for people, and `size` is in bytes.
    `mime_type`, like these three, is None if not told.
    """

    name: str
    uri: str
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    size: int | None = None


@attrs.frozen(kw_only=True)
class EmbeddedResource:
    """A resource with its contents: `text`, or base64 `blob`.  ACP: ``ContentBlock``, ``resource``.

    `uri` names it, `mime_type` is its type, if told.
    """

    uri: str
    text: str | None = None
    blob: str | None = None
    mime_type: str | None = None


@attrs.frozen
class UnknownContent:
    """A block of a kind this version does not know: `raw` is its decoded JSON.  ACP: ``ContentBlock``."""

    raw: dict[str, Any]


ContentBlock: TypeAlias = TextContent | ImageContent | AudioContent | ResourceLink | EmbeddedResource | UnknownContent
"""A piece of a prompt or of an agent's message.  ACP: ``ContentBlock``."""


@attrs.frozen(kw_only=True)
class ToolContent:
    """An ordinary block of `content` produced by a tool.  ACP: ``ToolCallContent``, ``content``."""

    content: ContentBlock


@attrs.frozen(kw_only=True)
class ToolDiff:
    """A change of the file `path` from `old_text`, None if new, to `new_text`.  ACP: ``ToolCallContent``, ``diff``."""

    path: str
    new_text: str
    old_text: str | None = None


@attrs.frozen(kw_only=True)
class ToolTerminal:
    """A terminal, `terminal_id`, whose output belongs to the tool call.  ACP: ``ToolCallContent``, ``terminal``."""

    terminal_id: str


ToolCallContent: TypeAlias = ToolContent | ToolDiff | ToolTerminal


@attrs.frozen(kw_only=True)
class Location:
    """A file that a tool call touches, by its `path`, and the `line` from 1 if told.  ACP: ``locations``."""

    path: str
    line: int | None = None


@attrs.frozen(kw_only=True)
class PlanEntry:
    """One step of a plan.  ACP: ``PlanEntry``.

    Attributes:
        content: What is to be done.
        priority: ``high``, ``medium`` or ``low``.
        status: ``pending``, ``in_progress`` or ``completed``.
    """

    content: str
    priority: str
    status: str


@attrs.frozen(kw_only=True)
class Command:
    """A slash command that the agent offers; `hint` says what input it takes.  ACP: ``AvailableCommand``.

    `name` is what is typed after the slash, `description` what it does.
    """

    name: str
    description: str
    hint: str | None = None


@attrs.frozen(kw_only=True)
class ConfigOption:
    """A setting of the session that the agent offers.  ACP: ``configOptions``.

    Attributes:
        id: What `Session.set_config_option` is given.
        name: A name for people.
        type: ``select`` or ``boolean``.
        current_value: The value in force: text, or bool.
        description: What it does, for people.
        category: What it is about, such as ``mode`` or ``model``.
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
    """An `amount` of money in an ISO 4217 `currency`.  ACP: ``cost`` of ``usage_update``."""

    amount: float
    currency: str


# -- events -------------------------------------------------------------------


@attrs.frozen
class TextDelta:
    """The next piece of the agent's message: its `text`, verbatim.  ACP: ``session/update``, ``agent_message_chunk``.

    `message_id` is the same for all pieces of one message, if the agent gives it.
    """

    text: str
    message_id: str | None = None


@attrs.frozen
class Thought:
    """A piece of the agent's reasoning, as of `TextDelta`: `text`, `message_id`.  ACP: ``agent_thought_chunk``."""

    text: str
    message_id: str | None = None


@attrs.frozen
class UserText:
    """A piece of the user's message, as of `TextDelta`: `text`, `message_id`.  ACP: ``user_message_chunk``.

    Agents send it when they replay a conversation; some echo the prompt.
    """

    text: str
    message_id: str | None = None


@attrs.frozen(kw_only=True)
class ContentDelta:
    """A piece of a message that is not text.

    ACP: ``session/update``, any of the chunks that are text in `TextDelta`, `Thought` and `UserText`.

    Attributes:
        role: Whose: ``agent``, ``thought`` or ``user``.
        content: The piece.
        message_id: As of `TextDelta`.
    """

    role: str
    content: ContentBlock
    message_id: str | None = None


@attrs.frozen(kw_only=True)
class ToolCall:
    """A tool call, complete as known so far: updates are merged before they get here.

    ACP: ``session/update``, ``tool_call`` and ``tool_call_update``; the kinds are those of ``ToolKind``.

    Attributes:
        id: The agent's id of the call.
        title: What the tool is doing, for people.  The agent's words: make them safe
            before they reach a terminal or a page.
        kind: read, edit, delete, move, search, execute, think, fetch, switch_mode, other.
        status: pending, in_progress, completed, failed.
        name: The tool's own name, if the agent tells it.
        content: What it produced so far, to be shown.
        locations: The files that it touches.
        raw_input: What the tool was given, as decoded JSON.
        raw_output: What it returned, likewise.
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
    """The agent's whole plan: its `entries` replace those before.  ACP: ``session/update``, ``plan``."""

    entries: tuple[PlanEntry, ...]


@attrs.frozen(kw_only=True)
class Commands:
    """All slash commands the agent offers now.  ACP: ``session/update``, ``available_commands_update``."""

    commands: tuple[Command, ...]


@attrs.frozen(kw_only=True)
class ModeChanged:
    """The session is in another mode now, `mode_id`.  ACP: ``session/update``, ``current_mode_update``."""

    mode_id: str


@attrs.frozen(kw_only=True)
class ConfigChanged:
    """All configuration options, with their current values.  ACP: ``session/update``, ``config_option_update``."""

    options: tuple[ConfigOption, ...]


@attrs.frozen(kw_only=True)
class SessionInfo:
    """What the agent keeps of the session.  ACP: ``session/update``, ``session_info_update``.

    Attributes:
        title: Its title; None if that is not told, or taken away.
        updated_at: When it last changed, as the agent writes it (ISO 8601).
    """

    title: str | None = None
    updated_at: str | None = None


@attrs.frozen(kw_only=True)
class Usage:
    """Tokens in the context window: `used` of `size`; and the `cost` so far, if told.

    ACP: ``session/update``, ``usage_update``.
    """

    used: int
    size: int
    cost: Cost | None = None


@attrs.frozen(kw_only=True)
class PermissionAnswered:
    """A request for permission was answered.  ACP: ``session/request_permission``.

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
    """An update that this version cannot read, of an unknown kind or a wrong form.  ACP: ``session/update``.

    Attributes:
        raw: Its decoded JSON; empty if that is no object.
    """

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
"""What iterating over a `Turn` yields.  Every one is the agent's word but `PermissionAnswered`, which is ours."""
