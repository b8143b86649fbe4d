r"""The scripted agent: a real ACP agent that does what its prompts say.

In a test, over any transport::

    agent = ScriptedAgent(resume=False)
    nursery.start_soon(agent.serve, transport)

As a process that speaks over its standard input and output::

    python -m trio_acp.testing.agent --state-dir DIR

A prompt is a script: steps separated by newlines or semicolons, such as
``say Hello; tool Read the file kind=read; permission! Write it; sleep 2``.
Text that is no step is echoed.  ``python -m trio_acp.testing.agent --steps``
lists every step, and so does `STEPS`; `WILD` has prompts that show the
misbehaviour of real agents after a cancel.

A ``session/cancel`` ends the turn at once with the stop reason `cancelled`,
unless a step said otherwise or a request to the client is unanswered: then as
soon as that is answered.
"""

from __future__ import annotations

import argparse
import math
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from trio_acp.testing._agent_connection import Received, SendsBytes
from trio_acp.testing._agent_methods import AUTH_METHODS, CONFIG, MODES
from trio_acp.testing._script import STEPS, WILD, ScriptError, Step, parse
from trio_acp.testing._scripted_agent import ScriptedAgent
from trio_acp.transports.stdio import stdio_server_transport

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AUTH_METHODS",
    "CONFIG",
    "MODES",
    "STEPS",
    "WILD",
    "Received",
    "ScriptError",
    "ScriptedAgent",
    "SendsBytes",
    "Step",
    "main",
    "parse",
]


def _seconds(text: str) -> float:
    seconds = float(text)
    if math.isnan(seconds) or seconds < 0:
        raise ValueError
    return seconds


_seconds.__name__ = "number of seconds"  # argparse names the type in its error message


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trio_acp.testing.agent",
        description="An ACP agent on standard input and output that does what its prompts say.",
    )
    flag, value = parser.add_argument, parser.add_argument
    flag("--steps", action="store_true", help="list the steps of a prompt, and how they are separated, and exit")
    help_ = "keep sessions here, for other processes to resume; without it each process forgets its own"
    value("--state-dir", type=Path, metavar="DIR", help=help_)
    flag("--auth", action="store_true", help="want to be authenticated before a session is opened")
    flag("--no-load", dest="load", action="store_false", help="do not offer session/load")
    flag("--no-resume", dest="resume", action="store_false", help="do not offer session/resume")
    flag("--no-close", dest="close", action="store_false", help="do not offer session/close")
    flag("--refuse-resume", action="store_true", help='offer session/resume, and answer "method not found"')
    flag("--config", action="store_true", help="offer configuration options, one of which is the mode")
    value("--protocol-version", type=int, default=1, metavar="N", help="answer this version (default: 1)")
    flag("--string-ids", action="store_true", help="number its own requests with strings")
    value("--initialize-delay", type=_seconds, default=0.0, metavar="S", help="answer initialize after S seconds")
    value("--new-session-delay", type=_seconds, default=0.0, metavar="S", help="answer session/new after S seconds")
    value("--id-prefix", metavar="TEXT", help="how the ids of sessions begin (default: another one in each process)")
    flag("--replay-after-load", action="store_true", help="replay the history after the answer of session/load")
    flag("--early-update", action="store_true", help="send an update before the answer of session/new")
    return parser


async def _serve(agent: ScriptedAgent) -> None:
    async with stdio_server_transport() as transport:
        await agent.serve(transport)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent on standard input and output; return its exit code.

    Raises:
        SystemExit: with 2, for options that cannot be.
    """
    parser = _parser()
    options = vars(parser.parse_args(argv))
    if options.pop("steps"):
        print("\n".join(f"{usage:75}  {meaning}" for usage, meaning in STEPS.items()))
        print("\nSteps are separated by ; or a newline.  Anything else is answered with: You said: ...")
        return 0
    if options["id_prefix"] is None:
        # As agents do: the ids of a process that has forgotten its sessions mean nothing in the next one.
        options["id_prefix"] = f"session-{secrets.token_hex(4)}"
    try:
        agent = ScriptedAgent(**options)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    trio.run(_serve, agent)
    return agent.exit_code or 0


if __name__ == "__main__":
    sys.exit(main())
