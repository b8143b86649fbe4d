"""Peers nobody here wrote: how they are installed, started and ended.

Everything is installed once into a cache directory, ``tests/interop/.cache``
or what ``TRIO_ACP_INTEROP_CACHE`` names, away from the environment of the
tests.  The versions are fixed: a new one is a change of this file.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tarfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import TYPE_CHECKING

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

PYTHON_SDK = "0.12.1"
PYTHON_PACKAGES = [f"agent-client-protocol[http]=={PYTHON_SDK}", "uvicorn==0.54.0"]
TYPESCRIPT_PACKAGES = ["@agentclientprotocol/sdk@2.4.0", "ws@8.23.0", "zod@4.6.7"]

INSTALL_LIMIT = 240.0
"""Seconds for one installation step; a registry that takes longer counts as unreachable."""

START_LIMIT = 30.0
"""Seconds for a server to say where it listens."""

END_LIMIT = 15.0
"""Seconds for a server to end, by force if it does not within a third of them."""

TEST_LIMIT = 30.0
"""Seconds for everything else that one test does."""

PYTEST_TIMEOUT = 4 * INSTALL_LIMIT
"""Seconds for the first test, which installs; the tests have closer limits of their own."""

_AGENTS = Path(__file__).with_name("agents")
_CACHE = Path(os.environ.get("TRIO_ACP_INTEROP_CACHE") or Path(__file__).with_name(".cache"))

# What pip and npm say when the network, not the request, is at fault.
_UNREACHABLE = re.compile(
    r"connection broken by|Connection error|ProxyError|Read timed out|HTTP error 50[234]"
    r"|EAI_AGAIN|ECONNREFUSED|ECONNRESET|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|ETIMEDOUT|ERR_SOCKET_TIMEOUT|E50[234]"
)


class Unavailable(Exception):
    """The peer cannot be had on this machine, now; the message says which and why."""


@attrs.frozen
class PythonSdk:
    """The Python SDK in an environment of its own, and the examples of its source distribution."""

    python: Path
    examples: Path

    @property
    def example_agent(self) -> list[str]:
        """Return the command of the SDK's own example agent, over stdio."""
        return [str(self.python), str(self.examples / "agent.py")]

    @property
    def websocket_agent(self) -> list[str]:
        """Return the command of our agent on the SDK's WebSocket server."""
        return [str(self.python), str(_AGENTS / "python_ws_agent.py")]

    def stdio_agent(self, sessions: Path) -> list[str]:
        """Return the command of our agent over stdio; it keeps its sessions in a file."""
        return [*self.websocket_agent, "--stdio", "--sessions", str(sessions)]


@attrs.frozen
class TypeScriptSdk:
    """The TypeScript SDK; Node finds its packages only next to the scripts, so these lie there too."""

    node: str
    directory: Path

    @property
    def websocket_agent(self) -> list[str]:
        """Return the command of our agent on the SDK's WebSocket server."""
        return [self.node, str(self.directory / "ts_ws_agent.mjs")]

    def websocket_client(self, url: str, cwd: Path) -> list[str]:
        """Return the command of our user of the SDK's WebSocket client."""
        return [self.node, str(self.directory / "ts_ws_client.mjs"), url, str(cwd)]


async def install_python() -> PythonSdk:
    """Install the Python SDK unless it is there already.

    Raises:
        Unavailable: the registry cannot be reached.
    """
    await trio.lowlevel.checkpoint()
    directory = _CACHE / f"python-{sys.version_info.major}.{sys.version_info.minor}-{PYTHON_SDK}"
    sdk = PythonSdk(
        python=directory / "venv" / "bin" / "python",
        examples=directory / f"agent_client_protocol-{PYTHON_SDK}" / "examples",
    )
    if _is_complete(directory):
        return sdk
    await _run(sys.executable, "-m", "venv", str(directory / "venv"))
    pip = [str(sdk.python), "-m", "pip", "--quiet", "--disable-pip-version-check", "--retries", "1"]
    await _download("the Python SDK", *pip, "install", *PYTHON_PACKAGES)
    await _download(
        "the Python SDK's source distribution",
        *(*pip, "download", "--no-deps", "--no-binary", ":all:", "--dest", str(directory)),
        f"agent-client-protocol=={PYTHON_SDK}",
    )
    with tarfile.open(directory / f"agent_client_protocol-{PYTHON_SDK}.tar.gz") as archive:
        if hasattr(tarfile, "data_filter"):  # from Python 3.11.4 on
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(directory)  # noqa: S202 - it came from the package index
    (directory / "complete").touch()
    return sdk


async def install_typescript() -> TypeScriptSdk:
    """Install the TypeScript SDK unless it is there already.

    Raises:
        Unavailable: Node or npm is missing, or the registry cannot be reached.
    """
    await trio.lowlevel.checkpoint()
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Unavailable(f"the TypeScript SDK needs {'node' if node is None else 'npm'}, which is not installed")
    directory = _CACHE / "-".join(["typescript", *(name.rpartition("@")[2] for name in TYPESCRIPT_PACKAGES)])
    if not _is_complete(directory):
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
        await _download("the TypeScript SDK", npm, "install", "--prefix", str(directory), *quiet, *TYPESCRIPT_PACKAGES)
        (directory / "complete").touch()
    for script in _AGENTS.glob("*.mjs"):
        shutil.copy(script, directory)
    return TypeScriptSdk(node=node, directory=directory)


def _is_complete(directory: Path) -> bool:
    """Return whether an installation was finished; if not, begin it in an empty directory."""
    if (directory / "complete").exists():
        return True
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (_CACHE / ".gitignore").write_text("*\n")
    return False


async def _run(*argv: str) -> None:
    done = await trio.run_process(argv, capture_stdout=True, stderr=STDOUT, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{argv} failed:\n{done.stdout.decode(errors='replace')}")


async def _download(what: str, *argv: str) -> None:
    try:
        with trio.fail_after(INSTALL_LIMIT):
            await _run(*argv)
    except trio.TooSlowError:
        raise Unavailable(f"{what}: its registry did not deliver within {INSTALL_LIMIT:.0f} s") from None
    except RuntimeError as error:
        if _UNREACHABLE.search(str(error)):
            raise Unavailable(f"{what}: its registry cannot be reached") from error
        raise


@asynccontextmanager
async def serving(argv: Sequence[str]) -> AsyncIterator[str]:
    """Start a server, yield its WebSocket address; end its process group within bounds.

    The server prints one line with its port to its standard output, and nothing
    more there; its standard error is the tests'.
    """
    process = await trio.lowlevel.open_process(argv, stdin=DEVNULL, stdout=PIPE, start_new_session=True)
    assert process.stdout is not None
    try:
        said = b""
        with trio.fail_after(START_LIMIT):
            while not said.endswith(b"\n"):
                chunk = await process.stdout.receive_some()
                assert chunk, f"{argv} ended before it listened; it said {said!r}"
                said += chunk
        port = re.search(rb"(?:port |127\.0\.0\.1:)(\d+)", said)
        assert port, f"{argv} did not say its port: {said!r}"
        yield f"ws://127.0.0.1:{port[1].decode()}/acp"
    finally:
        with trio.move_on_after(END_LIMIT, shield=True):
            await _end(process)


async def _end(process: trio.Process) -> None:
    assert process.stdout is not None
    await process.stdout.aclose()
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):  # nobody of the group is left
            os.killpg(process.pid, number)
        with trio.move_on_after(END_LIMIT / 3):
            await process.wait()
