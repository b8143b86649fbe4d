"""Run a turn that never ends against a real agent, under a manager with an SQLite store, until Ctrl-C.

Usage: hung_turn.py STORE
"""

from __future__ import annotations

import sys

import trio

import trio_acp


async def main(store: str) -> None:
    agent = trio_acp.AcpRuntime.stdio([sys.executable, "-m", "trio_acp.testing.agent"])
    async with trio_acp.open_session_manager({"agent": agent}, store=trio_acp.SQLiteStore(store)) as manager:
        session = await manager.start_session("k", agent="agent", cwd="/")
        async with session.turn("say running\nhang") as turn:
            async for _ in turn:
                print("running", flush=True)


if __name__ == "__main__":
    try:
        trio.run(main, sys.argv[1])
    except KeyboardInterrupt:
        print("interrupted, and nothing else", flush=True)
