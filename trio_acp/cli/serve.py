"""``trio-acp serve``: any agent that speaks over pipes, behind a WebSocket endpoint."""

from __future__ import annotations

import argparse
import errno
import functools
import ipaddress
import logging
import shutil
from pathlib import Path

import trio

from .._errors import BackendUnavailable, InvalidOption
from .._service import ServiceScope
from ..transports.stdio import dial_stdio
from ._accept import MAX_CLIENTS, PATH, Doorkeeper
from ._bearer import read_token_file
from ._exposure import check_exposure
from ._logging import log_to_stderr
from ._options import Commands, add_command, origin, tcp_port
from ._output import Output, complain
from ._signals import run
from ._tls import server_context

_DESCRIPTION = """\
Put an agent that speaks ACP over its pipes behind a WebSocket; print its URL.
Each connection gets an agent process of its own.  Ctrl-C stops them all.
An address that other machines can reach needs TLS and a token.
"""
_EXAMPLES = """\
examples:
  trio-acp serve --port 8137 -- .venv/bin/python -m trio_acp.testing.agent
  (umask 077; openssl rand -hex 32 > token)      # makes one for --token-file
"""


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = add_command(
        commands,
        "serve",
        serve,
        usage="trio-acp serve --port N [options] -- CMD [ARG ...]",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    option = parser.add_argument
    option("argv", nargs="+", metavar="CMD", help=argparse.SUPPRESS)  # the usage shows where it goes
    option("--port", type=tcp_port, required=True, metavar="N", help="the TCP port; 0 picks a free one")
    option("--host", type=_address, default="127.0.0.1", metavar="IP", help="where to listen (default: %(default)s)")
    option("--token-file", type=Path, metavar="FILE", help="clients need this token, of 32 bytes or more")
    option("--tls-cert", type=Path, metavar="FILE", help="speak TLS (wss://): certificate chain, PEM")
    option("--tls-key", type=Path, metavar="FILE", help="its private key, PEM")
    option(
        "--allow-origin",
        action="append",
        default=[],
        type=origin,
        metavar="URL",
        help="let web pages from here in; may be repeated",
    )
    option(
        "--max-clients",
        type=_count,
        default=MAX_CLIENTS,
        metavar="N",
        help="at once; others get 503 (default: %(default)s)",
    )
    option("--insecure-no-token", action="store_true", help="whoever can connect may use the agent")
    option("--insecure-no-tls", action="store_true", help="other machines may connect unencrypted")
    option("-v", "--verbose", action="store_true", help="tell how each connection ended")


def serve(options: argparse.Namespace) -> int:
    """Run the command until a signal comes; return its exit code.

    Raises:
        BackendUnavailable: there is no such program, or the port cannot be had.
        InvalidOption: a file cannot be used, or the address needs more safety than the options give it.
    """
    log_to_stderr(logging.INFO if options.verbose else logging.WARNING)
    if (options.tls_cert is None) != (options.tls_key is None):
        raise InvalidOption("--tls-cert and --tls-key go together: give both, or none")
    warnings = check_exposure(
        options.host,
        tls=options.tls_cert is not None,
        token=options.token_file is not None,
        insecure_no_tls=options.insecure_no_tls,
        insecure_no_token=options.insecure_no_token,
    )
    doorkeeper = Doorkeeper(
        dial=dial_stdio(options.argv),
        allowed_origins=frozenset(options.allow_origin),
        token=None if options.token_file is None else read_token_file(options.token_file),
        tls=None if options.tls_cert is None else server_context(options.tls_cert, options.tls_key),
        max_clients=options.max_clients,
    )
    if shutil.which(options.argv[0]) is None:
        raise BackendUnavailable(f"there is no program {options.argv[0]!r}", detail="no-such-program")
    for warning in warnings:
        complain(f"warning: {warning}")
    return run(functools.partial(_serve, doorkeeper, options.host, options.port))


async def _serve(doorkeeper: Doorkeeper, host: str, port: int) -> int:
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        words = f"cannot listen on {host} port {port}: {error.strerror}"
        if error.errno == errno.EADDRINUSE:
            words += "; another program listens there: stop it, or choose another --port"
        raise BackendUnavailable(words, detail="port") from error
    # Clients are told to go once this has ended; they have their own deadlines for it.
    async with ServiceScope("serve") as nursery:
        nursery.start_soon(trio.serve_listeners, doorkeeper.serve, listeners)
        actual = listeners[0].socket.getsockname()[1]
        scheme = "ws" if doorkeeper.tls is None else "wss"
        shown = f"[{host}]" if ":" in host else host
        await Output.stdout().write(f"{scheme}://{shown}:{actual}{PATH}\n")
        await trio.sleep_forever()
    raise AssertionError("a server ends by being cancelled")


def _address(text: str) -> str:
    host = "127.0.0.1" if text == "localhost" else text
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not an IP address: {text!r}") from None
    return host


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 10_000):
        raise argparse.ArgumentTypeError(f"not a number of clients, 1 to 10000: {text!r}")
    return int(text)
