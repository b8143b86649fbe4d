"""What is read by hand or by a quicker decoder, held against the reference: the same for any input."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.acp_kit import session_with
from trio_acp import TextContent, UnknownUpdate
from trio_acp._errors import InvalidMessage
from trio_acp.acp import codec, schema, updates
from trio_acp.acp.chunks import read_chunk
from trio_acp.acp.rpc import NotificationArrived, RpcPeer
from trio_acp.testing import ScriptedAgent

if TYPE_CHECKING:
    from collections.abc import Callable

    import trio

KINDS = [*updates._READERS, "usage_update", "novelty"]

JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 2**70, 1.0, 1.5, "", "x", "read", "high", [], {}, [[]], {"type": []}]
)
TEXT = st.one_of(st.text(max_size=3), JUNK)


def objects(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw objects in which each of the members is right, wrong or missing."""
    return st.fixed_dictionaries({}, optional=members | {"_meta": JUNK})


BLOCKS = objects(type=st.sampled_from(["text", "text", "text", "image", "novelty", 1, []]), text=TEXT, data=TEXT)
PIECES = objects(
    type=st.sampled_from(["content", "diff", "terminal", "novelty", None, {}]),
    content=st.one_of(BLOCKS, JUNK),
    path=TEXT,
    newText=TEXT,
    oldText=TEXT,
    terminalId=TEXT,
)
PLACES = objects(path=TEXT, line=st.one_of(JUNK, st.integers(-2, 2)))
ENTRIES = objects(
    content=TEXT,
    priority=st.sampled_from(["high", "medium", "low", "urgent", None, []]),
    status=st.sampled_from(["pending", "in_progress", "completed", "failed", {}]),
)


def lists(item: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.lists(st.one_of(item, item, item, JUNK), max_size=3), JUNK)


UPDATES = objects(
    sessionUpdate=st.one_of(st.sampled_from(KINDS), st.sampled_from(KINDS), JUNK),
    content=st.one_of(BLOCKS, lists(PIECES)),
    messageId=TEXT,
    toolCallId=TEXT,
    title=TEXT,
    name=TEXT,
    kind=st.one_of(st.sampled_from(["read", "edit", "other", "juggle"]), JUNK),
    status=st.one_of(st.sampled_from(["pending", "failed", "perhaps"]), JUNK),
    locations=lists(PLACES),
    rawInput=JUNK,
    rawOutput=JUNK,
    entries=lists(ENTRIES),
)


