"""Options over ACP: the scripted agent's modes and configuration options."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

import trio_acp
from tests.acp_kit import managed, received, session_with
from trio_acp.abc import Capabilities
from trio_acp.acp.link import AcpHandle
from trio_acp.acp.session import AgentSession
from trio_acp.acp.session_controls import current_mode
from trio_acp.testing import ScriptedAgent, dial_agent
from trio_acp.testing.agent import CONFIG

CONTROLS = ("session/set_mode", "session/set_config_option")


def sent(agent: ScriptedAgent) -> list[Any]:
    """Return what the agent was told: modes as text, options as pairs."""
    return [
        entry.params["modeId"]
        if entry.method == "session/set_mode"
        else (entry.params["configId"], entry.params["value"])
        for entry in agent.log
        if entry.method in CONTROLS and isinstance(entry.params, dict)
    ]


async def mode_of(session: trio_acp.Session) -> object:
    """Return the mode that the connection knows of."""
    status = (await session.status()).runtime
    assert status is not None
    return status.details["mode"]


async def test_a_mode_is_set_by_the_mode_request(autojump_clock: trio.testing.MockClock) -> None:
    """Where the agent has modes and no configuration options; it is told again after a resume."""
    agent, store = ScriptedAgent(), trio_acp.MemoryStore()
    async with session_with(agent, store=store) as session:
        assert "ask" == await mode_of(session)
        await session.set_mode("code")
        assert "code" == await mode_of(session)
    async with managed(agent, store=store) as manager:
        await manager.session("k").prompt("say x")
    assert ["code", "code"] == sent(agent)
    assert ["session/resume", "session/set_mode", "session/prompt"] == received(agent)[-4:-1]
    assert [] == agent.violations


async def test_a_mode_that_is_a_configuration_option_is_set_as_one(autojump_clock: trio.testing.MockClock) -> None:
    """Where the agent has both, the option is used, and what it answers is what holds."""
    agent = ScriptedAgent(config=True)
    async with session_with(agent) as session:
        await session.set_mode("code")
        assert "code" == await mode_of(session)
        await session.prompt("say x")
    assert [("mode", "code"), ("mode", "code")] == sent(agent)


async def test_options_are_told_before_the_prompt(autojump_clock: trio.testing.MockClock) -> None:
    """In one order, and only those the agent has: the timeout is the manager's own."""
    agent = ScriptedAgent(config=True)
    async with session_with(agent) as session:
        await session.update_options(mode="code", model="large", timeout_seconds=60, extras={"effort": "high"})
        await session.prompt("say x")
        await session.prompt("say y")
    assert [("mode", "code"), ("model", "large"), ("effort", "high")] == sent(agent)
    assert [*["session/set_config_option"] * 3, "session/prompt", "session/prompt"] == received(agent)[2:-1]


@pytest.mark.parametrize("config", [True, False])
async def test_only_advertised_options_are_sent(config: bool, autojump_clock: trio.testing.MockClock) -> None:
    """Any other is refused before the agent hears of it."""
    agent = ScriptedAgent(config=config)
    async with session_with(agent) as session:
        with pytest.raises(trio_acp.UnsupportedControl):
            await session.set_config_option("Model" if config else "model", "large")
    assert [] == sent(agent)


@pytest.mark.parametrize("config", [True, False])
async def test_what_the_agent_refuses_is_not_stored(config: bool, autojump_clock: trio.testing.MockClock) -> None:
    """Its error reaches the caller as it is."""
    agent = ScriptedAgent(config=config)
    async with session_with(agent) as session:
        with pytest.raises(trio_acp.RequestFailed) as caught:
            await session.set_mode("fly")
        assert -32602 == caught.value.rpc_code
        assert trio_acp.RuntimeOptions() == (await session.status()).options
        await session.prompt("say x")


def config_update(*options: dict[str, Any]) -> str:
    """Return a prompt that has the agent send configuration options."""
    return "update " + json.dumps({"sessionUpdate": "config_option_update", "configOptions": list(options)})


BOOLEAN = {"id": "fast", "name": "Fast", "type": "boolean", "currentValue": False}


async def test_advertised_options_are_kept_current(autojump_clock: trio.testing.MockClock) -> None:
    """An update of the agent replaces the list, also what a mode means; without options there are none."""
    agent = ScriptedAgent(config=True)
    async with session_with(agent) as session:
        await session.prompt(config_update(BOOLEAN))
        with pytest.raises(trio_acp.UnsupportedControl):
            await session.set_config_option("model", "large")
        with pytest.raises(trio_acp.InvalidOption):
            await session.set_config_option("fast", "perhaps")
        assert trio_acp.RuntimeOptions() == (await session.status()).options
        with pytest.raises(trio_acp.RequestFailed):  # the agent does not really have it
            await session.set_config_option("fast", "True")
        assert ("fast", True) == sent(agent)[-1]
        await session.set_mode("code")
        assert "code" == sent(agent)[-1]


async def test_a_mode_that_changes_between_turns_is_known(autojump_clock: trio.testing.MockClock) -> None:
    """What the agent sends when no turn runs is not lost, if it is about options."""
    agent = ScriptedAgent(config=True)
    async with session_with(agent) as session:
        mode = {"id": "m", "name": "M", "category": "mode", "type": "select", "currentValue": "deep", "options": []}
        for last, expected in ((config_update(mode), "deep"), ("mode shallow", "deep"), (config_update(), "shallow")):
            with trio.move_on_after(1):
                await session.prompt(f"run-on; sleep 2; {last}")
            await trio.sleep(3)
            assert expected == await mode_of(session)


