"""``trio-acp agents``: the list, and the import of a registry."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pytest

from trio_acp.cli import main
from trio_acp.cli._known import KNOWN
from trio_acp.cli._registry import parse_registry

if TYPE_CHECKING:
    from pathlib import Path

Run: TypeAlias = Callable[..., str]

REGISTRY: Final[dict[str, Any]] = {
    "version": "1.0.0",
    "agents": [
        {
            "id": "alpha",
            "name": "Alpha",
            "version": "1.2.3",
            "description": "d",
            "distribution": {"npx": {"package": "@x/alpha@1.2.3", "args": ["--acp"], "env": {"A": "b"}}},
        },
        {
            "id": "beta",
            "name": "Beta",
            "version": "4.5.6",
            "description": "d",
            "website": "https://example.org",
            "distribution": {"uvx": {"package": "beta"}, "novelty": {}},
        },
        {
            "id": "zeta",
            "name": "Zeta",
            "version": "0.9.0",
            "description": "d",
            "distribution": {"binary": {"plan9-mips": {"archive": "https://example.org/z.tgz", "cmd": "./z"}}},
        },
    ],
    "extensions": [],
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process, with nothing installed, and return what it prints."""
    monkeypatch.setenv("TRIO_ACP_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("TRIO_ACP_CONFIG", raising=False)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def run_it(*args: str) -> str:
        assert 0 == main(["agents", *args])
        said = capfd.readouterr()
        assert "" == said.err
        return said.out

    return run_it


def install(tmp_path: Path, name: str) -> None:
    """Put a program of that name on the PATH, which leaves a trace if it is run."""
    path = tmp_path / "bin" / name
    path.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
    path.chmod(0o755)


def by_name(text: str) -> dict[str, dict[str, Any]]:
    """Decode the JSON form."""
    return {row["name"]: row for row in json.loads(text)}


def test_the_built_in_agents_are_listed_and_looked_for(run: Run, tmp_path: Path) -> None:
    """What is on the PATH comes first; nothing is run."""
    install(tmp_path, "gemini")
    lines = run().splitlines()
    assert ["NAME", "INSTALLED", "FROM", "COMMAND"] == lines[0].split()
    assert ["gemini", "yes", "built-in", "gemini", "--acp"] == lines[1].split()
    assert len(KNOWN) + 2 == len(lines)
    assert all(line.split()[1] == "no" for line in lines[2:-1])
    assert not (tmp_path / "was-run").exists()


def test_the_default_and_ones_own_are_marked(run: Run, tmp_path: Path) -> None:
    """Agents of the configuration file are listed with the others; an address is neither installed nor not."""
    (tmp_path / "c.toml").write_text("[defaults]\nagent='far'\n[agents.far]\nurl='ws://h/acp?key=sesame'\n")
    text = run("list", "--config", str(tmp_path / "c.toml"))
    assert ["far", "*", "-", "config", "ws://h/acp"] == text.splitlines()[1].split()
    assert "* is used where no option names an agent\n" in text
    row = by_name(run("--format", "json", "--config", str(tmp_path / "c.toml")))["far"]
    assert (True, None, "ws://h/acp", "config") == (row["default"], row["installed"], row["url"], row["from"])


def test_a_registry_is_imported(run: Run, tmp_path: Path) -> None:
    """A copy is kept for its owner; packages have their version, archives are listed and not run."""
    (tmp_path / "r.json").write_text(json.dumps(REGISTRY))
    install(tmp_path, "npx")
    assert f"kept 3 agents, 1 of them only as archives, which are not run, in {tmp_path}/config/registry.json" in run(
        "import", str(tmp_path / "r.json")
    )
    kept = tmp_path / "config" / "registry.json"
    assert (0o600, 0o700) == (stat.S_IMODE(kept.stat().st_mode), stat.S_IMODE(kept.parent.stat().st_mode))
    assert [kept] == list(kept.parent.iterdir())
    rows = by_name(run("--format", "json"))
    assert ["npx", "--yes", "@x/alpha@1.2.3", "--acp"] == rows["alpha"]["command"]
    assert ["uvx", "beta@4.5.6"] == rows["beta"]["command"]
    assert (None, "https://example.org/z.tgz") == (rows["zeta"]["command"], rows["zeta"]["archive"])
    assert (True, False, False) == tuple(rows[name]["installed"] for name in ("alpha", "beta", "zeta"))
    assert "by npx" in run()
    assert not (tmp_path / "was-run").exists()


def test_a_second_import_replaces_the_first_and_a_bad_one_does_not(run: Run, tmp_path: Path) -> None:
    """The kept registry is always a whole one."""
    (tmp_path / "r.json").write_text(json.dumps(REGISTRY))
    run("import", str(tmp_path / "r.json"))
    (tmp_path / "r.json").write_text(json.dumps({"agents": REGISTRY["agents"][:1]}))
    told = json.loads(run("import", str(tmp_path / "r.json"), "--format", "json"))
    assert {"path": f"{tmp_path}/config/registry.json", "agents": 1, "archives": 0} == told
    (tmp_path / "r.json").write_text("{}")
    assert 2 == main(["agents", "import", str(tmp_path / "r.json")])


@pytest.mark.parametrize("way", [{"args": ["\ud800"]}, {"args": ["a\0"]}, {"env": {"A": "\udfff"}}])
def test_what_no_program_can_be_given_is_not_imported(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], way: dict[str, Any]
) -> None:
    """It would else be found out when the agent is started, or looked for."""
    agent = {"id": "a", "version": "1", "distribution": {"npx": {"package": "p", **way}}}
    (tmp_path / "r.json").write_text(json.dumps({"agents": [agent]}))
    assert 2 == main(["agents", "import", str(tmp_path / "r.json")])
    assert f"$.agents[0].distribution.npx.{next(iter(way))}" in capfd.readouterr().err
    assert not (tmp_path / "config").exists()


