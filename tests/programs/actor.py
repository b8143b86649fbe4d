"""The agent of the README's picture: the scripted one; people may talk to it as they do, for it knows their words."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from trio_acp.abc import Transport
from trio_acp.testing import ScriptedAgent
from trio_acp.transports import stdio_server_transport

if TYPE_CHECKING:
    from collections.abc import Mapping


class Prompted(Transport):
    """A connection on which each prompt becomes the script that is written for it.

    The scripted agent tells how a permission was answered; other agents do not, so that is left out.
    """

    def __init__(self, inner: Transport, scripts: Mapping[str, str]) -> None:
        self._inner = inner
        self._scripts = scripts

    async def send(self, message: str) -> None:
        if '"text":"permission: ' not in message.replace('": ', '":'):
            await self._inner.send(message)

    async def receive(self) -> str | bytes:
        text = await self._inner.receive()
        message = json.loads(text)
        if message.get("method") == "session/prompt":
            [block] = message["params"]["prompt"]
            block["text"] = self._scripts[block["text"]]
        return json.dumps(message)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def serve(scripts: Mapping[str, str]) -> None:
    """Serve standard input and output until they end."""
    async with stdio_server_transport() as transport:
        await ScriptedAgent(id_prefix="picture").serve(Prompted(transport, scripts))


if __name__ == "__main__":
    trio.run(serve, json.loads(Path(sys.argv[1]).read_text("utf-8")))
