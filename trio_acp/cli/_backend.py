"""Which agent a command talks to: the options that say it, and the runtime that they mean."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from .._errors import InvalidOption
from ..acp.runtime import AcpRuntime
from ._options import header
from ._services import make_services
from ._tls import client_context
from ._why import check_url

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


@attrs.frozen(kw_only=True)
class Backend:
    """An agent, as a command's options name it.

    Attributes:
        shown: It in words, as the user wrote it, without what may be secret.
        command: The value of ``--stdio``, if that is the agent.
        make_runtime: Makes the runtime; called within a Trio run, for it belongs to one.
    """

    shown: str
    command: str | None
    make_runtime: Callable[[], AcpRuntime]


def add_backend_options(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the options that say which agent, and how to reach it."""
    group = parser.add_argument_group("which agent")
    agent = group.add_mutually_exclusive_group(required=required)
    agent.add_argument("--url", metavar="URL", help="one behind a WebSocket: ws://... or wss://...")
    agent.add_argument("--stdio", metavar='"CMD ARG ..."', help="a program; words are split as a shell does it")
    option = group.add_argument
    option("--token-file", type=Path, metavar="FILE", help="a file with a bearer token; only with --url")
    option(
        "--header",
        type=header,
        action="append",
        default=[],
        metavar="'K: V'",
        help="a request header; only with --url; may be repeated",
    )
    option("--ca-file", type=Path, metavar="FILE", help="trust these certificates, PEM; only with --url wss://...")


def find_backend(options: argparse.Namespace) -> Backend:
    """Return the agent that the options name; starts and connects nothing.

    Raises:
        InvalidOption: an option has a value that it cannot have.
        SystemExit: options do not go together.
    """
    if options.url is None and (options.token_file is not None or options.header):
        options.parser.error("--token-file and --header need --url")
    if options.ca_file is not None and not (options.url or "").lower().startswith("wss:"):
        raise InvalidOption("--ca-file needs a --url that begins with wss://", detail="invalid-url")
    services = make_services(options)
    if options.url is not None:
        check_url(options.url)
        url, headers, token_file = options.url, options.header, options.token_file
        trust = None if options.ca_file is None else client_context(options.ca_file)
        return Backend(
            shown=url.partition("?")[0],
            command=None,
            make_runtime=lambda: AcpRuntime.websocket(
                url, headers=headers, token_file=token_file, ssl_context=trust, services=services
            ),
        )
    try:
        argv: list[str] = shlex.split(options.stdio)
    except ValueError as error:
        raise InvalidOption(f"--stdio: {error}", detail="invalid-argv") from error
    if not argv:
        raise InvalidOption("--stdio: the command is empty", detail="invalid-argv")
    return Backend(
        shown=options.stdio, command=options.stdio, make_runtime=lambda: AcpRuntime.stdio(argv, services=services)
    )