async def test_a_method_the_agent_lacks_is_an_unsupported_control(autojump_clock: trio.testing.MockClock) -> None:
    """An agent may advertise options and not have the request to set them."""
    agent = ScriptedAgent()
    async with session_with(agent) as session:
        await session.prompt(config_update(BOOLEAN))
        with pytest.raises(trio_acp.UnsupportedControl):
            await session.set_config_option("fast", "true")
        assert trio_acp.RuntimeOptions() == (await session.status()).options


async def test_the_scripted_agent_has_what_it_advertises(autojump_clock: trio.testing.MockClock) -> None:
    """Each of its options accepts each of its values."""
    agent = ScriptedAgent(config=True)
    async with session_with(agent) as session:
        for key, values in CONFIG.items():
            for value in values:
                await session.set_config_option(key, value)
    assert [(key, value) for key, values in CONFIG.items() for value in values] == sent(agent)


async def test_an_agent_without_modes_has_none(autojump_clock: trio.testing.MockClock) -> None:
    """It offers nothing to set, and says so of a call that comes all the same."""
    link: Any = None
    session = AgentSession(link, "s", "k", link)
    handle = AcpHandle(key="k", link=link, session=session)
    runtime = trio_acp.AcpRuntime(dial_agent(ScriptedAgent()))
    assert Capabilities() == await runtime.capabilities(handle)
    with pytest.raises(trio_acp.UnsupportedControl):
        await runtime.set_mode(handle, "code")
    with pytest.raises(trio_acp.UnsupportedControl):
        await runtime.set_config_option(handle, "model", "large")
    assert None is current_mode(session)


class TellsByUpdate:
    """An agent that tells its configuration options only by an update, while it loads a session."""

    async def serve(self, transport: trio_acp.abc.Transport) -> None:
        option = {"id": "model", "name": "Model", "type": "select", "currentValue": "a", "options": []}
        update = {"sessionUpdate": "config_option_update", "configOptions": [option]}
        told = {"method": "session/update", "params": {"sessionId": "s", "update": update}}
        while True:
            try:
                message = json.loads(await transport.receive())
            except trio_acp.ConnectionLost:
                return
            result: dict[str, Any] = {}
            if message["method"] == "initialize":
                result = {"protocolVersion": 1, "agentCapabilities": {"loadSession": True}}
            else:
                await transport.send(json.dumps({"jsonrpc": "2.0", **told}))
            await transport.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}))


async def test_options_told_while_a_session_is_loaded_are_kept(autojump_clock: trio.testing.MockClock) -> None:
    """An answer that leaves the options out does not take back what an update said."""
    async with trio_acp.AcpRuntime(dial_agent(TellsByUpdate())) as runtime:
        request = trio_acp.abc.EnsureRequest(key="k", mode="persistent", cwd="/repo", resume="s")
        handle = await runtime.ensure_session(request)
        assert ("model",) == (await runtime.capabilities(handle)).config_keys


class SaysMore:
    """An agent that answers `session/set_config_option`, and takes the option away in the next breath."""

    def __init__(self) -> None:
        self.late = False

    async def serve(self, transport: trio_acp.abc.Transport) -> None:
        options = [{"id": name, "name": name, "type": "select", "currentValue": "a", "options": []} for name in "mn"]
        update = {"sessionUpdate": "config_option_update", "configOptions": options[:1]}
        told = {"method": "session/update", "params": {"sessionId": "s", "update": update}}
        while True:
            try:
                message = json.loads(await transport.receive())
            except trio_acp.ConnectionLost:
                return
            if "id" not in message:
                continue
            result: dict[str, Any] = {"protocolVersion": 1}
            if message["method"] == "session/new":
                result = {"sessionId": "s", "configOptions": options}
            elif message["method"] == "session/set_config_option":
                result = {"configOptions": options}
                if self.late:
                    await trio.sleep(2)
                    result = {"configOptions": []}
            await transport.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}))
            if message["method"] == "session/set_config_option" and not self.late:
                await transport.send(json.dumps({"jsonrpc": "2.0", **told}))


async def test_answers_and_updates_count_in_the_order_of_the_wire(autojump_clock: trio.testing.MockClock) -> None:
    """The last word about the options holds, be it an update right behind an answer, or an answer nobody waits for."""
    agent = SaysMore()
    async with trio_acp.AcpRuntime(dial_agent(agent)) as runtime:
        handle = await runtime.ensure_session(trio_acp.abc.EnsureRequest(key="k", mode="persistent", cwd="/repo"))
        assert ("m", "n") == (await runtime.capabilities(handle)).config_keys
        await runtime.set_config_option(handle, "m", "a")
        await trio.testing.wait_all_tasks_blocked()
        assert ("m",) == (await runtime.capabilities(handle)).config_keys
        agent.late = True
        with trio.move_on_after(1):
            await runtime.set_config_option(handle, "m", "a")
        await trio.sleep(2)
        assert () == (await runtime.capabilities(handle)).config_keys
