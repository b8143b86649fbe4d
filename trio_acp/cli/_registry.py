"""The registry of ACP agents as a local file: what of it can be used, and how.

https://github.com/agentclientprotocol/registry publishes one JSON file of
agents.  A copy of it that a person has got is checked and kept; nothing is
ever downloaded here.  What is distributed over npm or PyPI is run by ``npx``
or ``uvx``, which may download it then; archives of programs have no checksum
there and are only listed.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from .._errors import InvalidOption
from ._config import config_dir
from ._spec import AgentSpec

if TYPE_CHECKING:
    from pathlib import Path

_LARGEST: Final = 16 * 2**20
_ID: Final = re.compile(r"[a-z][a-z0-9-]*")
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]*")
_PACKAGE: Final = re.compile(r"[@A-Za-z0-9][!-~]*")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNFIT: Final = re.compile("[\0\ud800-\udfff]")
"""What no program can be given: JSON has ways to write halves of surrogate pairs."""
_KINDS: Final = {bool: "true or false", str: "a string", int: "a number", float: "a number", list: "an array"}
_RUNNERS: Final = {"npx": ("npx", "--yes"), "uvx": ("uvx",)}


def registry_file() -> Path:
    """Return where the imported registry is kept."""
    return config_dir() / "registry.json"


def load_registry() -> dict[str, AgentSpec]:
    """Return the agents of the imported registry; none if there is none.

    Raises:
        InvalidOption: the file was changed meanwhile, or cannot be read.
    """
    path = registry_file()
    return parse_registry(_read(path), str(path)) if path.exists() else {}


def import_registry(file: Path) -> dict[str, AgentSpec]:
    """Check a registry and keep it instead of the one before, readable for its owner only; return its agents.

    Raises:
        InvalidOption: it is not what it should be, with the path to the first thing that is wrong.
        OSError: it cannot be kept.
    """
    data = _read(file)
    agents = parse_registry(data, str(file))
    target = registry_file()
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix="registry-")  # has mode 0600
    try:
        with os.fdopen(handle, "wb") as temporary:
            temporary.write(data)
            temporary.flush()
            os.fsync(temporary.fileno())
        os.replace(name, target)  # noqa: PTH105 - one step, whatever is there
    except BaseException:
        with suppress(OSError):
            os.unlink(name)  # noqa: PTH108 - its name is a string
        raise
    return agents


def parse_registry(data: bytes, where: str) -> dict[str, AgentSpec]:
    """Return the agents by id; members that are not known are left to later versions of the format.

    Raises:
        InvalidOption: as for `import_registry`.
    """
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidOption(f"{where}: it is not JSON: {error}", detail="invalid-registry") from None
    reader = _Reader(where)
    agents: dict[str, AgentSpec] = {}
    entries = reader.member(reader.table(whole, "$"), "agents", list, "$")
    for number, entry in enumerate(entries):
        at = f"$.agents[{number}]"
        spec = _read_agent(reader, reader.table(entry, at), at)
        if spec.name in agents:
            raise reader.wrong(f"{at}.id", f"there are two agents {spec.name}")
        agents[spec.name] = spec
    if not agents:
        raise reader.wrong("$.agents", "there is no agent in it")
    return agents


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise InvalidOption(f"{path}: cannot read it: {error.strerror}", detail="invalid-registry") from None
    if len(data) > _LARGEST:
        raise InvalidOption(f"{path}: larger than 16 MiB is no registry", detail="invalid-registry")
    return data


class _Reader:
    """Takes JSON apart, and says with its path what is wrong."""

    def __init__(self, where: str) -> None:
        self._where = where

    def wrong(self, at: str, what: str) -> InvalidOption:
        return InvalidOption(f"{self._where}: {at}: {what}", detail="invalid-registry")

    def table(self, value: Any, at: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.wrong(at, f"it must be an object, not {_kind(value)}")
        return value

    def member(self, table: dict[str, Any], key: str, kind: type, at: str) -> Any:
        if key not in table:
            raise self.wrong(f"{at}.{key}", "it is missing")
        if not isinstance(table[key], kind):
            raise self.wrong(f"{at}.{key}", f"it must be {_KINDS[kind]}, not {_kind(table[key])}")
        return table[key]

    def text(self, table: dict[str, Any], key: str, form: re.Pattern[str], at: str) -> str:
        value: str = self.member(table, key, str, at)
        if not form.fullmatch(value):
            raise self.wrong(f"{at}.{key}", f"{value!r} does not have the form of one")
        return value

    def texts(self, values: Any, at: str) -> tuple[str, ...]:
        if not isinstance(values, list):
            raise self.wrong(at, f"it must be an array, not {_kind(values)}")
        for number, value in enumerate(values):
            if not isinstance(value, str):
                raise self.wrong(f"{at}[{number}]", f"it must be a string, not {_kind(value)}")
            if _UNFIT.search(value):
                raise self.wrong(f"{at}[{number}]", "there is a character in it that no program can be given")
        return tuple(values)

    def env(self, value: Any, at: str) -> dict[str, str]:
        for name, text in self.table(value, at).items():
            if not _VARIABLE.fullmatch(name) or not isinstance(text, str) or _UNFIT.search(text):
                raise self.wrong(f"{at}.{name}", "it must be an environment variable with a string")
        return dict(value)


def _read_agent(reader: _Reader, entry: dict[str, Any], at: str) -> AgentSpec:
    name = reader.text(entry, "id", _ID, at)
    version = reader.text(entry, "version", _VERSION, at)
    at = f"{at}.distribution"
    ways = reader.table(entry.get("distribution"), at)
    for kind, runner in _RUNNERS.items():
        if kind in ways:
            at = f"{at}.{kind}"
            way = reader.table(ways[kind], at)
            package = _pinned(kind, reader.text(way, "package", _PACKAGE, at), version)
            args = reader.texts(way.get("args", []), f"{at}.args")
            env = reader.env(way.get("env", {}), f"{at}.env")
            return AgentSpec(name=name, origin="registry", argv=(*runner, package, *args), env=env)
    if "binary" not in ways:
        raise reader.wrong(at, "it has neither npx nor uvx nor binary")
    at = f"{at}.binary"
    targets = reader.table(ways["binary"], at)
    archives = [
        reader.member(reader.table(target, f"{at}.{system}"), "archive", str, f"{at}.{system}")
        for system, target in targets.items()
    ]
    if not archives:
        raise reader.wrong(at, "it is empty")
    own = f"{os.uname().sysname.lower()}-{os.uname().machine.replace('arm64', 'aarch64')}"
    mine = targets.get(own, {}).get("archive") or archives[0]
    return AgentSpec(name=name, origin="registry", archive=mine)


def _pinned(kind: str, package: str, version: str) -> str:
    """Return a package with a version, so that what runs tomorrow is what ran today."""
    has_version = "@" in package[1:] or (kind == "uvx" and "==" in package)
    return package if has_version else f"{package}@{version}"


def _kind(value: object) -> str:
    return "null" if value is None else _KINDS.get(type(value), "an object")