@st.composite
def whole(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an update that is in order, but perhaps for one member."""
    text: st.SearchStrategy[Any] = st.text(max_size=3)
    block: st.SearchStrategy[Any] = st.fixed_dictionaries({"type": st.just("text"), "text": text})
    piece: st.SearchStrategy[Any] = st.one_of(
        st.fixed_dictionaries({"type": st.just("content"), "content": block}),
        st.fixed_dictionaries({"type": st.just("diff"), "path": text, "newText": text}, optional={"oldText": TEXT}),
        st.fixed_dictionaries({"type": st.just("terminal"), "terminalId": text}),
        PIECES,
    )
    place: st.SearchStrategy[Any] = st.fixed_dictionaries({"path": text}, optional={"line": st.integers(-1, 9)})
    entry: st.SearchStrategy[Any] = st.fixed_dictionaries(
        {"content": text, "priority": st.just("high"), "status": st.sampled_from(["pending", "completed"])}
    )
    kind = draw(st.sampled_from(KINDS))
    update: dict[str, Any]
    if kind == "plan":
        update = {"entries": draw(st.lists(st.one_of(entry, ENTRIES), max_size=3))}
    elif kind in ("tool_call", "tool_call_update"):
        update = draw(
            st.fixed_dictionaries(
                {"toolCallId": text, "title": text},
                optional={
                    "kind": st.sampled_from(["read", "juggle"]),
                    "status": st.sampled_from(["failed", "perhaps"]),
                    "content": st.lists(piece, max_size=3),
                    "locations": st.lists(place, max_size=2),
                    "rawInput": JUNK,
                },
            )
        )
    else:
        update = {"content": draw(block)} | draw(st.fixed_dictionaries({}, optional={"messageId": text}))
    damage: dict[str, Any] = draw(st.one_of(st.just({}), st.just({}), UPDATES))
    return {"sessionUpdate": kind} | update | damage


def told(read: Callable[..., codec.Update], raw: object) -> tuple[codec.Update, str, list[tuple[str, str]]]:
    """Return what is read, its inner types included, and what is told to be wrong."""
    wrong: list[tuple[str, str]] = []
    update = read(raw, on_invalid=lambda error: wrong.append((str(error), error.path)))
    return update, repr(update), wrong


@given(st.one_of(whole(), whole(), UPDATES, JUNK))
def test_by_hand_and_by_the_rules_any_update_is_the_same(raw: object) -> None:
    """The same value of the same types, or the same error, for what is right, forgiven, malformed or unknown."""
    assert told(codec.structure_update, raw) == told(updates.read_update, raw)


@pytest.mark.parametrize("kind", updates._READERS)
def test_a_frequent_update_in_order_is_read_by_hand(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference is not asked about any of the frequent kinds if there is nothing unusual in them."""
    monkeypatch.setattr(updates, "structure_update", None)
    block = {"type": "text", "text": "x"}
    content = block if kind.endswith("chunk") else [{"type": "content", "content": block}]
    entry = {"content": "x", "priority": "high", "status": "pending"}
    updates.read_update(
        {"sessionUpdate": kind, "content": content, "toolCallId": "1", "title": "t", "entries": [entry], "_meta": {}}
    )


async def test_a_kind_that_is_no_text_ends_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """An update whose kind is an array is passed on as unknown, and the connection goes on."""
    agent = ScriptedAgent()
    async with session_with(agent) as session:
        async with session.turn('update {"sessionUpdate": []}') as turn:
            events = [event async for event in turn]
        assert [UnknownUpdate] == [type(event) for event in events]
        assert "on" == str(await session.prompt("say on"))


TOKENS = st.sampled_from(
    ["{", "}", "[", "]", ",", ":", '"', '"a"', "1", "-", ".", "e", "0", "true", "null", "\\", "\\u", "d8", "00", " "]
)

# -- chunks ---------------------------------------------------------------------


def read_slowly(text: str) -> tuple[str, codec.Update] | None:
    """Return the session's id and the event of a frame that is an update; None for any other."""
    arrived = RpcPeer[None]().receive(text)
    params = arrived.params if isinstance(arrived, NotificationArrived) else None
    if not isinstance(params, dict) or not isinstance(session_id := params.get("sessionId"), str):
        return None
    return session_id, codec.structure_update(params.get("update"))


FRAMES = objects(
    jsonrpc=st.sampled_from(["2.0", "2.0", "2.0", "1.0", 2]),
    method=st.sampled_from(["session/update", "session/update", "session/updates", None]),
    params=st.one_of(
        st.fixed_dictionaries(
            {"sessionId": TEXT, "update": st.one_of(whole(), UPDATES, JUNK)}, optional={"_meta": JUNK}
        ),
        JUNK,
    ),
    id=JUNK,
    result=JUNK,
    error=JUNK,
)


@st.composite
def frames(draw: st.DrawFn) -> str:
    """Draw a chunk's frame, perhaps with members that are wrong or too many, perhaps with something put in."""
    block = {"type": "text", "text": draw(st.text(max_size=3))}
    kind = draw(st.sampled_from([kind for kind in KINDS if kind.endswith("chunk")]))
    update: dict[str, Any] = {"sessionUpdate": kind, "content": block}
    frame: dict[str, Any] = {"jsonrpc": "2.0", "method": "session/update"}
    frame["params"] = {"sessionId": "s", "update": update | draw(st.one_of(st.just({}), UPDATES))}
    text = json.dumps(frame | draw(st.one_of(st.just({}), FRAMES)), ensure_ascii=draw(st.booleans()))
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.one_of(st.just(""), TOKENS)) + text[at + draw(st.integers(0, 1)) :]


@given(frames())
@example('{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s"},"_chunk":0}')
def test_a_chunk_in_one_go_is_what_the_rules_say(text: str) -> None:
    """A frame that is read in one go has the session and the event that it has by the rules."""
    read = read_chunk(text)
    assert read is None or (read, repr(read)) == (slow := read_slowly(text), repr(slow))


@pytest.mark.parametrize("kind", [kind for kind in updates._READERS if kind.endswith("chunk")])
@pytest.mark.parametrize("more", [{}, {"messageId": "m", "_meta": {"a": None}}])
def test_a_chunk_in_order_is_read_in_one_go(kind: str, more: dict[str, Any]) -> None:
    """Text of the agent, and of its thoughts, needs no rule, also with members that are ignored."""
    update = {"sessionUpdate": kind, "content": {"type": "text", "text": "x"}} | more
    frame = {"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": "s", "update": update}}
    text = json.dumps(frame)
    assert read_chunk(text) == read_slowly(text) is not None


