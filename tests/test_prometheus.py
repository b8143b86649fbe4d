"""The numbers of a manager as Prometheus metrics, read back by the real library's parsers."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as text_string_to_openmetrics
from prometheus_client.parser import text_string_to_metric_families

import trio_acp
from tests.turn_kit import SETTINGS, one_session
from trio_acp import TextDelta, prometheus
from trio_acp.prometheus import StatisticsCollector
from trio_acp.testing import FakeRuntime, Hang, Raise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

    from trio_acp.abc import TurnRequest
    from trio_acp.testing.fake import Step


# They have no types.
write_openmetrics: Any = generate_openmetrics
parse_openmetrics: Any = text_string_to_openmetrics


def registered(manager: trio_acp.SessionManager, **options: Any) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(StatisticsCollector(manager, **options))
    return registry


def read(registry: CollectorRegistry) -> dict[str, float]:
    """Scrape, and return the samples as they are written."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        sample.name + "".join(f"{{{name}={value}}}" for name, value in sample.labels.items()): sample.value
        for family in families
        for sample in family.samples
    }


def script(request: TurnRequest) -> Iterator[Step]:
    """Do what the prompt says."""
    match str(getattr(request.prompt[0], "text", "")):
        case "fail":
            yield Raise(ValueError("planted"))
        case "hang":
            yield Hang()
        case _:
            yield TextDelta("x")


async def test_every_number_is_exposed(autojump_clock: MockClock) -> None:
    """One turn of each outcome, one that waits and one that runs: each metric has the number of `statistics()`."""
    async with one_session(FakeRuntime(script), settings=attrs.evolve(SETTINGS, max_sessions=7)) as (manager, session):
        registry = registered(manager)
        await session.prompt("x")
        with pytest.raises(trio_acp.TurnFailed):
            await session.prompt("fail")
        with pytest.raises(trio_acp.TurnTimedOut):
            await session.prompt("hang", timeout=3)
        with trio.move_on_after(2):
            await session.prompt("hang")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.prompt, "hang")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(session.prompt, "x")
            await trio.testing.wait_all_tasks_blocked()
            seen, s = read(registry), manager.statistics()
            nursery.cancel_scope.cancel()
    assert {
        "trio_acp_up": 1,
        "trio_acp_turns_submitted_total": 6,
        "trio_acp_turns_settled_total{outcome=completed}": 1,
        "trio_acp_turns_settled_total{outcome=failed}": 1,
        "trio_acp_turns_settled_total{outcome=timed_out}": 1,
        "trio_acp_turns_settled_total{outcome=stopped}": 1,
        "trio_acp_turns_queued": 1,
        "trio_acp_turns_active": 1,
        "trio_acp_turn_duration_seconds_total": s.latency_total,
        "trio_acp_turn_duration_seconds_max": s.latency_max,
        "trio_acp_turn_errors_total{code=ACP_TURN_FAILED}": 2,
        "trio_acp_controls_total": s.controls,
        "trio_acp_stragglers_total": 0,
        "trio_acp_stragglers_alive": 0,
        "trio_acp_sessions_open": 1,
        "trio_acp_sessions_suspect": s.suspects,
        "trio_acp_sessions_evicted_total": 0,
        "trio_acp_session_slots_taken": s.capacity.taken,
        "trio_acp_session_slots_limit": 7,
        "trio_acp_write_failures_total{what=metadata}": 0,
        "trio_acp_write_failures_total{what=ledger}": 0,
        "trio_acp_write_failures_total{what=audit}": 0,
        "trio_acp_write_failures_total{what=transcript}": 0,
    } == seen
    assert s.latency_total > 3


async def test_each_number_of_the_statistics_has_its_metric() -> None:
    """A statistic that is added gets a metric, or is left out on purpose; no two are mixed up."""
    fields = {field.name for field in attrs.fields(trio_acp.Statistics)}
    left_out = {"depth", "latency_average", "idle_ttl", "last_evicted"}  # can be computed; a setting; Trio's clock
    numbers: dict[str, Any] = {name: float(at) for at, name in enumerate(sorted(fields), 1000)}
    numbers |= {"errors_by_code": {"E": 1.0}, "capacity": trio_acp.CapacityUse(2, 3)}

    class Manager:
        def statistics(self) -> trio_acp.Statistics:
            return trio_acp.Statistics(**numbers)

    manager: Any = Manager()
    with trio.fail_after(60):
        seen = await trio.to_thread.run_sync(read, registered(manager, deadline=30))
    assert sorted(
        [1.0, 1.0, 2.0, 3.0, *(n for name, n in numbers.items() if isinstance(n, float) and name not in left_out)]
    ) == sorted(seen.values())
    assert numbers["stragglers_now"] == seen["trio_acp_stragglers_alive"]
    assert numbers["audit_failures"] == seen["trio_acp_write_failures_total{what=audit}"]


async def test_the_documented_names_are_the_names(autojump_clock: MockClock) -> None:
    """The table of the module has each metric with its label; and OpenMetrics can be made of them too."""
    async with one_session(FakeRuntime(script), settings=attrs.evolve(SETTINGS, max_sessions=1)) as (manager, session):
        with pytest.raises(trio_acp.TurnFailed):
            await session.prompt("fail")
        registry = registered(manager)
        seen = {re.sub("=.*", "}", name) for name in read(registry)}
        families = [family.name for family in parse_openmetrics(write_openmetrics(registry).decode())]
    assert seen == set(re.findall(r"^``(trio_acp_[\w{}]+)``", prometheus.__doc__ or "", re.MULTILINE))
    assert len(set(families)) == len(families) == len({name.partition("{")[0] for name in seen})


