"""Work on many files with many sessions, but with no more than three at once.

The limit is Trio's own.  One that fails does not stop the others here: each
gets an outcome, and what went wrong is told at the end::

    python examples/fan_out.py
"""

from __future__ import annotations

import trio

import trio_acp
from trio_acp.testing import ScriptedAgent, dial_agent

FILES = ("api.py", "cli.py", "core.py", "db.py", "errors.py", "io.py", "log.py")
AT_ONCE = 3


async def review(
    manager: trio_acp.SessionManager, limiter: trio.CapacityLimiter, file: str, results: dict[str, str]
) -> None:
    """Have one file reviewed, when it is its turn."""
    script = "error -32603 out of tokens" if file == "db.py" else f"sleep 0.05; say {file} is fine."
    async with limiter:
        try:
            results[file] = str(await manager.ask(script, agent="agent", cwd="/repo", timeout=60))
        except trio_acp.TurnError as error:
            results[file] = f"FAILED: {error}"


async def main() -> None:
    """Review all files, and print what came of it."""
    runtime = trio_acp.AcpRuntime(dial_agent(ScriptedAgent()))
    limiter = trio.CapacityLimiter(AT_ONCE)
    results: dict[str, str] = {}
    async with trio_acp.open_session_manager({"agent": runtime}) as manager:
        async with trio.open_nursery() as nursery:
            for file in FILES:
                nursery.start_soon(review, manager, limiter, file, results)
        counts = manager.statistics()
    for file in FILES:
        print(f"{file:10} {results[file]}")
    print(f"Completed: {counts.completed}, failed: {counts.failed}")


if __name__ == "__main__":
    trio.run(main)
