"""Exploring leaves the process as it was, wherever it is called."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
import threading
import warnings
from typing import TYPE_CHECKING

import pytest
import trio

from tests.explore_kit import CANCEL, LeakyPool, report_of, scenario
from trio_acp.explore import Case, Forbidden, Interrupt, Plan, Report, explore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def settings() -> list[object]:
    """Return everything that a watch may change."""
    return [
        sys.unraisablehook,
        gc.isenabled(),
        list(warnings.filters),
        warnings.showwarning,
        sys.get_asyncgen_hooks(),
        signal.getsignal(signal.SIGINT),
        threading.Thread.start,
        LeakyPool.acquire,
    ]


async def fine(case: Case) -> None:
    await trio.sleep(1)


async def fails(case: Case) -> None:
    await trio.lowlevel.checkpoint()
    raise ValueError


async def hangs(case: Case) -> None:
    await trio.sleep_forever()


async def starts_a_thread(case: Case) -> None:
    await trio.lowlevel.checkpoint()
    threading.Thread(target=int).start()


async def is_interrupted(case: Case) -> None:
    signal.raise_signal(signal.SIGINT)
    await trio.sleep(1)


@pytest.mark.parametrize("function", [fine, fails, hangs, starts_a_thread, is_interrupted])
@pytest.mark.parametrize("collects", [True, False])
def test_everything_is_put_back(function: Callable[[Case], Awaitable[None]], collects: bool) -> None:
    """Hooks, filters, handlers, the garbage collector and what was patched, however the exploration ends."""
    (gc.enable if collects else gc.disable)()
    try:
        before = settings()
        with contextlib.suppress(Forbidden, KeyboardInterrupt):
            report_of(function, CANCEL)
        assert before == settings()
        assert collects == gc.isenabled()
    finally:
        gc.enable()


def test_a_handler_of_the_programs_is_put_back_after_interrupts() -> None:
    """A program that handles SIGINT itself can explore interrupts, and does not see them."""
    seen: list[int] = []

    def handler(number: int, frame: object) -> None:
        seen.append(number)

    before = signal.signal(signal.SIGINT, handler)
    try:
        report = report_of(fine, Interrupt())
        assert [] == report.findings
        assert handler is signal.getsignal(signal.SIGINT)
        assert [] == seen
    finally:
        signal.signal(signal.SIGINT, before)


def in_a_thread(function: Callable[[], object]) -> object:
    """Call a function in a thread; return what it returned or raised."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(function())
        except Exception as error:  # noqa: BLE001 - handed to the test
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    (result,) = results
    return result


def test_another_thread_can_explore_all_but_interrupts() -> None:
    """Only the main thread gets signals: there an interrupt would hit somebody else."""
    report = in_a_thread(lambda: report_of(fine, CANCEL))
    assert isinstance(report, Report)
    assert [] == report.findings
    refused = in_a_thread(lambda: report_of(fine, Interrupt()))
    assert isinstance(refused, Forbidden)
    assert "reaches the main thread only" in str(refused)


def test_explorations_in_two_threads_wait_for_each_other() -> None:
    """What they watch belongs to the whole process; nobody else's threads are refused meanwhile."""
    before = settings()
    others: list[object] = []

    def progress(report: Report) -> None:
        if report.total == 1:
            thread = threading.Thread(target=lambda: others.append(report_of(fine, CANCEL)))
            thread.start()
            threads.append(thread)
        assert [] == others

    threads: list[threading.Thread] = []
    explore(scenario(fine, CANCEL), Plan(), progress=progress)
    for thread in threads:
        thread.join(20)
    assert 1 == len(others)
    assert before == settings()


async def test_inside_a_trio_run_it_is_refused() -> None:
    """An exploration runs Trio itself; that is told before anything is done."""
    await trio.lowlevel.checkpoint()
    before = settings()
    with pytest.raises(RuntimeError, match="call it from synchronous code"):
        report_of(fine)
    assert before == settings()
