"""Prometheus: what a manager has done, read from it at each scrape.

It needs ``pip install trio-acp[prometheus]``::

    async with open_session_manager(runtimes) as manager:
        REGISTRY.register(StatisticsCollector(manager))
        start_http_server(9000)

Nothing is counted twice: the numbers are those of `SessionManager.statistics`,
see `trio_acp.Statistics`.  With the default namespace they are called:

==============================================  ==============================================
``trio_acp_up``                                 1; 0 if the manager's event loop did not answer
``trio_acp_turns_submitted_total``              turns admitted
``trio_acp_turns_settled_total{outcome}``       by ``completed``, ``failed``, ``timed_out``, ``stopped``
``trio_acp_turns_queued``                       turns that wait for their lane
``trio_acp_turns_active``                       turns that left the queue and have not settled
``trio_acp_turn_duration_seconds_total``        from leaving the queue to settling, all turns together
``trio_acp_turn_duration_seconds_max``          the longest of them
``trio_acp_turn_errors_total{code}``            turns that failed or timed out, by error code
``trio_acp_controls_total``                     operations other than turns
``trio_acp_stragglers_total``                   calls that did not end although cancelled
``trio_acp_stragglers_alive``                   those of them that still have not
``trio_acp_sessions_open``                      live backend sessions
``trio_acp_sessions_suspect``                   those that owe an answer
``trio_acp_sessions_evicted_total``             closed because they were idle
``trio_acp_session_slots_taken``                open, being opened or closed
``trio_acp_session_slots_limit``                how many there may be; missing if any number
``trio_acp_write_failures_total{what}``         of ``metadata``, ``ledger``, ``audit``, ``transcript``
==============================================  ==============================================

The mean duration of turns is the rate of ``turn_duration_seconds_total`` over
that of ``turns_settled_total``; turns withdrawn from the queue count in the
latter, with no time at all.

**Threads.** A scrape usually comes in a thread of its own, while Trio runs in
another.  The numbers are then asked for in Trio's thread, between two steps of
its tasks, so they fit together; the scraping thread waits for them, at most
`deadline` seconds.  If the event loop is busy for longer, or has ended, the
scrape has ``up`` 0 and none of the others, and the application's other metrics
are as ever.  A scrape in a task of the same Trio run does not wait at all.
After the manager is closed its last numbers stay, until the run ends;
``REGISTRY.unregister(collector)`` takes them away.
"""

from __future__ import annotations

import math
import re
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

import attrs
import trio
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ._errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from ._manager import SessionManager
    from ._statistics import Statistics

__all__ = ["StatisticsCollector"]

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@attrs.frozen
class _Measure:
    """One metric: `read` returns its numbers by the values of `label`, or one by ``""``; None is no number."""

    name: str
    meaning: str
    read: Callable[[Statistics], Mapping[str, float | None]]
    label: str = ""


def _one(attribute: str) -> Callable[[Statistics], Mapping[str, float | None]]:
    return lambda statistics: {"": getattr(statistics, attribute)}


def _several(**attributes: str) -> Callable[[Statistics], Mapping[str, float | None]]:
    return lambda statistics: {value: getattr(statistics, name) for value, name in attributes.items()}