def test_built_in_agents_come_before_those_of_the_registry(run: Run, tmp_path: Path) -> None:
    """A registry cannot change what a known name means."""
    entry = {**REGISTRY["agents"][0], "id": "gemini"}
    (tmp_path / "r.json").write_text(json.dumps({"agents": [entry]}))
    run("import", str(tmp_path / "r.json"))
    assert "built-in" == by_name(run("--format", "json"))["gemini"]["from"]


def test_an_archive_is_not_run(run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whoever names an agent that is only an archive is told where it is."""
    (tmp_path / "r.json").write_text(json.dumps(REGISTRY))
    run("import", str(tmp_path / "r.json"))
    assert 2 == main(["doctor", "--agent", "zeta"])
    assert "zeta is only an archive to download, which is left to you: https://example.org/z.tgz;" in (
        capfd.readouterr().err
    )


def test_what_a_registry_says_is_shown_safely(run: Run, tmp_path: Path) -> None:
    """Control characters in a command are shown, not obeyed."""
    entry = {"id": "a", "version": "1.0.0", "distribution": {"uvx": {"package": "p", "args": ["\x1b[2J"]}}}
    (tmp_path / "r.json").write_text(json.dumps({"agents": [entry]}))
    run("import", str(tmp_path / "r.json"))
    assert "\x1b" not in run()


def test_a_registry_that_was_changed_is_nobodys_trouble_who_does_not_use_it(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A built-in name is found without it; the list, and an unknown name, say what is wrong with it."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "registry.json").write_text("{")
    assert 1 == main(["doctor", "--agent", "gemini"])
    assert "there is no program 'gemini'" in capfd.readouterr().out
    for args in (["agents"], ["doctor", "--agent", "zeta"]):
        assert 2 == main(args)
        assert f"{tmp_path}/config/registry.json: it is not JSON" in capfd.readouterr().err


def test_this_systems_archive_is_the_one_that_is_shown() -> None:
    """Of several archives, the one for this machine."""
    own = f"{os.uname().sysname.lower()}-{os.uname().machine.replace('arm64', 'aarch64')}"
    targets = {name: {"archive": f"https://h/{name}", "cmd": "./a"} for name in ("plan9-mips", own)}
    entry = {"id": "a", "version": "1.0.0", "distribution": {"binary": targets}}
    assert f"https://h/{own}" == parse_registry(json.dumps({"agents": [entry]}).encode(), "x")["a"].archive


@pytest.mark.parametrize(
    ("kind", "package", "pinned"),
    [
        ("npx", "@x/a", "@x/a@1.0.0"),
        ("npx", "@x/a@2", "@x/a@2"),
        ("uvx", "a", "a@1.0.0"),
        ("uvx", "a==2", "a==2"),
        ("uvx", "a[x]@2", "a[x]@2"),
    ],
)
def test_packages_are_pinned(kind: str, package: str, pinned: str) -> None:
    """A package without a version gets the agent's."""
    entry = {"id": "a", "version": "1.0.0", "distribution": {kind: {"package": package}}}
    argv = parse_registry(json.dumps({"agents": [entry]}).encode(), "x")["a"].argv
    assert argv is not None
    assert pinned == argv[-1]
