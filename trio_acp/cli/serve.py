"""``trio-acp serve``: any agent that speaks over pipes, behind a WebSocket endpoint on this machine."""

from __future__ import annotations

import argparse
import functools
import ipaddress
import logging
import shutil

import trio

from .._errors import BackendUnavailable
from .._service import ServiceScope
from ..transports.stdio import dial_stdio
from ._accept import PATH, Doorkeeper
from ._logging import log_to_stderr
from ._options import Commands, add_command, origin, tcp_port
from ._output import Output
from ._signals import run

_DESCRIPTION = """\
Put an agent that speaks ACP over its standard input and output behind a
WebSocket endpoint, ws://127.0.0.1:N/acp.  Each connection gets an agent
process of its own, which ends with the connection.

The one line on standard output is the URL; it is printed when clients can
connect.  Ctrl-C stops the server and every agent.
"""
_EXAMPLES = """\
examples:
  trio-acp serve --port 8137 -- gemini --acp
  trio-acp serve --port 0 -- .venv/bin/python -m trio_acp.testing.agent
  trio-acp prompt "What is in this directory?" --url ws://127.0.0.1:8137/acp

security:
  Whoever can connect can use the agent with your rights.  So only this
  machine can: other addresses are refused.  Web pages are turned away by
  their Origin header, unless --allow-origin names it.
"""


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = add_command(
        commands,
        "serve",
        serve,
        summary="put an agent behind a WebSocket on this machine",
        usage="trio-acp serve --port N [options] -- CMD [ARG ...]",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    option = parser.add_argument
    option("argv", nargs="+", metavar="CMD", help="the agent and its arguments, after --; no shell is involved")
    option("--port", type=tcp_port, required=True, metavar="N", help="the TCP port; 0 picks a free one")
    option("--host", type=_loopback, default="127.0.0.1", metavar="IP", help="127.0.0.1 (the default) or ::1")
    option(
        "--allow-origin",
        action="append",
        default=[],
        type=origin,
        metavar="ORIGIN",
        help="let web pages from here connect, such as https://example.org; may be repeated",
    )
    option("-v", "--verbose", action="store_true", help="tell on standard error how each connection ended")


def serve(options: argparse.Namespace) -> int:
    """Run the command until a signal comes; return its exit code.

    Raises:
        BackendUnavailable: there is no such program, or the port cannot be had.
    """
    log_to_stderr(logging.INFO if options.verbose else logging.WARNING)
    if shutil.which(options.argv[0]) is None:
        raise BackendUnavailable(f"there is no program {options.argv[0]!r}", detail="no-such-program")
    doorkeeper = Doorkeeper(dial=dial_stdio(options.argv), allowed_origins=frozenset(options.allow_origin))
    return run(functools.partial(_serve, doorkeeper, options.host, options.port))


async def _serve(doorkeeper: Doorkeeper, host: str, port: int) -> int:
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise BackendUnavailable(f"cannot listen on {host} port {port}: {error.strerror}", detail="port") from error
    # Clients are told to go once this has ended; they have their own deadlines for it.
    async with ServiceScope("serve") as nursery:
        nursery.start_soon(trio.serve_listeners, doorkeeper.serve, listeners)
        actual = listeners[0].socket.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        await Output.stdout().write(f"ws://{shown}:{actual}{PATH}\n")
        await trio.sleep_forever()
    raise AssertionError("a server ends by being cancelled")


def _loopback(text: str) -> str:
    host = "127.0.0.1" if text == "localhost" else text
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"only addresses of this machine's loopback can be served, not {text!r}")
