"""The configuration file: named agents, and what holds where an option is not given.

::

    [defaults]
    agent = "local"
    timeout = 300

    [agents.local]
    url = "ws://127.0.0.1:8137/acp"
    token_file = "token"            # relative to this file

    [agents.mine]
    stdio = ["gemini", "--acp"]     # or one string, split as a shell does it
    env = { GEMINI_MODEL = "pro" }

No secret has a place in it: a token is named by its file, and the environment
is inherited.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
import platformdirs

from .._errors import InvalidOption
from ..transports._engines import require_engine
from ..transports._request import encode_headers
from ..transports._url import parse_url
from ._spec import AgentSpec
from ._toml import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..transports._engines import Engine

PERMISSIONS: Final = ("ask", "deny", "approve-reads", "approve-all")
_LARGEST: Final = 2**20
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_VARIABLE: Final = re.compile(r".*(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)", re.I)
_SECRET_HEADERS: Final = {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"}
_DEFAULTS: Final = ("agent", "permissions", "timeout", "store", "record")
_FOR_URL: Final = ("headers", "token_file", "ca_file", "engine")
_FOR_STDIO: Final = ("env", "cwd")


@attrs.frozen(kw_only=True)
class Config:
    """What the file says.

    Attributes:
        path: The file, which need not exist.
        agents: By name.
        defaults: Values for options of the same names, and ``agent``.
    """

    path: Path
    agents: Mapping[str, AgentSpec] = attrs.field(factory=dict)
    defaults: Mapping[str, Any] = attrs.field(factory=dict)


def config_dir() -> Path:
    """Return the directory for configuration: ``TRIO_ACP_HOME``, or the user's own."""
    home = os.environ.get("TRIO_ACP_HOME")
    return Path(home) if home else platformdirs.user_config_path("trio-acp")


def load_config(given: Path | None) -> Config:
    """Read the file that was given, or the one of ``TRIO_ACP_CONFIG``, or the usual one if there is one.

    Raises:
        InvalidOption: it is not what it should be; the message has the file and the key.
    """
    named = os.environ.get("TRIO_ACP_CONFIG")
    path = given or Path(named or config_dir() / "config.toml")
    option = "--config " if given else "TRIO_ACP_CONFIG " if named else ""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_LARGEST + 1)
    except FileNotFoundError:
        if option:
            raise _unusable(f"{option}{path}: there is no such file") from None
        return Config(path=path)
    except OSError as error:
        raise _unusable(f"{option}{path}: cannot read it: {error.strerror}") from None
    if stat.S_ISREG(mode) and mode & stat.S_IWOTH:
        raise _unusable(f"{path}: everybody on this machine may change it, and so what is run: chmod o-w it")
    if len(data) > _LARGEST:
        raise _unusable(f"{path}: larger than 1 MiB is no configuration file")
    try:
        return _read(Table(path, "", tomllib.loads(data.decode())))
    except UnicodeDecodeError as error:
        raise _unusable(f"{path}: byte {error.start} is not UTF-8") from None
    except (ValueError, RecursionError) as error:  # also numbers and tables that Python finds too long or too deep
        raise _unusable(f"{path}: it is not TOML: {error}") from None


def _unusable(words: str) -> InvalidOption:
    return InvalidOption(words, detail="invalid-config")


def _read(file: Table) -> Config:
    file.only(("agents", "defaults"))
    agents = file.table("agents")
    found = {}
    for name in agents.values:
        if not _NAME.fullmatch(name):
            raise agents.wrong(name, "a name consists of letters, digits, '.', '_' and '-'")
        found[name] = _read_agent(name, agents.table(name))
    table = file.table("defaults")
    table.only(_DEFAULTS)
    defaults = {
        "agent": table.text("agent"),
        "permissions": _permissions(table),
        "timeout": table.seconds("timeout"),
        "store": table.path("store"),
        "record": table.flag("record"),
    }
    return Config(
        path=file.file, agents=found, defaults={key: value for key, value in defaults.items() if value is not None}
    )


def _read_agent(name: str, table: Table) -> AgentSpec:
    table.only(("stdio", "url", "auth_method", *_FOR_URL, *_FOR_STDIO))
    if ("stdio" in table.values) == ("url" in table.values):
        raise InvalidOption(f"{table.file}: {table.at}: it needs either stdio or url", detail="invalid-config")
    for key in _FOR_STDIO if "url" in table.values else _FOR_URL:
        if key in table.values:
            raise table.wrong(key, f"it needs {'stdio' if key in _FOR_STDIO else 'url'}")
    cwd = table.path("cwd")
    return AgentSpec(
        name=name,
        origin="config",
        argv=_argv(table) if "stdio" in table.values else None,
        url=_url(table),
        headers=_headers(table),
        token_file=table.path("token_file"),
        ca_file=table.path("ca_file"),
        engine=_engine(table),
        env=_env(table),
        cwd=None if cwd is None else str(cwd),
        auth_method=table.text("auth_method"),
    )


def _permissions(table: Table) -> str | None:
    value = table.text("permissions")
    if value is None or value in PERMISSIONS:
        return value
    if not value.endswith(".toml"):
        raise table.wrong("permissions", f"it must be {', '.join(PERMISSIONS)} or a file FILE.toml")
    return str(table.path("permissions"))


def _argv(table: Table) -> tuple[str, ...]:
    if isinstance(table.values["stdio"], list):
        argv = table.words("stdio")
    else:
        try:
            argv = tuple(shlex.split(table.text("stdio") or ""))
        except ValueError as error:
            raise table.wrong("stdio", str(error)) from None
    if not argv or not argv[0]:
        raise table.wrong("stdio", "the command is empty")
    return argv


def _url(table: Table) -> str | None:
    url = table.text("url")
    if url is not None:
        try:
            secure = parse_url(url).secure
        except InvalidOption as error:
            raise table.wrong("url", str(error)) from None
        if "ca_file" in table.values and not secure:
            raise table.wrong("ca_file", "it needs a url that begins with wss://")
    return url


def _engine(table: Table) -> Engine:
    engine = cast("Engine", table.text("engine") or "trio-websocket")
    try:
        require_engine(engine)
    except InvalidOption as error:
        raise table.wrong("engine", str(error)) from None
    return engine


def _headers(table: Table) -> tuple[tuple[str, str], ...]:
    headers = tuple(table.texts("headers").items())
    for name, _ in headers:
        if name.lower() in _SECRET_HEADERS:
            raise table.table("headers").wrong(name, "a secret does not belong into this file; use token_file")
    try:
        encode_headers(headers)
    except InvalidOption as error:
        raise table.wrong("headers", str(error)) from None
    return headers


def _env(table: Table) -> dict[str, str]:
    env = table.texts("env")
    for name in env:
        if not _VARIABLE.fullmatch(name):
            raise table.table("env").wrong(name, "that is no name of an environment variable")
        if _SECRET_VARIABLE.fullmatch(name):
            what = "a secret does not belong into this file; set it in your environment, which the agent inherits"
            raise table.table("env").wrong(name, what)
    return env
