"""``trio-acp agents``: which agents have a name, and whether they are installed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._config import load_config
from ._exits import OK
from ._named import named_agents
from ._options import Commands, add_command
from ._registry import import_registry, registry_file
from ._text import one_line

if TYPE_CHECKING:
    import argparse

    from ._spec import AgentSpec

_DESCRIPTION = """\
List the agents that --agent knows by name, and whether they are installed:
those of the configuration file, built-in ones, and those of a registry.

"import" checks a copy of the ACP registry's JSON file, which you have got from
https://github.com/agentclientprotocol/registry, and keeps it.  Nothing is
downloaded or started by this command.
"""
_EXAMPLES = """\
examples:
  trio-acp agents
  trio-acp agents import registry.json
"""


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = add_command(
        commands,
        "agents",
        agents,
        usage="trio-acp agents [list | import FILE] [options]",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    option = parser.add_argument
    option("action", nargs="?", choices=("list", "import"), default="list", help="list (default) or import")
    option("file", nargs="?", type=Path, metavar="FILE", help="the registry to import")
    option("--config", type=Path, metavar="FILE", help="instead of the usual configuration file")
    option("--format", choices=("text", "json"), default="text", help="a table (default), or JSON")


def agents(options: argparse.Namespace) -> int:
    """Run the command; return its exit code.

    Raises:
        InvalidOption: the configuration file or the registry is broken.
        OSError: the registry cannot be kept.
    """
    if (options.action == "import") != (options.file is not None):
        options.parser.error("import needs a FILE, and list takes none")
    if options.action == "import":
        return _import(options.file, as_json=options.format == "json")
    config = load_config(options.config)
    default = config.defaults.get("agent")
    # What can be used comes first.
    specs = sorted(named_agents(config).values(), key=lambda spec: (is_installed(spec) is False, spec.name))
    if options.format == "json":
        print(json.dumps([_row(spec, default) for spec in specs]), flush=True)
    else:
        _show_table(specs, default)
    return OK


def _import(file: Path, *, as_json: bool) -> int:
    specs = import_registry(file).values()
    archives = sum(spec.archive is not None for spec in specs)
    told = {"path": str(registry_file()), "agents": len(specs), "archives": archives}
    if as_json:
        print(json.dumps(told), flush=True)
    else:
        only = f", {archives} of them only as archives, which are not run" if archives else ""
        print(
            f"kept {len(specs)} agents{only}, in {one_line(str(registry_file()), 1000)}; nothing was downloaded",
            flush=True,
        )
    return OK


def _row(spec: AgentSpec, default: str | None) -> dict[str, Any]:
    return {
        "name": spec.name,
        "command": None if spec.argv is None else list(spec.argv),
        "url": None if spec.url is None else spec.shown,
        "archive": spec.archive,
        "installed": is_installed(spec),
        "from": spec.origin,
        "hint": spec.hint,
        "default": spec.name == default,
    }


def is_installed(spec: AgentSpec) -> bool | None:
    """Whether an agent's program is there; None for an address, which only ``doctor`` can try."""
    if spec.url is not None:
        return None
    if spec.argv is None:
        return False
    path = spec.env.get("PATH", os.environ.get("PATH"))
    return shutil.which(spec.argv[0], path=path) is not None


def _show_table(specs: list[AgentSpec], default: str | None) -> None:
    table = [("NAME", "INSTALLED", "FROM", "COMMAND")]
    for spec in specs:
        name = f"{spec.name} *" if spec.name == default else spec.name
        table.append((name, _shown_state(spec), spec.origin, one_line(spec.shown)))
    wide, wider, widest, _ = (max(map(len, column)) for column in zip(*table, strict=True))
    for name, state, origin, command in table:
        print(f"{name:{wide}}  {state:{wider}}  {origin:{widest}}  {command}")
    if any(spec.name == default for spec in specs):
        print("* is used where no option names an agent")
    print('"trio-acp doctor --agent NAME" tries one, and tells how to get it', flush=True)


def _shown_state(spec: AgentSpec) -> str:
    installed = is_installed(spec)
    if installed is None:
        return "-"
    if spec.origin == "registry" and spec.argv is not None and installed:
        return f"by {spec.argv[0]}"  # which may download it when it is run
    return "yes" if installed else "no"
