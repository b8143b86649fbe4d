"""The identity of a process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trio_acp._owner import current_owner, start_time
from trio_acp._procfs import boot_id

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")


def test_the_owner_is_this_process() -> None:
    """The pid is ours, the manager's id is passed on, and asking again gives the same."""
    owner = current_owner("m1")
    assert (os.getpid(), "m1") == (owner.pid, owner.manager_id)
    assert owner == current_owner("m1")


@needs_proc
def test_another_process_computes_the_same_identity() -> None:
    """A process is told the same by itself and by others."""
    script = "from trio_acp._owner import current_owner; o = current_owner(''); print(o.start_time, o.boot_id); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        told = child.stdout.readline().split()
        assert [str(start_time(child.pid)), boot_id()] == told
        child.communicate("\n", timeout=30)


@needs_proc
def test_a_name_full_of_parentheses_is_not_taken_for_fields(tmp_path: Path) -> None:
    """The start time is found whatever the command calls itself."""
    program = shutil.which("sleep")
    assert program is not None
    link = tmp_path / "a) S 1 (b 2"
    link.symlink_to(program)
    with subprocess.Popen([link, "60"]) as child:
        try:
            # We started before the child, and it before now.
            uptime = float(Path("/proc/uptime").read_text("ascii").split()[0])
            now = uptime * os.sysconf("SC_CLK_TCK") + 1
            assert 0 < start_time(os.getpid()) < start_time(child.pid) <= now
        finally:
            child.kill()


def test_what_the_system_does_not_tell_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the kernel's files the start time is 0 and the boot id is empty."""

    def missing(self: Path, *args: object, **kwargs: object) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", missing)
    assert (0, "") == (start_time(os.getpid()), boot_id())
