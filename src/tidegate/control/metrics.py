"""What a monitor reads of the controller: counted where it happens, or taken from the state when it is asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tidegate.core.course import limited
from tidegate.core.errors import TidegateError
from tidegate.core.model import PlanState
from tidegate.trust.expiry import role_dates

if TYPE_CHECKING:
    from tidegate.control.controller import Controller
    from tidegate.core.rollout import Rollout

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROLLOUT = ("rollout", "component")


class Meters:
    """What the controller counts while it works. One per controller."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.append = Histogram(
            "tidegate_log_append_seconds", "Time until a batch was durable", buckets=SECONDS, registry=self.registry
        )
        self.batch = Histogram(
            "tidegate_controller_batch_questions",
            "Questions decided together",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
            registry=self.registry,
        )
        self.append_failures = Counter(
            "tidegate_log_append_failures", "Batches that could not be made durable", registry=self.registry
        )
        self.verdicts = Counter(
            "tidegate_verdicts", "Verdicts taken since the start", ("component", "verdict"), registry=self.registry
        )


class ControllerMetrics(Collector):
    """The state at the moment of a scrape: the fleet, the newest rollout of each component, the log, the signatures."""

    def __init__(self, controller: Controller, home: Path | None = None, repository: Path | None = None) -> None:
        self._controller, self._home, self._repository = controller, home, repository

    def collect(self) -> Iterator[Metric]:
        """Give all families."""
        controller = self._controller
        yield _gauge("tidegate_devices", "Devices that were ever enrolled", len(controller.state.devices))
        yield _gauge("tidegate_controller_waiting", "Questions that wait for a decision", controller.waiting)
        yield _gauge("tidegate_controller_trouble", "1 while something keeps it from working", bool(controller.trouble))
        written = CounterMetricFamily("tidegate_log_events", "Events in the log")
        written.add_metric((), controller.last_event)
        yield written
        yield from self._rollouts()
        yield from self._signatures()
        if self._home is not None:
            yield _gauge(
                "tidegate_home_free_bytes", "Free space where the home lies", shutil.disk_usage(self._home).free
            )

    def _rollouts(self) -> Iterator[Metric]:
        state, now_ms = self._controller.state, self._controller.now_ms()
        devices = GaugeMetricFamily(
            "tidegate_rollout_devices", "Devices of a rollout by where they stand", labels=(*_ROLLOUT, "standing")
        )
        phases = GaugeMetricFamily("tidegate_rollout_phase", "1 for the phase it is in", labels=(*_ROLLOUT, "phase"))
        used = GaugeMetricFamily("tidegate_rollout_budget_used", "Devices counted as harmed", labels=_ROLLOUT)
        most = GaugeMetricFamily("tidegate_rollout_budget_max", "Devices that may be harmed", labels=_ROLLOUT)
        opens = GaugeMetricFamily(
            "tidegate_rollout_limit_opens_timestamp_seconds",
            "When the signed speed limit lets the next ring open, while that is what it waits for",
            labels=_ROLLOUT,
        )
        rings = GaugeMetricFamily("tidegate_rollout_ring", "The ring that is open", labels=_ROLLOUT)
        plans = GaugeMetricFamily(
            "tidegate_plan_expires_timestamp_seconds", "When the component's plan expires", labels=("component",)
        )
        components = dict.fromkeys(rollout.spec.component for rollout in state.rollouts.values())
        for rollout in filter(None, map(state.newest_rollout, components)):
            names = (rollout.spec.rollout, rollout.spec.component)
            for standing, count in _standings(rollout, now_ms).items():
                devices.add_metric((*names, standing), count)
            for phase in PlanState:
                phases.add_metric((*names, phase.value), float(rollout.phase is phase))
            waits = limited(rollout, now_ms)
            if waits is not None and waits.until_s is not None:
                opens.add_metric(names, waits.until_s)
            evidence = rollout.evidence
            used.add_metric(names, evidence.reverted + evidence.silent(now_ms, rollout.observe_ms))
            most.add_metric(names, rollout.spec.budget.max_harmed)
            rings.add_metric(names, rollout.ring_open)
        for component, published in state.published.items():
            plans.add_metric((component,), published.plan["expires"])
        yield from (devices, phases, used, most, opens, rings, plans)

    def _signatures(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "tidegate_role_expires_timestamp_seconds", "When a role's signature expires", labels=("role",)
        )
        if self._repository is not None:
            try:
                for date in role_dates(self._repository, self._controller.now_ms() // 1000):
                    family.add_metric((date.role,), date.expires)
            except (OSError, TidegateError):  # a scrape shows what can be read; readiness tells the rest
                return
            yield family


def _standings(rollout: Rollout, now_ms: int) -> dict[str, int]:
    evidence = rollout.evidence
    silent = evidence.silent(now_ms, rollout.observe_ms)
    return {
        "confirmed": evidence.confirmed,
        "reverted": evidence.reverted,
        "silent": silent,
        "pending": evidence.exposed - evidence.confirmed - evidence.reverted - silent,
        "not_exposed": rollout.devices - evidence.exposed,
    }


def _gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, value=float(value))


def make_registry(
    controller: Controller, home: Path | None = None, repository: Path | None = None
) -> CollectorRegistry:
    """Put together what this process shows: the controller, the process itself, and what others register besides."""
    registry = CollectorRegistry()
    registry.register(controller.meters.registry)
    registry.register(ControllerMetrics(controller, home, repository))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
