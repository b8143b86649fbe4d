"""The codec: exact types, forgiven members, paths of errors, updates, JSON text."""

from __future__ import annotations

import contextlib
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_acp import _events as ev
from trio_acp._errors import InvalidMessage
from trio_acp.abc import PermissionOption
from trio_acp.acp import codec, schema

if TYPE_CHECKING:
    import attrs

TEXT = {"type": "text", "text": "hi"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def must_not_happen(error: InvalidMessage) -> None:
    """Fail the test: this was well-formed."""
    raise AssertionError(error)


# -- messages -----------------------------------------------------------------


def test_members_are_camel_case_and_defaults_are_left_out() -> None:
    """Members are written in camelCase, and those that equal their default are not written."""
    request = schema.NewSessionRequest(cwd="/w", mcp_servers=())

    assert codec.unstructure(request) == {"cwd": "/w", "mcpServers": []}


def test_markers_are_objects() -> None:
    """A capability that the wire marks with an object is a bool here, in both directions."""
    capabilities = schema.SessionCapabilities(resume=True, additional_directories=True)
    wire: dict[str, Any] = {"resume": {}, "additionalDirectories": {}}

    assert wire == codec.unstructure(capabilities)
    assert capabilities == codec.structure(schema.SessionCapabilities, wire | {"close": None, "list": True})


ROUND_TRIPS: list[tuple[attrs.AttrsInstance, dict[str, Any]]] = [
    (
        schema.InitializeRequest(
            protocol_version=1,
            client_capabilities=schema.ClientCapabilities(
                session=schema.ClientSessionCapabilities(config_options=schema.ConfigOptionCapabilities(boolean=True))
            ),
            client_info=schema.Implementation(name="n", version="1"),
        ),
        {
            "protocolVersion": 1,
            "clientCapabilities": {"session": {"configOptions": {"boolean": {}}}},
            "clientInfo": {"name": "n", "version": "1"},
        },
    ),
    (schema.EmptyResponse(), {}),
    (
        schema.LoadSessionRequest(session_id="s", cwd="/w", mcp_servers=({"name": "m", "env": []},)),
        {"sessionId": "s", "cwd": "/w", "mcpServers": [{"name": "m", "env": []}]},
    ),
    (
        schema.PromptRequest(
            session_id="s",
            prompt=(
                ev.TextContent(text="a"),
                ev.ImageContent(data="AA==", mime_type="image/png"),
                ev.AudioContent(data="AA==", mime_type="audio/wav"),
                ev.ResourceLink(name="r", uri="file:///r", size=3),
                ev.EmbeddedResource(uri="file:///e", text="e"),
                ev.EmbeddedResource(uri="file:///e", blob="AA==", mime_type="x/y"),
                ev.UnknownContent({"type": "smell", "of": "rain"}),
            ),
        ),
        {
            "sessionId": "s",
            "prompt": [
                {"type": "text", "text": "a"},
                {"type": "image", "data": "AA==", "mimeType": "image/png"},
                {"type": "audio", "data": "AA==", "mimeType": "audio/wav"},
                {"type": "resource_link", "name": "r", "uri": "file:///r", "size": 3},
                {"type": "resource", "resource": {"uri": "file:///e", "text": "e"}},
                {"type": "resource", "resource": {"uri": "file:///e", "blob": "AA==", "mimeType": "x/y"}},
                {"type": "smell", "of": "rain"},
            ],
        },
    ),
    (
        schema.PromptResponse(stop_reason="cancelled", usage={"n": [1]}),
        {"stopReason": "cancelled", "usage": {"n": [1]}},
    ),
    (
        schema.SetConfigOptionRequest(session_id="s", config_id="c", value=False),
        {"sessionId": "s", "configId": "c", "type": "boolean", "value": False},
    ),
    (
        schema.SetConfigOptionRequest(session_id="s", config_id="c", value="v"),
        {"sessionId": "s", "configId": "c", "value": "v"},
    ),
    (
        schema.RequestPermissionRequest(
            session_id="s",
            tool_call=schema.ToolCallUpdate(id="t", content=(ev.ToolDiff(path="/p", new_text="n"),)),
            options=(PermissionOption(id="o", name="O", kind="allow_always_for_this_moon"),),
        ),
        {
            "sessionId": "s",
            "toolCall": {"toolCallId": "t", "content": [{"type": "diff", "path": "/p", "newText": "n"}]},
            "options": [{"optionId": "o", "name": "O", "kind": "allow_always_for_this_moon"}],
        },
    ),
    (
        schema.RequestPermissionResponse(outcome=schema.PermissionSelected(option_id="o")),
        {"outcome": {"outcome": "selected", "optionId": "o"}},
    ),
    (
        schema.RequestPermissionResponse(outcome=schema.PermissionCancelled()),
        {"outcome": {"outcome": "cancelled"}},
    ),
    (schema.CancelRequestNotification(request_id="x-1"), {"requestId": "x-1"}),
    (schema.CancelRequestNotification(request_id=7), {"requestId": 7}),
]


@pytest.mark.parametrize(("value", "wire"), ROUND_TRIPS)
def test_round_trip(value: attrs.AttrsInstance, wire: dict[str, Any]) -> None:
    """What is written is what the protocol says, and reads back as what it was."""
    assert wire == codec.unstructure(value)
    assert value == codec.structure(type(value), wire)
    assert wire == codec.decode(codec.encode(wire))


@pytest.mark.parametrize("cls", [schema.EmptyResponse, schema.LoadSessionResponse, schema.ResumeSessionResponse])
def test_null_is_an_empty_object(cls: type[attrs.AttrsInstance]) -> None:
    """Where nothing is required, null is taken for an empty object."""
    assert codec.structure(cls, {}) == codec.structure(cls, None)


def test_unknown_members_are_ignored() -> None:
    """Members that no class names, ``_meta`` included, change nothing."""
    assert schema.PromptResponse(stop_reason="end_turn") == codec.structure(
        schema.PromptResponse, {"stopReason": "end_turn", "_meta": {"a": 1}, "later": [1]}
    )


@pytest.mark.parametrize(
    ("cls", "raw", "path"),
    [
        (schema.NewSessionResponse, {}, "$.result.sessionId"),
        (schema.NewSessionResponse, {"sessionId": 3}, "$.result.sessionId"),
        (schema.NewSessionResponse, None, "$.result"),
        (schema.NewSessionResponse, [], "$.result"),
        (schema.InitializeResponse, {"protocolVersion": "1"}, "$.result.protocolVersion"),
        (schema.InitializeResponse, {"protocolVersion": True}, "$.result.protocolVersion"),
        (schema.InitializeResponse, {"protocolVersion": 1.5}, "$.result.protocolVersion"),
        (schema.InitializeResponse, {"protocolVersion": -1}, "$.result.protocolVersion"),
        (schema.PromptResponse, {"stopReason": None}, "$.result.stopReason"),
        (
            schema.RequestPermissionRequest,
            {"sessionId": "s", "toolCall": {"toolCallId": "t"}, "options": [{"optionId": "o", "name": "n"}]},
            "$.result.options[0].kind",
        ),
        (
            schema.PromptRequest,
            {"sessionId": "s", "prompt": [TEXT, {"type": "image", "data": 1, "mimeType": "x"}]},
            "$.result.prompt[1].data",
        ),
        (schema.PromptRequest, {"sessionId": "s", "prompt": ["text"]}, "$.result.prompt[0]"),
        (schema.PromptRequest, {"sessionId": "s", "prompt": [{"type": 1}]}, "$.result.prompt[0].type"),
        (schema.PromptRequest, {"sessionId": "s", "prompt": TEXT}, "$.result.prompt"),
        (
            schema.PromptRequest,
            {"sessionId": "s", "prompt": [{"type": "resource", "resource": {"uri": "u", "text": 3}}]},
            "$.result.prompt[0].resource",
        ),
        (schema.RequestPermissionResponse, {"outcome": {"outcome": "shrug"}}, "$.result.outcome.outcome"),
        (schema.NewSessionRequest, {"cwd": "/", "mcpServers": [3]}, "$.result.mcpServers[0]"),
        (schema.CancelRequestNotification, {"requestId": 1.0}, "$.result.requestId"),
        (ev.EmbeddedResource, 3, "$.result"),
    ],
)
def test_errors_name_the_path(cls: type[attrs.AttrsInstance], raw: object, path: str) -> None:
    """A wrong required member is one error that names its path as the wire writes it."""
    with pytest.raises(InvalidMessage) as caught:
        codec.structure(cls, raw, at="$.result")

    assert path == caught.value.path
    assert str(caught.value).startswith(path + ": expected ")
    assert caught.value.__cause__ is None


def test_errors_do_not_quote_values() -> None:
    """An error tells the type of what was found, never the value: it may be long, or secret."""
    with pytest.raises(InvalidMessage) as caught:
        codec.structure(schema.NewSessionResponse, {"sessionId": ["hunter2"]})

    assert str(caught.value) == "$.sessionId: expected a string, found an array"


# -- leniency -----------------------------------------------------------------


def test_wrong_optional_members_become_defaults() -> None:
    """A wrong value of a member that the schema forgives becomes its default."""
    raw = {
        "protocolVersion": 1.0,
        "agentCapabilities": {
            "loadSession": "yes",
            "promptCapabilities": {"image": 1, "audio": True},
            "sessionCapabilities": [],
            "auth": {"logout": {}},
        },
        "agentInfo": {"name": "only"},
        "authMethods": {"id": "x"},
    }

    assert schema.InitializeResponse(
        protocol_version=1,
        agent_capabilities=schema.AgentCapabilities(
            prompt_capabilities=schema.PromptCapabilities(audio=True), auth=schema.AuthCapabilities(logout=True)
        ),
    ) == codec.structure(schema.InitializeResponse, raw)


def test_wrong_items_are_dropped() -> None:
    """Of a list that skips wrong items, only these are dropped."""
    raw = {
        "protocolVersion": 1,
        "authMethods": [
            3,
            {"id": "a", "name": "A", "type": 9},
            {"id": "b"},
            {"id": "t", "name": "T", "type": "terminal"},
        ],
    }

    assert (
        schema.AuthMethod(id="a", name="A"),
        schema.AuthMethod(id="t", name="T", type="terminal"),
    ) == codec.structure(schema.InitializeResponse, raw).auth_methods


def test_a_forgiven_list_that_is_required_becomes_empty() -> None:
    """A list that the schema both requires and forgives may be wrong, and is empty then."""


def test_null_lists_of_requests_are_empty() -> None:
    """Lists that the schema defaults on null are empty then."""
    raw = {"cwd": "/", "mcpServers": None, "additionalDirectories": None}

    assert schema.NewSessionRequest(cwd="/", mcp_servers=()) == codec.structure(schema.NewSessionRequest, raw)


def test_modes_and_config_options() -> None:
    """Modes are read, groups of a select flattened, options of unknown type or shape dropped."""
    values = [{"value": "a", "name": "A"}, {"value": "b", "name": "B"}]
    base = {"id": "o", "name": "O", "type": "select", "currentValue": "a"}
    raw = {
        "sessionId": "s",
        "modes": {"currentModeId": "m", "availableModes": [{"id": "m", "name": "M", "description": 4}, {}]},
        "configOptions": [
            base | {"options": values, "description": 3, "values": ["no member of the wire"]},
            base | {"id": "g", "options": [{"group": "1", "name": "G", "options": [*values, "bad"]}]},
            {"id": "b", "name": "B", "type": "boolean", "currentValue": True},
            base | {"options": [values[0], "bad"]},
            base | {"options": values, "type": "slider"},
            base | {"options": values, "currentValue": True},
            base | {"type": "boolean"},
            base,
        ],
    }

    response = codec.structure(schema.NewSessionResponse, raw)

    assert response.modes == schema.SessionModes(
        current_mode_id="m", available_modes=(schema.SessionMode(id="m", name="M"),)
    )
    assert response.config_options == (
        ev.ConfigOption(id="o", name="O", type="select", current_value="a", values=("a", "b")),
        ev.ConfigOption(id="g", name="O", type="select", current_value="a", values=("a", "b")),
        ev.ConfigOption(id="b", name="B", type="boolean", current_value=True),
    )


# -- updates ------------------------------------------------------------------

UPDATES: list[tuple[dict[str, Any], codec.Update]] = [
    ({"sessionUpdate": "agent_message_chunk", "content": TEXT, "messageId": "m"}, ev.TextDelta("hi", "m")),
    ({"sessionUpdate": "agent_message_chunk", "content": TEXT, "messageId": 4}, ev.TextDelta("hi")),
    ({"sessionUpdate": "agent_thought_chunk", "content": TEXT}, ev.Thought("hi")),
    ({"sessionUpdate": "user_message_chunk", "content": TEXT}, ev.UserText("hi")),
    (
        {"sessionUpdate": "user_message_chunk", "content": {"type": "audio", "data": "", "mimeType": "a/b"}},
        ev.ContentDelta(role="user", content=ev.AudioContent(data="", mime_type="a/b")),
    ),
    (
        {"sessionUpdate": "agent_message_chunk", "content": {"type": "smell"}},
        ev.ContentDelta(role="agent", content=ev.UnknownContent({"type": "smell"})),
    ),
    (
        {
            "sessionUpdate": "tool_call",
            "toolCallId": "t",
            "title": "T",
            "kind": "juggle",
            "status": "completed",
            "content": [
                {"type": "content", "content": TEXT},
                {"type": "diff", "path": "p", "newText": "n", "oldText": 3},
                {"type": "terminal", "terminalId": "x"},
                {"type": "dance"},
                TEXT,
            ],
            "locations": [{"path": "p", "line": -1}, {"line": 3}, {"path": "q", "line": 2}],
            "rawInput": {"a": [None]},
        },
        ev.ToolCall(
            id="t",
            title="T",
            status="completed",
            content=(
                ev.ToolContent(content=ev.TextContent(text="hi")),
                ev.ToolDiff(path="p", new_text="n"),
                ev.ToolTerminal(terminal_id="x"),
            ),
            locations=(ev.Location(path="p"), ev.Location(path="q", line=2)),
            raw_input={"a": [None]},
        ),
    ),
    (
        {"sessionUpdate": "tool_call_update", "toolCallId": "t", "status": "failed", "title": 3, "content": None},
        schema.ToolCallUpdate(id="t", status="failed"),
    ),
    (
        {
            "sessionUpdate": "plan",
            "entries": [
                {"content": "c", "priority": "high", "status": "pending"},
                {"content": "c", "priority": "huge", "status": "pending"},
            ],
        },
        ev.Plan(entries=(ev.PlanEntry(content="c", priority="high", status="pending"),)),
    ),
    (
        {
            "sessionUpdate": "available_commands_update",
            "availableCommands": [
                {"name": "a", "description": "A", "input": {"hint": "h"}},
                {"name": "b", "description": "B", "input": {"hint": 3}},
                {"name": "c", "description": "C", "input": "x"},
                {"name": "d"},
            ],
        },
        ev.Commands(
            commands=(
                ev.Command(name="a", description="A", hint="h"),
                ev.Command(name="b", description="B"),
                ev.Command(name="c", description="C"),
            )
        ),
    ),
    ({"sessionUpdate": "current_mode_update", "currentModeId": "m"}, ev.ModeChanged(mode_id="m")),
    ({"sessionUpdate": "config_option_update", "configOptions": [3]}, ev.ConfigChanged(options=())),
    ({"sessionUpdate": "session_info_update", "title": "t", "updatedAt": 3}, ev.SessionInfo(title="t")),
    (
        {"sessionUpdate": "usage_update", "used": 1, "size": 2.0, "cost": {"amount": 1, "currency": "EUR"}},
        ev.Usage(used=1, size=2, cost=ev.Cost(amount=1.0, currency="EUR")),
    ),
    (
        {"sessionUpdate": "usage_update", "used": 1, "size": 2, "cost": {"amount": 10**400, "currency": "EUR"}},
        ev.Usage(used=1, size=2),
    ),
]


@pytest.mark.parametrize(
    ("raw", "event"), UPDATES, ids=lambda value: None if isinstance(value, dict) else repr(value)[:40]
)
def test_updates_become_events(raw: dict[str, Any], event: codec.Update) -> None:
    """Every kind of update becomes its public event, with what is forgivable forgiven."""
    assert event == codec.structure_update(raw, on_invalid=must_not_happen)


@pytest.mark.parametrize("kind", ["notice", "compaction_update", "compaction_summary_chunk", "tomorrow"])
def test_unknown_updates_are_kept(kind: str) -> None:
    """An update of an unknown kind is kept as it is, and nothing is wrong with it."""
    raw = {"sessionUpdate": kind, "x": [1]}

    assert ev.UnknownUpdate(raw) == codec.structure_update(raw, on_invalid=must_not_happen)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ({"sessionUpdate": "agent_message_chunk"}, ".content"),
        ({"sessionUpdate": "agent_message_chunk", "content": {"type": "text"}}, ".content.text"),
        ({"sessionUpdate": "tool_call", "toolCallId": "t"}, ".title"),
        ({"sessionUpdate": "plan"}, ".entries"),
        ({"sessionUpdate": "current_mode_update", "modeId": "m"}, ".currentModeId"),
        ({"sessionUpdate": "usage_update", "used": -1, "size": 1}, ".used"),
        ({"sessionUpdate": 3}, ".sessionUpdate"),
        ({}, ".sessionUpdate"),
    ],
)
def test_malformed_updates_are_kept_and_reported(raw: dict[str, Any], path: str) -> None:
    """A known update that lacks something required is kept as unknown, and reported once."""
    seen: list[InvalidMessage] = []

    assert ev.UnknownUpdate(raw) == codec.structure_update(raw, on_invalid=seen.append)
    assert ["$.params.update" + path] == [error.path for error in seen]
    assert ev.UnknownUpdate(raw) == codec.structure_update(raw)