async def test_namespace_and_labels(autojump_clock: MockClock) -> None:
    """Every metric has them; two managers share a registry under two namespaces, not under one."""
    async with one_session(FakeRuntime(script)) as (manager, _), one_session(FakeRuntime(script)) as (other, _):
        registry = registered(manager, namespace="app_acp", labels={"zone": 'a"b\n'})
        registry.register(StatisticsCollector(other))
        with pytest.raises(ValueError, match="Duplicated"):
            registry.register(StatisticsCollector(manager))
        seen = read(registry)
    ours = [name for name in seen if name.startswith("app_acp_")]
    assert len(ours) * 2 == len(seen)
    assert all('{zone=a"b\n}' in name for name in ours)
    assert not [name for name in seen if name.endswith("session_slots_limit")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"namespace": ""},
        {"namespace": "a-b"},
        {"namespace": "a\n"},
        {"labels": {"outcome": "x"}},
        {"labels": {"": "x"}},
        {"labels": {"__x": "x"}},
        {"deadline": 0},
        {"deadline": float("inf")},
        {"deadline": float("nan")},
    ],
)
async def test_wrong_options_are_refused(wrong: dict[str, Any], autojump_clock: MockClock) -> None:
    """A namespace, label or deadline that cannot be is an error at once, not at the first scrape."""
    async with one_session(FakeRuntime(script)) as (manager, _):
        with pytest.raises(trio_acp.InvalidOption):
            StatisticsCollector(manager, **wrong)


# -- threads --------------------------------------------------------------------------


async def test_a_scrape_in_another_thread_sees_numbers_that_fit_together() -> None:
    """While turns come and go, each of many scrapes adds up."""
    async with one_session(FakeRuntime(script), settings=trio_acp.Settings()) as (manager, session):
        registry = registered(manager, deadline=30)
        enough = trio.Event()
        seen: list[dict[str, float]] = []

        async def scrape() -> None:
            while len(seen) < 20:
                seen.append(await trio.to_thread.run_sync(read, registry))
            enough.set()

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(scrape)
                while not enough.is_set():
                    await session.prompt("x")
    for numbers in seen:
        columns = ("turns_queued", "turns_active", *(f"turns_settled_total{{outcome={o}}}" for o in OUTCOMES))
        assert 1 == numbers["trio_acp_up"]
        assert numbers["trio_acp_turns_submitted_total"] == sum(numbers[f"trio_acp_{name}"] for name in columns)


OUTCOMES = ("completed", "failed", "timed_out", "stopped")


async def test_the_numbers_are_read_in_trios_thread() -> None:
    """Only there does nothing change meanwhile; in a task of the run too, without waiting for oneself."""
    threads: list[int] = []

    class Manager:
        def statistics(self) -> trio_acp.Statistics:
            threads.append(threading.get_ident())
            return statistics

    manager: Any = Manager()
    async with one_session(FakeRuntime(script)) as (real, _):
        statistics = real.statistics()
    registry = registered(manager, deadline=30)
    with trio.fail_after(60):
        assert 1 == (await trio.to_thread.run_sync(read, registry))["trio_acp_up"]
    assert 1 == read(registry)["trio_acp_up"]
    assert [threading.get_ident()] * 2 == threads


async def test_a_busy_event_loop_costs_a_scrape_its_deadline_and_no_more() -> None:
    """The scrape says that it is down, the application's own metrics are there; what comes too late is dropped."""
    async with one_session(FakeRuntime(script), settings=trio_acp.Settings()) as (manager, _):
        registry = registered(manager, deadline=0.05, labels={"zone": "z"})
        Counter("mine", "Of the application.", registry=registry).inc()
        seen: list[dict[str, float]] = []
        thread = threading.Thread(target=lambda: seen.append(read(registry)))
        thread.start()
        thread.join(60)  # and nothing runs in Trio meanwhile
        assert {"trio_acp_up{zone=z}": 0, "mine_total": 1} == {
            name: value for name, value in seen[0].items() if not name.endswith("_created")
        }
        await trio.lowlevel.checkpoint()
        assert 1 == read(registry)["trio_acp_up{zone=z}"]


def test_after_the_run_a_scrape_says_that_it_is_down() -> None:
    """After the manager's exit its last numbers stay; after the end of Trio's run there are none, and no error."""
    registry = CollectorRegistry()

    async def main() -> dict[str, float]:
        async with one_session(FakeRuntime(script)) as (manager, session):
            registry.register(StatisticsCollector(manager))
            await session.prompt("x")
        return await trio.to_thread.run_sync(read, registry)

    closed = trio.run(main)
    assert (1, 1) == (closed["trio_acp_up"], closed["trio_acp_turns_settled_total{outcome=completed}"])
    assert {"trio_acp_up": 0} == read(registry)


async def test_an_error_reaches_the_scrape_and_not_the_event_loop() -> None:
    """Were there a bug in the counting, Trio's run would go on."""

    class Manager:
        def statistics(self) -> trio_acp.Statistics:
            raise ZeroDivisionError

    manager: Any = Manager()
    with trio.fail_after(60), pytest.raises(ZeroDivisionError):
        await trio.to_thread.run_sync(read, registered(manager, deadline=30))
