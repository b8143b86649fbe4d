"""Who is measured, in which environment, by which command."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import trio_acp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .peers import Peers
    from .sizes import Sizes

HERE: Final = Path(__file__).parent
OURS: Final = "trio_acp"
SDK: Final = "Python SDK"
TYPESCRIPT: Final = "TypeScript SDK"
RAW: Final = "raw trio-websocket"
FLOOR: Final = "Trio alone"

USE: Final = "from trio_acp import AcpRuntime, open_session_manager; AcpRuntime.websocket('ws://127.0.0.1:9/')"
"""What of us is imported once a client over WebSocket begins."""

Table: TypeAlias = Literal["In memory", "Over WebSocket", "Start"]


@dataclass(frozen=True)
class Side:
    """One command, and whose it is.

    Attributes:
        name: The column.
        table: Where.
        before: The command up to the sizes.
        after: What it says after them.
        wire: Whether the agent's address comes directly after the sizes.
    """

    name: str
    table: Table
    before: tuple[str, ...]
    after: tuple[str, ...] = ()
    wire: bool = False

    def command(self, sizes: str, address: str) -> list[str]:
        """Return the whole command."""
        return [*self.before, sizes, *([address] if self.wire else []), *self.after]


def engine_name(engine: str) -> str:
    """Return the column of an engine of trio_acp."""
    return f"{OURS} ({engine})"


DEFAULT: Final = engine_name("trio-websocket")
FAST: Final = engine_name("websockets")


def engines() -> tuple[str, ...]:
    """Return the engines that this trio_acp has here; empty if it knows of one only."""
    if "engine" not in inspect.signature(trio_acp.AcpRuntime.websocket).parameters:
        return ()
    return ("trio-websocket", *(["websockets"] if find_spec("websockets") else []))


def _module(python: str, name: str) -> tuple[str, ...]:
    return (python, "-m", f"benchmarks.{name}")


def _wire(name: str, before: tuple[str, ...], sizes: Sizes, *after: str, stall: bool = True) -> Iterator[Side]:
    yield Side(name, "Over WebSocket", before, ("all", *after), wire=True)
    if stall and sizes.flood:
        yield Side(name, "Over WebSocket", before, ("stall", *after), wire=True)


def sides(peers: Peers, sizes: Sizes) -> list[Side]:
    """Return all sides that are there, in the order in which they take turns: the same work side by side."""
    memory, wire = _module(sys.executable, "memory.ours"), _module(sys.executable, "wire.ours")
    found = [Side(OURS, "In memory", memory), Side(FLOOR, "In memory", _module(sys.executable, "memory.floor"))]
    node = peers.node or ""
    for version, directory in peers.openclaw.items():
        openclaw = (node, "--expose-gc", str(HERE / "memory" / "openclaw.mjs"))
        found.append(Side(f"OpenClaw {version}", "In memory", openclaw, (str(directory),)))
    found += [Side(f"{OURS} + {variant}", "In memory", memory, (variant,)) for variant in ("sqlite", "instrument")]
    for engine in engines() or ("",):
        after = [engine] if engine else []
        found += _wire(engine_name(engine or "trio-websocket"), wire, sizes, *after)
    if peers.sdk_python:
        found += _wire(SDK, _module(peers.sdk_python, "wire.sdk"), sizes)
    if peers.typescript:
        script = (node, str(HERE / "wire" / "typescript.mjs"))
        found += _wire(TYPESCRIPT, script, sizes, str(peers.typescript))
    found += _wire(RAW, _module(sys.executable, "wire.raw"), sizes, stall=False)
    if find_spec("websockets") and find_spec("msgspec"):
        found += _wire(FLOOR, _module(sys.executable, "wire.floor"), sizes, stall=False)
    start = _module(sys.executable, "startup")
    found.append(Side(OURS, "Start", start, ("import trio_acp", USE)))
    found.append(Side("trio", "Start", start, ("import trio", "pass")))
    if peers.sdk_python:
        found.append(Side(SDK, "Start", _module(peers.sdk_python, "startup"), ("import acp", "import acp.ws")))
    for version, python in peers.pythons.items() if sizes.elsewhere else ():
        name = f"{OURS}, Python {version}"
        found.append(Side(name, "In memory", _module(python, "memory.ours"), ("turns",)))
        found.append(Side(name, "Over WebSocket", _module(python, "wire.ours"), ("alone",), wire=True))
    return found
