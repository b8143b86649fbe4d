"""`trio-acp serve` as the TypeScript SDK's WebSocket client sees it, an agent on the Python SDK behind it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import trio

from . import peers

pytestmark = pytest.mark.timeout(peers.PYTEST_TIMEOUT)

TRIO_ACP = str(Path(sys.executable).with_name("trio-acp"))


async def test_a_stdio_agent_behind_serve(
    python_sdk: peers.PythonSdk, typescript_sdk: peers.TypeScriptSdk, tmp_path: Path
) -> None:
    """A whole conversation passes unchanged: turn, permission, cancel, error, load, and an agent that dies."""
    agent = python_sdk.stdio_agent(tmp_path / "sessions.json")
    async with peers.serving([TRIO_ACP, "serve", "--port", "0", "--", *agent]) as url:
        with trio.fail_after(peers.TEST_LIMIT):
            client = await trio.run_process(typescript_sdk.websocket_client(url, tmp_path), capture_stdout=True)
    words = ["hello", "tool", "permission", "permission", "wait", "fail"]
    expected = [
        {"step": "turn", "stopReason": "end_turn", "text": "Hello there"},
        {"step": "tool", "stopReason": "end_turn", "statuses": ["pending", "in_progress", "completed"]},
        {"step": "permission", "stopReason": "end_turn", "text": "answered yes"},
        {"step": "permission", "stopReason": "end_turn", "text": "answered no"},
        {"step": "cancel", "stopReason": "cancelled", "text": "waiting, stopped"},
        {"step": "error", "code": -32603, "message": "failed as asked", "data": {"reason": "asked"}},
        {"step": "load", "replayed": ["user_message_chunk", "agent_message_chunk"] * len(words)},
        {"step": "recall", "stopReason": "end_turn", "text": " ".join([*words, "recall"])},
        {"step": "disconnect", "failed": True},
        {"step": "after", "stopReason": "end_turn", "text": "Hello there"},
    ]
    assert expected == [json.loads(line) for line in client.stdout.splitlines()]
