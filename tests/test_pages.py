"""What the pages show runs as it stands there: their Python, and their commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING, Final

import pytest

from tests.evidence import ROOT
from tests.page_kit import LANGUAGES, PORT, Block, blocks_of, check_output, run_pieces, run_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES: Final = {path.name: blocks_of(path.read_text("utf-8")) for path in sorted((ROOT / "docs").glob("*.md"))}
RUN_ELSEWHERE: Final = {"explorer.md"}  # tests/test_explorer_docs.py: its Python is one file that the command reads
HERE: Final = sorted(set(PAGES) - RUN_ELSEWHERE)
SERVE: Final = re.compile(rf"^trio-acp serve --port {PORT} (.*)$", re.MULTILINE)


def having(kind: str) -> list[tuple[str, Block]]:
    """Return the blocks of a kind, with their pages."""
    return [
        (page, block)
        for page in HERE
        for block in PAGES[page]
        if (kind == "program") == block.is_program and (kind == "program" or block.language == kind)
    ]


def named(found: list[tuple[str, Block]]) -> list[str]:
    """Return how the tests of blocks are called."""
    return [f"{page}-{block.line}" for page, block in found]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the scripted agent by the command that the quick start gives, on a free port."""
    (words,) = {found[1] for block in PAGES["quickstart.md"] for found in SERVE.finditer(block.text)}
    argv = [sys.executable, "-m", "trio_acp", "serve", "--port", "0", *words.replace("python", sys.executable).split()]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            found = re.search(r":(\d+)/acp", server.stdout.readline())
            assert found, "the server has not told its address"
            yield found[1]
        finally:
            server.terminate()


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """Return an environment with `trio-acp`, `python` and a home of its own."""
    for name, words in (("trio-acp", "-m trio_acp"), ("python", "")):
        (tmp_path / "bin").mkdir(exist_ok=True)
        command = tmp_path / "bin" / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        command.chmod(0o755)
    home = {name: str(tmp_path / "home") for name in ("HOME", "TRIO_ACP_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME")}
    return {**os.environ, **home, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}


@pytest.mark.parametrize("page", [*HERE, *RUN_ELSEWHERE])
def test_blocks_are_run_or_say_that_they_are_not(page: str) -> None:
    """Each has a language; none that is not run is called so as if it was."""
    assert [] == [block for block in PAGES[page] if block.language not in LANGUAGES]
    assert [] == [block for block in PAGES[page] if block.language == "toml" and not tomllib.loads(block.text)]


@pytest.mark.parametrize("page", [page for page in HERE if any(block.language == "python" for block in PAGES[page])])
def test_the_pieces_of_a_page_run(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One after another, with a session of the scripted agent, and print what the page says; its tests pass."""
    pieces = [block for block in PAGES[page] if block.language == "python" and not block.is_program]
    run_pieces(page, pieces, lambda: capsys.readouterr().out)


@pytest.mark.parametrize(("page", "block"), having("program"), ids=named(having("program")))
def test_a_program_runs(
    page: str,
    block: Block,
    port: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In an empty directory, with the agent behind a WebSocket, and prints what the page says."""
    monkeypatch.chdir(tmp_path)
    run_program(page, block, port, tmp_path, lambda: capsys.readouterr().out)


@pytest.mark.parametrize(("page", "block"), having("sh"), ids=named(having("sh")))
def test_commands_run(page: str, block: Block, port: str, tmp_path: Path, shell: dict[str, str]) -> None:
    """In an empty directory, with the agent behind a WebSocket, and print what the page says."""
    script = block.text.replace(PORT, port)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path, env=shell, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{page}:{block.line}\n{done.stdout}\n{done.stderr}"
    check_output(page, block, done.stdout)


def test_what_is_printed_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    """A page that shows something else than what happens fails; dots stand for what may differ."""
    page = "```python\nprint((await session.prompt('say one two')).text)\n```\nThis prints:\n\n```text\n{}\n```\n"
    for shown, is_right in (("one two", True), ("one ...", True), ("three", False)):
        pieces = [block for block in blocks_of(page.replace("{}", shown)) if block.language == "python"]
        try:
            run_pieces("page", pieces, lambda: capsys.readouterr().out)
        except AssertionError:
            assert not is_right
        else:
            assert is_right