def test_an_update_that_is_no_object_is_empty() -> None:
    """What is not even an object is an empty unknown update, reported."""
    seen: list[InvalidMessage] = []

    assert ev.UnknownUpdate({}) == codec.structure_update("x", on_invalid=seen.append)
    assert [error.path for error in seen] == ["$.params.update"]


KINDS = st.sampled_from([str(raw["sessionUpdate"]) for raw, _ in UPDATES])


@st.composite
def damaged_updates(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an update with one of its members, at any depth, replaced by any JSON."""
    raw = json.loads(json.dumps(draw(st.sampled_from(UPDATES))[0]))
    place: Any = raw
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or draw(st.booleans()):
            break
        place = place[key]
    place[key] = draw(JSON)
    assert isinstance(raw, dict)
    return raw


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    JSON
    | damaged_updates()
    | st.builds(lambda kind, rest: {**rest, "sessionUpdate": kind}, KINDS, st.dictionaries(st.text(max_size=8), JSON))
)
def test_no_json_makes_structure_update_raise(raw: object) -> None:
    """Whatever an agent sends as an update, an event comes out; if it was malformed, an unknown one."""
    seen: list[InvalidMessage] = []

    event = codec.structure_update(raw, on_invalid=seen.append)

    assert not seen or isinstance(event, ev.UnknownUpdate)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from([type(value) for value, _ in ROUND_TRIPS]), st.sampled_from([w for _, w in ROUND_TRIPS]), JSON)
def test_structure_raises_nothing_else(cls: type[attrs.AttrsInstance], wire: dict[str, Any], junk: object) -> None:
    """Whatever JSON is structured, the result has the type asked for, or the error is `InvalidMessage`."""
    for raw in (junk, dict.fromkeys(wire, junk)):
        with contextlib.suppress(InvalidMessage):
            assert isinstance(codec.structure(cls, raw), cls)


# -- text ---------------------------------------------------------------------


def test_text_is_compact_and_not_escaped() -> None:
    """JSON is written without spaces and newlines, and other alphabets as they are."""
    assert codec.encode({"a": "é\n", "b": [1, None]}) == '{"a":"é\\n","b":[1,null]}'


def test_half_a_surrogate_pair_can_be_sent() -> None:
    """Text that UTF-8 cannot encode is escaped, and arrives as it was."""
    message = {"a": "\ud800é"}

    text = codec.encode(message)

    assert text.encode().decode() == text
    assert message == codec.decode(text)


CIRCLE: dict[str, Any] = {}
CIRCLE["self"] = CIRCLE


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), b"x", CIRCLE])
def test_what_json_cannot_say_is_not_written(value: object) -> None:
    """NaN, infinity, foreign objects and circles are refused."""
    with pytest.raises(InvalidMessage) as caught:
        codec.encode({"a": value})

    assert caught.value.detail == "not-json"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        '{"a":Infinity}',
        "-Infinity",
        "[" * 100_000,
        '{"a":' * 100_000,
        "1" * 10_000,
        "{} {}",
        "\ufeff{}",
    ],
    ids=lambda text: text[:12] or "empty",
)
def test_what_is_no_json_is_not_read(text: str) -> None:
    """Text that is not JSON, or not within reason, is an error and never a crash."""
    with pytest.raises(InvalidMessage) as caught:
        codec.decode(text)

    assert caught.value.detail == "not-json"
