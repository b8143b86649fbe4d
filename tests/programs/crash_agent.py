"""A small ACP agent that starts fast, remembers its sessions in a directory, and is hard to get rid of.

Usage: crash_agent.py DIR [stubborn] [child]

It answers a prompt by how many it has been sent in this session, and one that
says ``hang`` only after a cancel.  ``stubborn`` heeds neither the end of its
input nor SIGTERM.  ``child`` starts a process that is as stubborn, without any
pipe.  Each process leaves a file with its id in DIR.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(sys.argv[1])
CHILD = (
    "import os, pathlib, signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "pathlib.Path(sys.argv[1], f'{os.getpid()}.pid').touch();"
    "os.close(1)\nwhile True: signal.pause()"
)


def say(message: dict[str, Any]) -> None:
    """Send one message."""
    with suppress(BrokenPipeError):  # the manager may be dead by now
        os.write(1, json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


def prompts_of(session: str) -> int:
    """Return how many prompts a session has been sent."""
    return int((HERE / f"{session}.session").read_text())


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """Return the result of a request; None if it comes later."""
    session = params.get("sessionId", "")
    if method == "initialize":
        capabilities = {"loadSession": False, "sessionCapabilities": {"resume": {}, "close": {}}}
        return {"protocolVersion": 1, "agentCapabilities": capabilities}
    if method == "session/new":
        session = f"s{len(list(HERE.glob('*.session'))) + 1}"
        (HERE / f"{session}.session").write_text("0")
        return {"sessionId": session}
    if method == "session/prompt":
        text = params["prompt"][0]["text"]
        count = prompts_of(session) + 1
        (HERE / f"{session}.session").write_text(str(count))
        update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": f"{session} {count}"}}
        say({"method": "session/update", "params": {"sessionId": session, "update": update}})
        return None if text == "hang" else {"stopReason": "end_turn"}
    return {}


def main() -> None:
    """Serve until the end of input, or for ever."""
    stubborn = "stubborn" in sys.argv
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (HERE / f"{os.getpid()}.pid").touch()
    if "child" in sys.argv:
        child = subprocess.Popen(
            [sys.executable, "-IS", "-c", CHILD, str(HERE)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.read()  # it is ready
    unanswered: dict[str, Any] = {}
    for line in sys.stdin:
        message = json.loads(line)
        method, params = message.get("method"), message.get("params", {})
        if method == "session/cancel":
            say({"id": unanswered.pop(params["sessionId"]), "result": {"stopReason": "cancelled"}})
        elif "id" in message:
            result = answer(method, params)
            if result is None:
                unanswered[params["sessionId"]] = message["id"]
            else:
                say({"id": message["id"], "result": result})
    while stubborn:
        signal.pause()


if __name__ == "__main__":
    main()