@pytest.mark.parametrize(
    ("inside", "name"),
    [
        ((), "jsonrpc"),
        ((), "method"),
        ((), "params"),
        (("params",), "sessionId"),
        (("params",), "update"),
        (("params", "update"), "sessionUpdate"),
        (("params", "update"), "messageId"),
        (("params", "update"), "content"),
        (("params", "update", "content"), "type"),
        (("params", "update", "content"), "text"),
    ],
)
def test_a_chunk_with_one_thing_wrong_is_what_the_rules_say(inside: tuple[str, ...], name: str) -> None:
    """Whatever a single member is, or if it is not there, no frame is read that the rules read otherwise."""
    values: tuple[Any, ...] = ("", "1.0", "plan", "image", "x", 0, 2.0, True, None, [], {})
    for instead in ({}, *({name: value} for value in values)):
        update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "x"}, "messageId": "m"}
        frame = {"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": "s", "update": update}}
        members: Any = frame
        for step in inside:
            members = members[step]
        del members[name]
        members |= instead
        assert read_chunk(text := json.dumps(frame)) in (None, read_slowly(text))


@pytest.mark.parametrize("more", [{"id": 1}, {"id": None}, {"result": {}}, {"error": {}}])
def test_what_is_no_notification_is_no_chunk(more: dict[str, Any]) -> None:
    """A request, or what brings an answer, is left to the rules, though the rest of it is a chunk."""
    update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "x"}}
    frame = {"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": "s", "update": update}}
    assert read_chunk(json.dumps(frame | more)) is None


# -- prompts --------------------------------------------------------------------


@given(st.text(), st.text())
@example("s", '"\\\n\x00\x7f\u2028')
@example("\ud800", "x")
@example("s", "\ud800")
def test_a_prompt_by_hand_is_what_the_rules_write(session_id: str, text: str) -> None:
    """The params of a prompt of one text are the same JSON, whatever is in it."""
    prompt = schema.PromptRequest(session_id=session_id, prompt=(TextContent(text=text),))
    assert codec.encode(codec.unstructure(prompt)) == codec.written(prompt)


@pytest.mark.parametrize("text", [float("nan"), b"bytes"])
def test_a_prompt_that_is_no_text_is_refused_as_any_other_message(text: Any) -> None:
    """What JSON cannot say is an `InvalidMessage`, in the prompt that is written by hand too."""
    with pytest.raises(InvalidMessage, match="cannot be written as JSON"):
        codec.written(schema.PromptRequest(session_id="s", prompt=(TextContent(text=text),)))


# -- JSON -----------------------------------------------------------------------


def read_by(text: str, *, quick: bool, patch: pytest.MonkeyPatch) -> str:
    """Return what a text means, or that it means nothing."""
    with patch.context() as within:
        if not quick:
            within.setattr(codec, "_quick", None)
        try:
            return repr(codec.decode(text))
        except InvalidMessage as error:
            return str(error)


DIFFERENCES = {
    # What msgspec refuses and json takes, and so the reference decides.
    "1e400": "inf",
    r'"\ud800"': r"'\ud800'",
    r'{"\udc00": "\ud800\u0041"}': r"{'\udc00': '\ud800A'}",
}

SAME = {
    "1" * 50: "1" * 50,
    "-" + "9" * 30: "-" + "9" * 30,
    '{"a": 1, "b": 2, "a": 3}': "{'a': 3, 'b': 2}",
    "1.0": "1.0",
    "-0": "0",
    "1E5": "100000.0",
    "0." + "1" * 400: "0." + "1" * 16,
    " \t\r\n[] ": "[]",
    r'"\u0000\ud83d\ude00"': r"'\x00😀'",
}

REFUSED = ["", "NaN", "[Infinity]", "-Infinity", "\ufeff{}", "{} x", "01", "1.", '"\x01"', "{'a': 1}", "[1,]", "\f1"]
REFUSED += ["1" * 5000, "[" * 100_000, "nul", '{"a": }', "\u00a01", "+1", ".5", '{"a" 1}']


@pytest.mark.parametrize("text", [*DIFFERENCES, *SAME])
def test_both_decoders_read_the_same(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long integers, doubled members, escapes, numbers that overflow: the same value with and without the extra."""
    expected = {**DIFFERENCES, **SAME}[text]
    assert [expected] * 2 == [read_by(text, quick=quick, patch=monkeypatch) for quick in (True, False)]


@pytest.mark.parametrize("text", REFUSED)
def test_both_decoders_refuse_the_same(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no JSON is so in the same words with and without the extra."""
    said = {read_by(text, quick=quick, patch=monkeypatch) for quick in (True, False)}
    assert 1 == len(said)
    assert said.pop().startswith("not readable as JSON")


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Draw JSON, whole or with something put in."""
    text = json.dumps(draw(VALUES), ensure_ascii=draw(st.booleans()))
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.one_of(st.just(""), TOKENS)) + text[at + draw(st.integers(0, 1)) :]


@given(st.one_of(texts(), st.lists(TOKENS, max_size=8).map("".join)))
@example("-0.0")
def test_any_text_means_the_same_to_both_decoders(text: str) -> None:
    """Whatever is read: the same value of the same types, or the same refusal."""
    patch = pytest.MonkeyPatch()
    assert read_by(text, quick=False, patch=patch) == read_by(text, quick=True, patch=patch)
