"""A bridge between a chat and an agent: each room is a session.

The chat here is two memory channels; yours has a network.  Messages of one
room are answered in order, rooms do not wait for each other, ``/stop`` stops
what the agent is doing there, and a room's session is closed when it was idle
for a while and comes back with the next message::

    python examples/chat_bridge.py
"""

from __future__ import annotations

import attrs
import trio

import trio_acp
from trio_acp.testing import ScriptedAgent, dial_agent


@attrs.frozen
class Message:
    """A line in a room."""

    room: str
    text: str

    def __str__(self) -> str:
        return f"#{self.room}: {self.text}"


class Bridge:
    """Answers the messages of a chat."""

    def __init__(self, manager: trio_acp.SessionManager, chat: trio.MemorySendChannel[Message]) -> None:
        self._manager = manager
        self._chat = chat

    async def run(self, messages: trio.MemoryReceiveChannel[Message]) -> None:
        """Serve until there are no more messages and all are answered.  If cancelled, turns are stopped."""
        async with trio.open_nursery() as nursery:
            async for message in messages:
                if message.text == "/stop":
                    nursery.start_soon(self._stop, message.room)
                else:
                    nursery.start_soon(self._answer, message)

    async def _stop(self, room: str) -> None:
        stopped = await self._manager.session(room).cancel("/stop")
        await self._chat.send(Message(room, f"({stopped} stopped)"))

    async def _answer(self, message: Message) -> None:
        session = await self._manager.start_session(message.room, agent="agent", cwd="/repo")
        try:
            reply = await session.prompt(message.text, timeout=300)
        except trio_acp.TurnError as error:
            await self._chat.send(Message(message.room, f"(it did not work: {error})"))
        else:
            await self._chat.send(Message(message.room, f"{reply} ({type(reply.outcome).__name__})"))


async def main() -> None:
    """Play a short conversation in two rooms."""
    to_bridge, messages = trio.open_memory_channel[Message](10)
    chat, from_bridge = trio.open_memory_channel[Message](10)
    settings = trio_acp.Settings(idle_ttl=600, max_sessions=100)
    runtime = trio_acp.AcpRuntime(dial_agent(ScriptedAgent()))
    async with (
        trio_acp.open_session_manager({"agent": runtime}, settings=settings) as manager,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(Bridge(manager, chat).run, messages)
        await to_bridge.send(Message("general", "say Good morning!"))
        print(await from_bridge.receive())
        await to_bridge.send(Message("general", "say Let me think ...; hang"))
        await to_bridge.send(Message("random", "say Nobody waits here."))
        print(await from_bridge.receive())
        await to_bridge.send(Message("general", "/stop"))
        for _ in range(2):
            print(await from_bridge.receive())
        await to_bridge.aclose()


if __name__ == "__main__":
    trio.run(main)
