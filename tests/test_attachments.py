"""What goes with a prompt's text, and what a prompt is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.acp_kit import received, session_with
from tests.turn_kit import one_session
from trio_acp import (
    AudioContent,
    EmbeddedResource,
    ImageContent,
    InvalidOption,
    ResourceLink,
    TextContent,
    TurnFailed,
    UnknownContent,
    UnsupportedContent,
    UsageError,
)
from trio_acp.testing import FakeRuntime, ScriptedAgent, Sleep

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_acp import ContentBlock

TEXT = TextContent(text="more")
LINK = ResourceLink(name="a", uri="file:///a")
IMAGE = ImageContent(data="aGk=", mime_type="image/png")
AUDIO = AudioContent(data="aGk=", mime_type="audio/wav")
RESOURCE = EmbeddedResource(uri="file:///b", text="b")
BLOB = EmbeddedResource(uri="file:///c", blob="aGk=")
ALL = frozenset({"image", "audio", "embeddedContext"})


async def test_every_kind_arrives_at_an_agent_that_takes_it(autojump_clock: MockClock) -> None:
    """As ACP says it, after the text, in order."""
    agent = ScriptedAgent(accepts=ALL)
    async with session_with(agent) as session:
        await session.prompt("say hi", attachments=[LINK, IMAGE, AUDIO, RESOURCE, BLOB])
    (prompt,) = [entry.params["prompt"] for entry in agent.log if entry.method == "session/prompt"]
    assert [
        {"type": "text", "text": "say hi"},
        {"type": "resource_link", "name": "a", "uri": "file:///a"},
        {"type": "image", "data": "aGk=", "mimeType": "image/png"},
        {"type": "audio", "data": "aGk=", "mimeType": "audio/wav"},
        {"type": "resource", "resource": {"uri": "file:///b", "text": "b"}},
        {"type": "resource", "resource": {"uri": "file:///c", "blob": "aGk="}},
    ] == prompt


@pytest.mark.parametrize(
    ("block", "kind", "needs"),
    [
        (IMAGE, "image", "image"),
        (AUDIO, "audio", "audio"),
        (RESOURCE, "resource", "embeddedContext"),
        (BLOB, "resource", "embeddedContext"),
        (UnknownContent({"type": "hologram"}), "unknown", None),
    ],
)
async def test_what_the_agent_did_not_announce_is_not_sent(
    block: ContentBlock, kind: str, needs: str | None, autojump_clock: MockClock
) -> None:
    """One error that names which attachment it is; the agent hears nothing, and the session goes on."""
    agent = ScriptedAgent(accepts=ALL - {needs})
    async with session_with(agent) as session:
        with pytest.raises(TurnFailed) as caught:
            await session.prompt("say hi", attachments=[TEXT, LINK, block, block])
        error = caught.value.__cause__
        assert isinstance(error, UnsupportedContent)
        assert (2, kind, "unsupported-content") == (error.index, error.kind, caught.value.detail)
        assert f"{kind!r} (attachment 2)" in str(error)
        assert [] == received(agent, "session/prompt", "session/cancel")
        assert "hi" == str(await session.prompt("say hi"))
    assert 1 == received(agent).count("session/new")


async def test_an_agent_that_announces_nothing_takes_text_and_links(autojump_clock: MockClock) -> None:
    """These two every agent takes."""
    agent = ScriptedAgent(accepts=frozenset())
    async with session_with(agent) as session:
        await session.prompt("say hi", attachments=[LINK, TextContent(text="say ho")])
    assert ["session/prompt"] == received(agent, "session/prompt")


@pytest.mark.parametrize("bad", ["text", None, {"type": "text"}, EmbeddedResource(uri="a:")])
async def test_what_is_no_attachment_is_refused_at_once(bad: Any, autojump_clock: MockClock) -> None:
    """It never reaches the queue, and the error names which one it is."""
    async with one_session(FakeRuntime()) as (manager, session):
        with pytest.raises(UsageError) as caught:
            session.turn("x", attachments=[TEXT, bad])
        assert "invalid-attachment" == caught.value.detail
        assert "attachment 1" in str(caught.value)
        with pytest.raises(UsageError):
            await session.prompt("x", attachments=[EmbeddedResource(uri="a:", text="a", blob="aGk=")])
        assert 0 == manager.statistics().submitted


async def test_a_steer_waits_for_its_turn_and_says_what_it_is(autojump_clock: MockClock) -> None:
    """It is passed on as such, after the running turn, in the order of admission."""
    runtime = FakeRuntime([Sleep(2)])

    async with one_session(runtime) as (_, session), trio.open_nursery() as nursery:
        nursery.start_soon(session.prompt, "a")
        await trio.testing.wait_all_tasks_blocked()
        async with session.turn("b", mode="steer") as turn:
            async for _event in turn:
                pass
        await session.prompt("c", mode="steer")
    turns = [(call.time, call.detail.mode) for call in runtime.calls if call.name == "run_turn"]
    assert [(0, "prompt"), (2, "steer"), (4, "steer")] == turns


@pytest.mark.parametrize("mode", ["Steer", "", None])
async def test_a_turn_is_for_nothing_else(mode: Any, autojump_clock: MockClock) -> None:
    """Another purpose is refused at once."""
    async with one_session(FakeRuntime()) as (manager, session):
        with pytest.raises(InvalidOption) as caught:
            await session.prompt("x", mode=mode)
        assert "invalid-turn-mode" == caught.value.detail
        assert 0 == manager.statistics().submitted


async def test_an_acp_agent_gets_a_steer_as_a_prompt(autojump_clock: MockClock) -> None:
    """ACP v1 has no other way to say it."""
    agent = ScriptedAgent()
    async with session_with(agent) as session:
        assert "hi" == str(await session.prompt("say hi", mode="steer"))
