"""Which agent a command talks to: the options that say it, and the runtime that they mean."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from .._errors import InvalidOption
from ..acp.runtime import AcpRuntime
from ..transports._engines import ENGINES, require_engine
from ..transports._url import parse_url
from ._config import load_config
from ._named import find_agent
from ._options import header
from ._services import make_services
from ._spec import AgentSpec
from ._tls import client_context
from ._why import check_url

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from ..services import ClientServices
    from ..transports._engines import Engine

_HELP = """\
--agent NAME            one with a name: "trio-acp agents" lists them
--stdio "CMD ARG ..."   a program; words are split as a shell does it
--url URL               one behind ws://... or wss://...; also: --engine E,
                        --token-file FILE, --ca-file FILE, --header 'K: V' ...
--config FILE           names agents; [defaults] in it says which one is usual"""


@attrs.frozen(kw_only=True)
class Backend:
    """An agent, as a command's options name it.

    Attributes:
        shown: It in words, as the user wrote it, without what may be secret.
        command: The option that names the program, if the agent is one; begins messages.
        spec: All that is known about it.
        trust: Whose certificates are trusted for ``wss``; None for the system's own.
        make_runtime: Makes the runtime; called within a Trio run, for it belongs to one.
    """

    shown: str
    command: str | None
    spec: AgentSpec
    trust: ssl.SSLContext | None = attrs.field(default=None, repr=False)
    make_runtime: Callable[[], AcpRuntime]


def add_backend_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which agent, and how to reach it.  Without one, the configured default is meant."""
    # The help of each is in the description: one line for each of them would take up half of the screen.
    group = parser.add_argument_group("which agent", description=_HELP)
    agent = group.add_mutually_exclusive_group()
    agent.add_argument("--agent", metavar="NAME", help=argparse.SUPPRESS)
    agent.add_argument("--url", metavar="URL", help=argparse.SUPPRESS)
    agent.add_argument("--stdio", metavar='"CMD ARG ..."', help=argparse.SUPPRESS)
    option = group.add_argument
    option("--token-file", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    option("--header", type=header, action="append", default=[], metavar="'K: V'", help=argparse.SUPPRESS)
    option("--ca-file", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    option("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    option("--config", type=Path, metavar="FILE", help=argparse.SUPPRESS)


def find_backend(options: argparse.Namespace) -> Backend:
    """Return the agent that the options name; starts and connects nothing.

    Raises:
        InvalidOption: an option, or the configuration file, has a value that it cannot have.
        SystemExit: options do not go together.
    """
    require_url_for_its_options(options)
    if options.ca_file is not None and not (options.url or "").lower().startswith("wss:"):
        raise InvalidOption("--ca-file needs a --url that begins with wss://", detail="invalid-url")
    services = make_services(options)
    spec, option = _find_spec(options)
    if spec.url is not None:
        _require_secrecy(spec, option)
        trust = None if spec.ca_file is None else _trust(spec.ca_file, option)
        return Backend(
            shown=spec.shown,
            command=None,
            spec=spec,
            trust=trust,
            make_runtime=lambda: _websocket(spec, trust, services),
        )
    shown = options.stdio if options.stdio is not None else spec.shown
    return Backend(shown=shown, command=option, spec=spec, make_runtime=lambda: _stdio(spec, services))


def require_url_for_its_options(options: argparse.Namespace) -> None:
    """Refuse options that say something about a ``--url`` which is not there.

    Raises:
        SystemExit: there is one of them.
    """
    if options.url is None and (options.token_file is not None or options.header or options.engine):
        options.parser.error("--token-file, --header and --engine need --url")


def usual_backend(options: argparse.Namespace) -> Backend | None:
    """Return the agent that ``[defaults]`` of the configuration names; None if it names none.

    Raises:
        InvalidOption: the configuration file has a value that it cannot have.
    """
    return find_backend(options) if load_config(options.config).defaults.get("agent") else None


def _find_spec(options: argparse.Namespace) -> tuple[AgentSpec, str]:
    """Return the agent, and the option that names it with its value."""
    if options.url is not None:
        check_url(options.url)
        spec = AgentSpec(
            name=options.url.partition("?")[0],
            origin="--url",
            url=options.url,
            headers=tuple(options.header),
            token_file=options.token_file,
            ca_file=options.ca_file,
            engine=_engine(options.engine),
        )
        return spec, f"--url {spec.shown}"
    if options.stdio is not None:
        return _parse_stdio(options.stdio), f"--stdio {options.stdio!r}"
    config = load_config(options.config)
    if options.agent is not None:
        return find_agent(options.agent, config, option="--agent"), f"--agent {options.agent}"
    name: str = config.defaults.get("agent", "")
    if not name:
        options.parser.error(
            'say which agent: --agent NAME, --stdio "CMD ARG ..." or --url URL; '
            f"or name one under [defaults] in {config.path}"
        )
    return find_agent(name, config, option=f"{config.path}: defaults.agent"), f"--agent {name}"


def _engine(given: Engine | None) -> Engine:
    engine = given or "trio-websocket"
    try:
        require_engine(engine)
    except InvalidOption as error:
        raise InvalidOption(f"--engine: {error}", detail=error.detail) from None
    return engine


def _parse_stdio(command: str) -> AgentSpec:
    try:
        argv = tuple(shlex.split(command))
    except ValueError as error:
        raise InvalidOption(f"--stdio: {error}", detail="invalid-argv") from error
    if not argv:
        raise InvalidOption("--stdio: the command is empty", detail="invalid-argv")
    return AgentSpec(name=argv[0], origin="--stdio", argv=argv)


def _require_secrecy(spec: AgentSpec, option: str) -> None:
    address = parse_url(spec.url or "")
    secret = spec.token_file is not None or any(name.lower() == "authorization" for name, _ in spec.headers)
    if secret and not (address.secure or address.loopback):
        raise InvalidOption(
            f"{option}: a token is not sent to another machine unencrypted: use wss://", detail="insecure-token"
        )


def environment(spec: AgentSpec) -> dict[str, str] | None:
    """Return the whole environment of an agent's program; None for ours as it is."""
    return {**os.environ, **spec.env} if spec.env else None


def _websocket(spec: AgentSpec, trust: ssl.SSLContext | None, services: ClientServices | None) -> AcpRuntime:
    assert spec.url is not None
    return AcpRuntime.websocket(
        spec.url,
        headers=spec.headers,
        token_file=spec.token_file,
        ssl_context=trust,
        auth_method=spec.auth_method,
        services=services,
        engine=spec.engine,
    )


def _stdio(spec: AgentSpec, services: ClientServices | None) -> AcpRuntime:
    assert spec.argv is not None
    return AcpRuntime.stdio(
        spec.argv, cwd=spec.cwd, env=environment(spec), auth_method=spec.auth_method, services=services
    )


def _trust(ca_file: Path, option: str) -> ssl.SSLContext:
    try:
        return client_context(ca_file)
    except InvalidOption as error:
        if option.startswith("--url"):
            raise
        # The file is named in the configuration.
        raise InvalidOption(f"{option}: {str(error).replace('--ca-file', 'ca_file', 1)}", detail=error.detail) from None