_MEASURES: Final = (
    _Measure("turns_submitted_total", "Turns admitted", _one("submitted")),
    _Measure(
        "turns_settled_total",
        "Turns that ended, by outcome",
        _several(completed="completed", failed="failed", timed_out="timed_out", stopped="stopped"),
        "outcome",
    ),
    _Measure("turns_queued", "Turns that wait for their lane", _one("queued")),
    _Measure("turns_active", "Turns that left the queue and have not settled", _one("active")),
    _Measure(
        "turn_duration_seconds_total", "From leaving the queue to settling, all turns together", _one("latency_total")
    ),
    _Measure("turn_duration_seconds_max", "From leaving the queue to settling, the longest", _one("latency_max")),
    _Measure("turn_errors_total", "Turns that failed or timed out, by error code", lambda s: s.errors_by_code, "code"),
    _Measure("controls_total", "Operations other than turns", _one("controls")),
    _Measure("stragglers_total", "Calls into runtimes that did not end although cancelled", _one("stragglers")),
    _Measure("stragglers_alive", "Those of them that still have not ended", _one("stragglers_now")),
    _Measure("sessions_open", "Live backend sessions", _one("open_handles")),
    _Measure("sessions_suspect", "Live backend sessions that owe an answer", _one("suspects")),
    _Measure("sessions_evicted_total", "Backend sessions closed because they were idle", _one("evicted")),
    _Measure("session_slots_taken", "Backend sessions open, being opened or closed", lambda s: {"": s.capacity.taken}),
    _Measure("session_slots_limit", "How many there may be", lambda s: {"": s.capacity.limit}),
    _Measure(
        "write_failures_total",
        "Writes that failed or took too long",
        _several(
            metadata="store_failures",
            ledger="ledger_failures",
            audit="audit_failures",
            transcript="transcript_failures",
        ),
        "what",
    ),
)
_OURS: Final = {measure.label for measure in _MEASURES}


class StatisticsCollector(Collector):
    """A collector for a registry: `SessionManager.statistics` as metrics.

    It is made in the Trio run of the manager.  One registry takes only one
    collector for each namespace.

    Args:
        manager: Whose numbers.
        namespace: How the names of the metrics begin.
        labels: Labels that every metric gets.
        deadline: Seconds that a scrape in another thread waits for Trio's thread.

    Raises:
        InvalidOption: the namespace or a label's name is none, a label is one
            of ours, or `deadline` is no positive, finite number.
        RuntimeError: it is made outside of Trio.
    """

    def __init__(
        self,
        manager: SessionManager,
        *,
        namespace: str = "trio_acp",
        labels: Mapping[str, str] | None = None,
        deadline: float = 1.0,
    ) -> None:
        self._labels = dict(labels or {})
        if not _NAME.fullmatch(namespace):
            raise InvalidOption(f"{namespace!r} cannot begin the name of a metric", detail="invalid-namespace")
        for name in self._labels:
            if not _NAME.fullmatch(name) or name.startswith("__") or name in _OURS:
                raise InvalidOption(f"{name!r} cannot be the name of a label here", detail="invalid-label")
        if not 0 < deadline < math.inf:
            raise InvalidOption("the deadline of a scrape must be a positive number of seconds", detail="invalid-value")
        self._manager = manager
        self._namespace = namespace
        self._deadline = deadline
        self._token = trio.lowlevel.current_trio_token()

    def describe(self) -> Iterator[Metric]:
        """Yield the metrics without numbers: what a registry must know of their names, however busy Trio is."""
        return self._metrics(None)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now; from any thread, within `deadline` seconds."""
        statistics = self._read()
        for metric in self._metrics(statistics):
            if metric.samples:
                yield metric

    def _read(self) -> Statistics | None:
        if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token:
            return self._manager.statistics()
        answer: Future[Statistics] = Future()

        def tell() -> None:  # in Trio's thread; it raises nothing, which would be the end of the whole run
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(self._manager.statistics())
                except Exception as error:  # noqa: BLE001 - goes to whoever asked
                    answer.set_exception(error)

        try:
            self._token.run_sync_soon(tell)
            return answer.result(self._deadline)
        except (trio.RunFinishedError, TimeoutError):
            answer.cancel()
            return None

    def _metrics(self, statistics: Statistics | None) -> Iterator[Metric]:
        up = GaugeMetricFamily(f"{self._namespace}_up", "Whether the event loop answered", labels=[*self._labels])
        up.add_metric([*self._labels.values()], statistics is not None)
        yield up
        for measure in _MEASURES:
            name = f"{self._namespace}_{measure.name}"
            labels = [*self._labels, measure.label] if measure.label else [*self._labels]
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            metric = family(name, measure.meaning, labels=labels)
            if statistics is not None:
                for value, number in measure.read(statistics).items():
                    if number is not None:
                        metric.add_metric([*self._labels.values(), *([value] if measure.label else [])], number)
            yield metric
