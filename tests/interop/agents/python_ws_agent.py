"""An agent on the official Python SDK; runs in an environment that has it, never in ours.

Usage: ``python_ws_agent.py`` serves WebSocket under uvicorn and prints ``port N``;
``python_ws_agent.py --stdio`` speaks over its standard streams.  ``--sessions FILE``
keeps the sessions in a file, for agents that do not outlive their connection.

The prompt is one word, the name of a ``do_`` method below.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import struct
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import acp
import uvicorn
from acp.http.asgi import create_asgi_app
from acp.schema import AgentCapabilities, AllowedOutcome, PermissionOption, ToolCallUpdate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Cut = Callable[[str], Awaitable[None]]

OPTIONS = [
    PermissionOption(option_id="yes", name="Yes", kind="allow_once"),
    PermissionOption(option_id="always", name="Always", kind="allow_always"),
    PermissionOption(option_id="no", name="No", kind="reject_once"),
]


class Memory:
    """What was prompted in each session; it outlives connections, and the process if it has a file."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self.sessions: dict[str, list[str]] = json.loads(file.read_text()) if file and file.exists() else {}

    def add(self, session_id: str, *words: str) -> None:
        self.sessions.setdefault(session_id, []).extend(words)
        if self._file:
            self._file.write_text(json.dumps(self.sessions))


class ScriptedAgent:
    """One for each connection."""

    def __init__(self, client: Any, memory: Memory, cut: Cut) -> None:
        self._client = client
        self._memory = memory
        self._cut = cut
        self._cancelled: dict[str, asyncio.Event] = {}

    async def initialize(self, protocol_version: int, **kwargs: Any) -> Any:
        return acp.InitializeResponse(
            protocol_version=acp.PROTOCOL_VERSION, agent_capabilities=AgentCapabilities(load_session=True)
        )

    async def new_session(self, cwd: str, **kwargs: Any) -> Any:
        session_id = f"python-{len(self._memory.sessions) + 1}"
        self._memory.add(session_id)
        return acp.NewSessionResponse(session_id=session_id)

    async def load_session(self, cwd: str, session_id: str, **kwargs: Any) -> Any:
        if session_id not in self._memory.sessions:
            raise acp.RequestError.resource_not_found(session_id)
        for word in self._memory.sessions[session_id]:
            await self._client.session_update(session_id, acp.update_user_message_text(word))
            await self._say(session_id, f"replay of {word}")
        return acp.LoadSessionResponse()

    async def cancel(self, session_id: str, **kwargs: Any) -> None:
        if session_id in self._cancelled:
            self._cancelled[session_id].set()

    async def prompt(self, session_id: str, prompt: list[Any], **kwargs: Any) -> Any:
        if session_id not in self._memory.sessions:
            raise acp.RequestError.resource_not_found(session_id)
        self._cancelled[session_id] = asyncio.Event()
        word = prompt[0].text
        action = getattr(self, f"do_{word}", None)
        if action is None:
            raise acp.RequestError.invalid_params({"prompt": word})
        self._memory.add(session_id, word)
        return acp.PromptResponse(stop_reason=await action(session_id) or "end_turn")

    async def do_hello(self, session_id: str) -> None:
        for text in ("Hel", "lo ", "there"):
            await self._say(session_id, text)

    async def do_tool(self, session_id: str) -> None:
        tool = "call-1"
        await self._update(session_id, acp.start_tool_call(tool, "Read notes", kind="read", status="pending"))
        await self._update(session_id, acp.update_tool_call(tool, status="in_progress"))
        content = [acp.tool_content(acp.text_block("three lines"))]
        await self._update(session_id, acp.update_tool_call(tool, status="completed", content=content))
        await self._say(session_id, "done")

    async def do_permission(self, session_id: str) -> str | None:
        call = ToolCallUpdate(tool_call_id="call-2", title="Write notes", kind="edit", status="pending")
        reply = await self._client.request_permission(session_id=session_id, tool_call=call, options=OPTIONS)
        if not isinstance(reply.outcome, AllowedOutcome):
            await self._say(session_id, "answered cancelled")
            return "cancelled" if self._cancelled[session_id].is_set() else None
        await self._say(session_id, f"answered {reply.outcome.option_id}")
        return None

    async def do_wait(self, session_id: str) -> str:
        await self._say(session_id, "waiting")
        await self._cancelled[session_id].wait()
        await self._say(session_id, ", stopped")
        return "cancelled"

    async def do_fail(self, session_id: str) -> None:
        await self._say(session_id, "trying")
        raise acp.RequestError(-32603, "failed as asked", {"reason": "asked"})

    async def do_recall(self, session_id: str) -> None:
        await self._say(session_id, " ".join(self._memory.sessions[session_id]))

    async def do_close(self, session_id: str) -> None:
        await self._say(session_id, "going")
        await self._cut("close")
        await asyncio.Event().wait()

    async def do_reset(self, session_id: str) -> None:
        await self._say(session_id, "going")
        await self._cut("reset")
        await asyncio.Event().wait()

    async def _say(self, session_id: str, text: str) -> None:
        await self._update(session_id, acp.update_agent_message_text(text))

    async def _update(self, session_id: str, update: Any) -> None:
        await self._client.session_update(session_id, update)


# The SDK makes the agent of a connection without telling it which socket it is for.
current_cut: ContextVar[Cut] = ContextVar("current_cut")


async def serve_websocket(memory: Memory) -> None:
    sdk_app = create_asgi_app(lambda client: ScriptedAgent(client, memory, current_cut.get()))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def cut(how: str) -> None:
            if how == "close":
                await send({"type": "websocket.close", "code": 1011, "reason": "as asked"})
                return
            # ASGI has no word for a reset; uvicorn's `send` is a method of the object that has the transport.
            transport = send.__self__.transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()

        current_cut.set(cut)
        await sdk_app(scope, receive, send)

    listener = socket.create_server(("127.0.0.1", 0))
    print(f"port {listener.getsockname()[1]}", flush=True)
    await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[listener])


async def serve_stdio(memory: Memory) -> None:
    await acp.run_agent(lambda client: ScriptedAgent(client, memory, lambda _how: os._exit(3)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--stdio", action="store_true")
    parser.add_argument("--sessions", type=Path)
    options = parser.parse_args()
    asyncio.run((serve_stdio if options.stdio else serve_websocket)(Memory(options.sessions)))
