"""`trio-acp demo` shows what it announces, and notices when it does not."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
import trio

from tests.cli_kit import read_all, read_until, started_cli
from trio_acp import SQLiteStore
from trio_acp.cli import main
from trio_acp.cli._bundled import processes_mentioning
from trio_acp.cli._scenes import DemoFailed, check


def test_all_goes_as_announced(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every scene is shown in order, no line is wider than a terminal, and nothing is left behind."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert 0 == main(["demo"])
    said = capfd.readouterr()
    assert "" == said.err
    lines = said.out.splitlines()
    scenes = [line[3:].partition(":")[0] for line in lines if line[:1].isdigit() and line[1:2] == "."]
    assert ["A turn", "Tools", "A queue", "A cancel", "A timeout", "A restart"] == scenes
    assert "7 turns: 5 completed, 1 stopped, 1 timed out, 0 failed." == lines[-2]
    assert lines[-1].startswith("All went as announced.")
    assert [] == [line for line in lines if len(line) > 80 and str(tmp_path) not in line]
    assert [] == list(tmp_path.iterdir())


async def test_what_is_kept(tmp_path: Path) -> None:
    """With --store the sessions stay in that file; with --keep the temporary files stay too."""
    store = tmp_path / "sessions.db"
    async with started_cli("demo", "--store", str(store), "--keep") as process:
        out = (await read_all(process.stdout)).decode()
        assert (0, b"") == (await process.wait(), await read_all(process.stderr))
    kept = Path(out.splitlines()[-1].removeprefix("Kept: "))
    assert f"Sessions are stored in {store}." in out
    async with SQLiteStore(store) as opened:
        assert ["demo"] == [record.key for record in await opened.list()]
    assert (kept / "agent").is_dir()
    for path in sorted(kept.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    kept.rmdir()


def test_a_store_that_cannot_be_opened_is_one_line(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """If there is no way to keep the sessions, the code is 1, and nothing was announced."""
    (tmp_path / "file").touch()
    assert 1 == main(["demo", "--store", str(tmp_path / "file" / "x" / "s.db")])
    path = tmp_path / "file"
    line = f"trio-acp: cannot open {path}/x/s.db: cannot create {path}/x: Not a directory; --store names another file\n"
    assert ("", line) == tuple(capfd.readouterr())


def test_a_server_that_does_not_start_is_one_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the agent's server does not come up, the code is 1, with one line that says so."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert 1 == main(["demo"])
    assert "trio-acp: the bundled agent's server did not start\n" == capfd.readouterr().err


def test_a_claim_that_does_not_hold_is_told(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """If something went otherwise than announced, the code is 1, with one line that says what."""
    monkeypatch.setattr("trio_acp.cli.demo.processes_mentioning", lambda word: 2)
    assert 1 == main(["demo"])
    assert "trio-acp: the demonstration failed: 2 processes were left behind\n" == capfd.readouterr().err


def test_check() -> None:
    """A claim that holds is silent; one that does not is an error that names it."""
    check(True, "fine")  # noqa: FBT003 - the claim
    with pytest.raises(DemoFailed, match="wrong"):
        check(False, "wrong")  # noqa: FBT003 - the claim


async def test_a_signal_ends_it_without_leaving_anything() -> None:
    """Interrupted in the middle, it stops all it started; the code is 130."""
    async with started_cli("demo") as process:
        out = await read_until(process.stdout, b"1. A turn")
        process.send_signal(signal.SIGINT)
        out += await read_all(process.stdout)
        assert (130, b"") == (await process.wait(), await read_all(process.stderr))
    directory = out.decode().partition("Sessions are stored in ")[2].partition("/sessions.db")[0]
    assert not Path(directory).exists()
    assert not processes_mentioning(directory)


async def test_counting_processes(tmp_path: Path) -> None:
    """A process is counted while its command line has the word, and no longer."""
    word = str(tmp_path)
    argv = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", word]
    process = await trio.lowlevel.open_process(argv, stdin=-1, stdout=-1)
    assert process.stdin is not None
    await read_until(process.stdout, b"\n")
    here = processes_mentioning(word)
    await process.stdin.aclose()
    await process.wait()
    assert process.stdout is not None
    await process.stdout.aclose()
    if here is not None:  # None: this system has no /proc
        assert (1, 0) == (here, processes_mentioning(word))
