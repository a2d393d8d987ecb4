"""What a devices' port counts for monitors: requests by route and status, how long they took, whom it turned away."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class IntakeCounts:
    """The counters of one port; a monitor reads `registry`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "tidegate_intake_requests", "Requests of devices", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "tidegate_intake_request_seconds",
            "Time from a request's headers to its answer",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.shed = Counter(
            "tidegate_intake_shed", "Requests turned away because too much waited", registry=self.registry
        )

        self._known: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def answered(self, route: str, status: int, took_s: float) -> None:
        """Count one request. `route` is one of a fixed few: a label must not grow with what strangers ask."""
        known = self._known.get((route, status))
        if known is None:  # looking a label up costs more than counting
            known = self.requests.labels(route, str(status)), self.seconds.labels(route)
            self._known[route, status] = known
        known[0].inc()
        known[1].observe(took_s)
