"""Every command's --help fits a screen, and its example works."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

import pytest

from trio_acp.cli import _parser, main

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXAMPLE: Final = re.compile(r"(?:^|\| |: )(trio-acp .*?)(?:  |$)")


def commands() -> list[str]:
    """Return the names of all commands, as the program's own help has them."""
    block = _parser().format_help().partition("\ncommands:\n")[2]
    return re.findall(r"^    ([a-z]+) ", block.partition("\nexample")[0], re.MULTILINE)


def examples(text: str) -> Iterator[str]:
    """Yield the command lines of this program in a help text, but for its usage."""
    for line in text.partition("\nexample")[2].splitlines():
        yield from _EXAMPLE.findall(line.strip())


def help_of(*command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what --help prints."""
    with pytest.raises(SystemExit) as exit_:
        main([*command, "--help"])
    assert 0 == exit_.value.code
    return capsys.readouterr().out


def test_the_commands_are_found() -> None:
    """Else the test below would test nothing."""
    assert {"demo", "prompt", "serve", "agents", "doctor", "explore"} <= set(commands())


SESSIONS: Final = ("list", "show", "close", "export")


@pytest.mark.parametrize("command", ["", *commands(), *(f"sessions {name}" for name in SESSIONS)])
def test_help_fits_a_screen_and_its_examples_parse(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--help has at most 24 lines of at most 80 columns, and at least one example, which is a right command line."""
    monkeypatch.setenv("COLUMNS", "80")
    text = help_of(*command.split(), capsys=capsys)
    lines = text.splitlines()
    assert len(lines) <= 24, text
    assert [] == [line for line in lines if len(line) > 80]
    found = list(examples(text))
    assert found
    for example in found:
        program, *words = shlex.split(example)
        assert "trio-acp" == program
        _parser(words[0]).parse_args(words)
        if command:
            assert words[: len(command.split())] == command.split() or len(found) > 1


def test_the_version_tells_what_a_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    """--version names this package, Python, Trio and trio-websocket, on one line."""
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert 0 == exit_.value.code
    version = r"\d+(\.\w+)*"
    names = ("trio-acp", "Python", "trio", "trio-websocket")
    assert re.fullmatch(", ".join(f"{name} {version}" for name in names) + "\n", capsys.readouterr().out)
