"""The configuration file: where it is looked for, what its defaults do, and what a named agent gets."""

from __future__ import annotations

import re
import shlex
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.cli_kit import AGENT, doorkeeper, run_cli, serving
from tests.evidence import ROOT
from trio_acp import InvalidOption
from trio_acp.cli import main
from trio_acp.cli._config import config_dir, load_config

Run: TypeAlias = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Have a directory for configuration and sessions, and no other configuration."""
    home = tmp_path / "config"
    home.mkdir()
    monkeypatch.setenv("TRIO_ACP_HOME", str(home))
    monkeypatch.delenv("TRIO_ACP_CONFIG", raising=False)
    return home


@pytest.fixture
def run(home: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; return its code and both outputs."""

    def run_it(*args: str) -> tuple[int, str, str]:
        try:
            code = main(args)
        except SystemExit as exit_:
            code = int(str(exit_.code))
        said = capfd.readouterr()
        return code, said.out, said.err

    return run_it


def write(path: Path, text: str) -> Path:
    """Write a file; ``AGENT`` in it is the scripted agent's command line."""
    path.write_text(text.replace("AGENT", repr(AGENT)))
    return path


def test_where_it_is_looked_for(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--config comes before TRIO_ACP_CONFIG, that before the usual place, where it need not be."""
    assert home / "config.toml" == load_config(None).path
    assert {} == load_config(None).agents
    for number, path in enumerate((home / "config.toml", tmp_path / "b.toml", tmp_path / "c.toml")):
        write(path, f"[agents.a{number}]\nstdio = 'x'\n")
    assert {"a0"} == set(load_config(None).agents)
    monkeypatch.setenv("TRIO_ACP_CONFIG", str(tmp_path / "b.toml"))
    assert {"a1"} == set(load_config(None).agents)
    assert {"a2"} == set(load_config(tmp_path / "c.toml").agents)
    monkeypatch.setenv("TRIO_ACP_CONFIG", str(tmp_path / "gone.toml"))
    with pytest.raises(InvalidOption, match=r"TRIO_ACP_CONFIG .*gone.toml: there is no such file"):
        load_config(None)


def test_the_usual_place_is_the_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TRIO_ACP_HOME it is where the platform keeps configuration: on Linux, XDG_CONFIG_HOME."""
    monkeypatch.delenv("TRIO_ACP_HOME", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x")
    if sys.platform == "linux":
        assert Path("/x/trio-acp") == config_dir()
    assert "trio-acp" == config_dir().name


def test_what_everybody_may_change_is_not_obeyed(home: Path) -> None:
    """A file that others can write says what is run with our rights, so it is refused."""
    path = write(home / "config.toml", "")
    path.chmod(0o646)
    with pytest.raises(InvalidOption, match="chmod o-w"):
        load_config(None)
    path.chmod(0o600)
    assert path == load_config(None).path


def test_what_is_no_text_or_too_long_is_refused(home: Path) -> None:
    """Neither is read further than it has to be."""
    (home / "config.toml").write_bytes(b"# \xff")
    with pytest.raises(InvalidOption, match="byte 2 is not UTF-8"):
        load_config(None)
    (home / "config.toml").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(InvalidOption, match="larger than 1 MiB"):
        load_config(None)
    for text in ("a = " + "[" * 5000, "a = " + "1" * 5000):  # Python has limits that its TOML reader knows nothing of
        (home / "config.toml").write_text(text)
        with pytest.raises(InvalidOption, match=r"config\.toml: it is not TOML"):
            load_config(None)
    (home / "config.toml").write_text(f"defaults.timeout = 1{'0' * 400}")
    with pytest.raises(InvalidOption, match=r"defaults\.timeout: it must be a number of seconds above 0, not inf"):
        load_config(None)
    (home / "config.toml").unlink()
    (home / "config.toml").mkdir()
    with pytest.raises(InvalidOption, match="cannot read it: Is a directory"):
        load_config(None)


def test_a_named_agent_is_prompted(run: Run, home: Path) -> None:
    """--agent takes it from the file; as the default it needs no option at all."""
    write(home / "config.toml", "[agents.mine]\nstdio = AGENT\n")
    assert (0, "hi\n", "") == run("prompt", "say hi", "--agent", "mine")
    write(home / "config.toml", "[defaults]\nagent = 'mine'\n[agents.mine]\nstdio = AGENT\n")
    assert (0, "hi\n", "") == run("prompt", "say hi")


def test_a_string_is_split_as_a_shell_does_it(home: Path) -> None:
    """A command is a list, or a string; both mean the same."""
    write(home / "config.toml", "[agents.a]\nstdio = \"p 'a b'\"\n")
    assert ("p", "a b") == load_config(None).agents["a"].argv


def test_the_file_comes_before_the_built_in_table(run: Run, home: Path) -> None:
    """Whoever names an agent like a known one means his own."""
    write(home / "config.toml", "[agents.gemini]\nstdio = AGENT\n")
    assert (0, "hi\n", "") == run("prompt", "say hi", "--agent", "gemini")


def test_env_and_cwd_are_the_programs(run: Run, home: Path, tmp_path: Path) -> None:
    """Variables are added to ours, and a relative directory is below the file's own."""
    (home / "there").mkdir()
    code = "import os,sys;print(os.environ['SEEN'],os.environ['TRIO_ACP_HOME'],os.getcwd(),file=sys.stderr);sys.exit(9)"
    argv = [sys.executable, "-c", code]
    write(home / "config.toml", f"[agents.a]\nstdio = {argv!r}\ncwd = 'there'\nenv = {{ SEEN = 'yes' }}\n")
    returned, _, err = run("prompt", "hi", "--agent", "a")
    assert (1, True) == (returned, err.startswith("trio-acp: --agent a: "))
    assert f"agent exited with code 9: yes {home} {home / 'there'}" in err


def test_a_program_that_is_missing_names_its_agent(run: Run, home: Path) -> None:
    """The message has the option that the user wrote, and where to look further."""
    write(home / "config.toml", "[agents.a]\nstdio = ['/no/such']\n")
    message = "trio-acp: --agent a: there is no program '/no/such'; \"trio-acp agents\" tells more\n"
    assert (1, "", message) == run("prompt", "hi", "--agent", "a")


def test_defaults_hold_unless_an_option_is_given(run: Run, home: Path) -> None:
    """A time limit of the file is the option's, and the command line comes before it."""
    write(home / "config.toml", "[defaults]\nagent = 'a'\ntimeout = 0.7\n[agents.a]\nstdio = AGENT\n")
    code, _, err = run("prompt", "sleep 60")
    assert (3, True) == (code, "after 0.7 s" in err or "within 0.7 s" in err)
    assert (0, "hi\n", "") == run("prompt", "sleep 1; say hi", "--timeout", "20")


def test_a_default_store_is_used_where_there_is_something_to_keep(run: Run, home: Path) -> None:
    """A store of the file does not ask for --session, as the option does."""
    write(home / "config.toml", "[defaults]\nagent = 'a'\nstore = 'kept.db'\n[agents.a]\nstdio = AGENT\n")
    assert (0, "hi\n", "") == run("prompt", "say hi")
    assert not (home / "kept.db").exists()
    assert (0, "hi\n", "") == run("prompt", "say hi", "--session", "s")
    assert (home / "kept.db").exists()


async def test_a_url_of_the_file_is_dialed_with_its_token(home: Path, tmp_path: Path) -> None:
    """The token's file is relative to the configuration's; neither its content nor the query is shown."""
    (home / "token").write_text("sesame\n")
    async with serving(doorkeeper()) as url:
        write(home / "config.toml", f"[agents.far]\nurl = '{url}?key=sesame'\ntoken_file = 'token'\n")
        done = await run_cli("prompt", "say hi", "--agent", "far")
    assert (0, b"hi\n") == (done.returncode, done.stdout)
    listed = await run_cli("agents", "--format", "json")
    assert b'"far"' in listed.stdout
    assert b"sesame" not in done.stderr + listed.stdout


async def test_the_log_file_has_everything_but_messages_and_secrets(home: Path, tmp_path: Path) -> None:
    """It is the owner's alone, also if it was there before; each line is a safe one; no frame, no token is in it."""
    log = tmp_path / "log"
    log.write_text("before\n")
    log.chmod(0o644)
    (tmp_path / "token").write_text("sesame-token\n")
    async with serving(doorkeeper()) as url:
        args = ("--url", f"{url}?q=sesame-query", "--token-file", str(tmp_path / "token"), "--log-file", str(log))
        done = await run_cli("prompt", "say sesame-text; raw {not json", *args, "--header", "X-Key: sesame-header")
    assert (0, b"sesame-text\n") == (done.returncode, done.stdout)
    assert b"" == done.stderr
    assert 0o600 == stat.S_IMODE(log.stat().st_mode)
    first, *lines = log.read_text().splitlines()
    assert "before" == first
    assert any(" info trio_acp." in line and "tolerated from the agent: parse-error" in line for line in lines)
    assert "sesame" not in "".join(lines)


async def test_the_log_file_has_what_standard_error_has_not(home: Path, tmp_path: Path) -> None:
    """What the agent writes to its standard error is a DEBUG record, made safe; --verbose alone does not show it."""
    code = "import sys; print('\\x1b[2Jouch', file=sys.stderr); sys.exit(3)"
    stdio = shlex.join([sys.executable, "-c", code])
    done = await run_cli("prompt", "hi", "--stdio", stdio, "--log-file", str(tmp_path / "log"), "--verbose")
    assert 1 == done.returncode
    text = (tmp_path / "log").read_text()
    assert "\\u001b[2Jouch" in text
    assert " debug trio_acp.transports._agent_process: agent " in text
    assert b"debug" not in done.stderr


async def test_the_log_file_tells_the_steps_of_a_turn(home: Path, tmp_path: Path) -> None:
    """Also of an agent that is reached over a WebSocket, with why the turn ended; each event is left to --trace."""
    log = tmp_path / "log"
    async with serving(doorkeeper()) as url:
        done = await run_cli("prompt", "say sesame-text; crash 3", "--url", url, "--log-file", str(log))
    assert 1 == done.returncode
    lines = [line.partition(" debug trio_acp.cli._trace: ")[2] for line in log.read_text().splitlines()]
    steps = [line.split(": ")[1].split(",")[0] for line in lines if line]
    turn = steps[steps.index("admitted") :]
    assert ["admitted", "dequeued", "ready", "submitted", "first_event", "cause", "decided"] == turn[:7]
    assert {"settled", "released"} <= set(turn)
    assert any(": cause, " in line and "agent exited with code 3" in line for line in lines)
    assert "sesame" not in "".join(lines)


def test_the_documented_file_is_a_right_one(tmp_path: Path) -> None:
    """The example in the documents is read as it stands."""
    [text] = re.findall(
        r"^```toml\n(.*?)^```$", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE | re.DOTALL
    )
    config = load_config(write(tmp_path / "c.toml", text))
    assert {"local", "mine"} == set(config.agents)
    assert {"agent", "permissions", "timeout", "store", "record"} == set(config.defaults)
    assert tmp_path / "token" == config.agents["local"].token_file
