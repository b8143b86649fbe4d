"""`--allow-fs` and `--allow-terminal`: off unless given, and then for the working directory."""

from __future__ import annotations

import argparse
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.cli_kit import STDIO, run_cli
from trio_acp import ClientServices, FileService
from trio_acp.cli._services import add_service_options, make_services

if TYPE_CHECKING:
    from pathlib import Path

ASK = "write-file f hello\nread-file f\nterminal cat f"


async def test_an_agent_gets_nothing_by_default(tmp_path: Path) -> None:
    """Without the options its requests are answered "method not found"."""
    done = await run_cli("prompt", ASK, "--stdio", STDIO, "--cwd", str(tmp_path))
    assert 0 == done.returncode
    assert 3 == done.stdout.count(b"-32601")
    assert [] == list(tmp_path.iterdir())


async def test_an_agent_gets_what_is_allowed(tmp_path: Path) -> None:
    """Files in the working directory, and the programs that were named."""
    options = ("--cwd", str(tmp_path), "--allow-fs", "--allow-terminal", "true", "--allow-terminal", "cat")
    done = await run_cli("prompt", ASK, "--stdio", STDIO, *options)
    assert (0, b"written read: hello ran: hello[0]") == (done.returncode, done.stdout.strip())


@pytest.mark.parametrize("command", ["no-such-program-at-all", "./prog", ""])
async def test_a_command_that_cannot_be_allowed(command: str) -> None:
    """It is wrong usage, told in one line that names the option, before anything is started."""
    done = await run_cli("prompt", "hello", "--stdio", STDIO, "--allow-terminal", command)
    assert (2, b"") == (done.returncode, done.stdout)
    assert done.stderr.startswith(b"trio-acp: --allow-terminal: ")
    assert 1 == done.stderr.count(b"\n")


def test_the_options_say_what_is_on() -> None:
    """Each for itself; a command that has no such options offers nothing."""
    parser = argparse.ArgumentParser()
    add_service_options(parser)
    assert None is make_services(parser.parse_args([]))
    assert None is make_services(argparse.Namespace())
    assert ClientServices(files=FileService()) == make_services(parser.parse_args(["--allow-fs"]))
    services = make_services(parser.parse_args(["--allow-terminal", "sh", "--allow-terminal", "ls"]))
    assert services is not None
    assert services.terminals is not None
    assert (None, {"sh": shutil.which("sh"), "ls": shutil.which("ls")}) == (services.files, services.terminals.commands)
