"""What a devices' port counts for monitors: requests by route and status, how long they took, whom it turned away."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
REFUSED = (401, 403, 412)
"""The statuses of requests that are not trusted: an alert counts them."""
_BOUNDS = (*map(str, SECONDS), "+Inf")


@dataclass(slots=True)
class _Kind:
    """Requests of one route with one status."""

    seconds: float = 0.0
    by_time: list[int] = field(default_factory=lambda: [0] * len(_BOUNDS))
    """How many took at most as long as each bound, and longer than the one before it."""


class IntakeCounts(Collector):
    """The counters of one port; a monitor reads `registry`. They are put into a monitor's form when one asks."""

    def __init__(self, routes: Iterable[str] = ()) -> None:
        """Take the routes of the port. Refusals there count from 0 on, so that a rate sees the first."""
        self._kinds: dict[tuple[str, int], _Kind] = {(route, status): _Kind() for route in routes for status in REFUSED}
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.shed = Counter(
            "tidegate_intake_shed", "Requests turned away because too much waited", registry=self.registry
        )

    def answered(self, route: str, status: int, took_s: float) -> None:
        """Count one request. `route` is one of a fixed few: a label must not grow with what strangers ask."""
        kind = self._kinds.get((route, status))
        if kind is None:
            kind = self._kinds[route, status] = _Kind()
        kind.seconds += took_s
        kind.by_time[bisect_left(SECONDS, took_s)] += 1

    def collect(self) -> Iterator[Metric]:
        """Give all counts (called by the registry)."""
        requests = CounterMetricFamily("tidegate_intake_requests", "Requests of devices", labels=("route", "status"))
        times = HistogramMetricFamily(
            "tidegate_intake_request_seconds", "Time from a request's headers to its answer", labels=("route",)
        )
        routes: dict[str, _Kind] = {}
        for (route, status), kind in list(self._kinds.items()):
            requests.add_metric((route, str(status)), sum(kind.by_time))
            whole = routes.setdefault(route, _Kind())
            whole.seconds += kind.seconds
            whole.by_time = [a + b for a, b in zip(whole.by_time, kind.by_time, strict=True)]
        for route, kind in routes.items():
            bounded = list(zip(_BOUNDS, accumulate(kind.by_time), strict=True))
            times.add_metric((route,), buckets=bounded, sum_value=kind.seconds)
        yield requests
        yield times
