"""The `session/update` bodies that each showing step stands for; pure functions, no waiting."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ._script import Step

Json: TypeAlias = dict[str, Any]


def message_chunk(text: str, role: str = "agent_message_chunk") -> Json:
    """Return an update with a piece of text; `role` may be a thought's or the user's."""
    return {"sessionUpdate": role, "content": {"type": "text", "text": text}}


def commands() -> Json:
    """Return an update with the slash commands that the scripted agent claims to have."""
    names = {"steps": "List the steps of a script", "history": "Say what is remembered"}
    listed = [{"name": name, "description": description} for name, description in names.items()]
    return {"sessionUpdate": "available_commands_update", "availableCommands": listed}


def updates_of(step: Step, call_id: str) -> Iterable[Any] | None:
    """Return what a step shows, in order; None if it does more than show something.

    A tool call that it makes gets the id `call_id`.
    """
    match step.name:
        case "echo":
            return (message_chunk(word) for word in re.findall(r"\s*\S+\s*", f"You said: {step.text}"))
        case "say":
            return [message_chunk(step.text)]
        case "chunks":
            return (message_chunk(f"{step.text or 'chunk'} {n} ") for n in range(1, step.count(0) + 1))
        case "big":
            return [message_chunk("x" * step.count(0))]
        case "wide":
            return (message_chunk("x" * step.count(1)) for _ in range(step.count(0)))
        case "think":
            return [message_chunk(step.text, "agent_thought_chunk")]
        case "tool":
            return _tool(step, call_id)
        case "plan":
            return [_plan(step.text)]
        case "usage":
            return [{"sessionUpdate": "usage_update", "used": step.count(0), "size": step.count(1)}]
        case "mode":
            return [{"sessionUpdate": "current_mode_update", "currentModeId": step.text}]
        case "commands":
            return [commands()]
        case "update":
            return [step.data]
    return None


def tool_call(step: Step, call_id: str, default_kind: str) -> Json:
    """Return the members that describe a tool call."""
    call: Json = {"toolCallId": call_id, "title": step.text or "Run a tool"}
    call["kind"] = step.options.get("kind", default_kind)
    if path := step.options.get("path"):
        call["locations"] = [{"path": path}]
    return call


def _tool(step: Step, call_id: str) -> Iterator[Json]:
    status = step.options.get("status", "completed")
    yield {"sessionUpdate": "tool_call", "status": "pending", **tool_call(step, call_id, "read")}
    yield {"sessionUpdate": "tool_call_update", "toolCallId": call_id, "status": "in_progress"}
    done = [{"type": "content", "content": {"type": "text", "text": f"{step.text}: {status}"}}]
    yield {"sessionUpdate": "tool_call_update", "toolCallId": call_id, "status": status, "content": done}


def _plan(text: str) -> Json:
    entries = [
        {"content": entry.strip(), "priority": "medium", "status": "pending" if number else "in_progress"}
        for number, entry in enumerate(text.split("|"))
    ]
    return {"sessionUpdate": "plan", "entries": entries}
