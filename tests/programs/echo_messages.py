"""Echoes messages with our own server transport over standard input and output."""

import os

import trio

from trio_acp._errors import ConnectionLost
from trio_acp.transports import stdio_server_transport


async def main() -> None:
    """Echo until the client is gone, then check the blocking mode of both descriptors."""
    async with stdio_server_transport() as transport:
        try:
            while True:
                message = await transport.receive()
                if isinstance(message, str):
                    await transport.send(message)
        except ConnectionLost:
            pass
    if not (os.get_blocking(0) and os.get_blocking(1)):
        raise SystemExit(9)


trio.run(main)
