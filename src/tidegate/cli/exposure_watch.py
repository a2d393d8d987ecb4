"""Exposure watched: computed anew when the estate or the inventory changes, recorded, measured, and told."""

from __future__ import annotations

import hashlib
import hmac
import json as jsonlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server, write_to_textfile

from tidegate.cli.show import moment, out, out_json
from tidegate.control.strangers import Asker
from tidegate.core.errors import BadInput, TidegateError
from tidegate.exposure.analyse import analyse
from tidegate.exposure.estate import DeviceClass
from tidegate.exposure.history import append_record, read_history, record_of
from tidegate.exposure.reading import read_estate
from tidegate.trust.durable import read_bytes

TIMEOUT_S = 10.0
MOST_ANSWER = 64 * 1024
LOOPBACK = "127.0.0.1"
SIGNATURE = "x-tidegate-signature"


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to tell of new single points of failure; with a secret, each message carries its HMAC-SHA256."""

    url: str
    secret: bytes = b""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInput("--webhook must be an http or https address")

    @property
    def host(self) -> str:
        """What may be shown of it: the rest can hold a secret."""
        return urlsplit(self.url).hostname or ""

    def tell(self, message: dict[str, Any]) -> str:
        """Send one message; give what went wrong, or nothing. The receiver knows repeats by their `id`."""
        data = jsonlib.dumps(message, sort_keys=True).encode()
        headers = {"content-type": "application/json"}
        if self.secret:
            headers[SIGNATURE] = "sha256=" + hmac.new(self.secret, data, hashlib.sha256).hexdigest()
        try:
            with Asker() as asker:
                reply = asker.ask(
                    "POST", self.url, most=MOST_ANSWER, deadline_s=TIMEOUT_S, content=data, headers=headers
                )
        except httpx.HTTPError as error:
            return f"{self.host} does not answer ({type(error).__name__})"
        return "" if reply.is_success else f"{self.host} answered {reply.status}"


class Metrics:
    """What a monitor reads, by HTTP on loopback or from a file for its collector."""

    def __init__(self, file: Path | None, port: int | None) -> None:
        """Begin; `port` 0 takes a free one. Raises BadInput for a port that is taken."""
        self.registry, self.file = CollectorRegistry(), file
        self._gauges = {
            key: Gauge(f"tidegate_exposure_{key}", words, registry=self.registry)
            for key, words in (
                ("single_point_services", "Services that fall if one vendor fails"),
                ("value_at_risk_ratio", "Largest share of the service value that one vendor takes"),
                ("hhi", "Herfindahl index of the vendors' shares"),
                ("hhi_failure_weighted", "Sum of squares of the vendors' loss shares"),
                ("fatal_pairs", "Pairs of vendors that take more together than alone"),
                ("unknown_devices", "Devices that carry something of unknown vendor"),
                ("devices", "Devices in the estate"),
                ("computed_timestamp_seconds", "When exposure was last computed"),
            )
        }
        self.new = Counter(
            "tidegate_exposure_new_single_points", "New single points of failure", registry=self.registry
        )
        self.failed = Counter("tidegate_exposure_failures", "Rounds that could not be computed", registry=self.registry)
        self.port = 0
        if port is not None:
            try:
                server, _ = start_http_server(port, addr=LOOPBACK, registry=self.registry)
            except OSError as error:
                raise BadInput(f"--metrics-port {port}: {error.strerror or error}") from error
            self.port = server.server_port

    def show(self, record: dict[str, Any], now_s: float) -> None:
        """Take over a record."""
        values = {
            "single_point_services": len(record["single_points"]),
            "value_at_risk_ratio": record["value_at_risk"],
            "hhi": record["hhi"],
            "hhi_failure_weighted": record["hhi_failure_weighted"],
            "fatal_pairs": record["pairs"],
            "unknown_devices": record["unknown_devices"],
            "devices": record["devices"],
            "computed_timestamp_seconds": now_s,
        }
        for key, value in values.items():
            self._gauges[key].set(value)
        self.write()

    def write(self) -> None:
        """Write the file, if there is one. Raises BadInput."""
        if self.file is not None:
            try:
                write_to_textfile(str(self.file), self.registry)
            except OSError as error:
                raise BadInput(f"{self.file}: {error.strerror or error}") from error


@dataclass(slots=True)
class Watcher:
    """One estate under watch. `round` does all that is due once."""

    estate: Path
    history: Path
    webhooks: Sequence[Webhook]
    metrics: Metrics
    json: bool = False
    _inputs: str = ""
    _records: list[dict[str, Any]] = field(default_factory=lambda: [])

    def begin(self) -> None:
        """Take up what is on record. Raises BadInput."""
        self._records = read_history(self.history)

    def round(self, devices: list[DeviceClass], now_s: float) -> None:
        """Compute if something has changed, record it, and tell what has not been told. Raises BadInput."""
        inputs = _digest(self.estate, devices)
        if inputs != self._inputs:
            before = self._records[-1] if self._records else None
            record = record_of(analyse(read_estate(self.estate, devices)), now_s, before)
            if before is None or record["digest"] != before["digest"]:
                append_record(self.history, record)
                self._records.append(record)
                self.metrics.new.inc(len(record["new"]))
                self._say(record)
            self._inputs = inputs
        self.metrics.show(self._records[-1], now_s)
        self._tell()

    def _say(self, record: dict[str, Any]) -> None:
        if self.json:
            out_json(record)
            return
        out(
            f"{moment(int(record['at_s'] * 1000))}: {len(record['single_points'])} of {record['services']}"
            f" services fall with one vendor; one vendor takes up to {record['value_at_risk']:.0%} of the value."
        )
        for one in record["new"]:
            out(f"New: {one['service']} falls with {one['vendor']} alone.")
        for one in record["gone"]:
            out(f"Gone: {one['service']} no longer falls with {one['vendor']} alone.")

    def _tell(self) -> None:
        for record in self._records:
            if record["told"]:
                continue
            keys = ("at_s", "new", "single_points", "value_at_risk")
            message = {"event": "new_single_point", "id": record["digest"], **{key: record[key] for key in keys}}
            troubles = [trouble for hook in self.webhooks if (trouble := hook.tell(message))]
            for trouble in troubles:
                print(f"tidegate: {trouble}; it will be told again", file=sys.stderr)
            if not troubles:
                append_record(self.history, {"told_of": record["digest"]})
                record["told"] = True


def _digest(estate: Path, devices: list[DeviceClass]) -> str:
    rows = sorted((d.count, d.components, sorted(d.labels.items())) for d in devices)
    return hashlib.sha256(read_bytes(estate, "the estate") + repr(rows).encode()).hexdigest()


def keep_watching(watcher: Watcher, devices: Any, every_s: float, once: bool) -> None:
    """Do round after round. What goes wrong in the first is an error; later it is said, counted, and tried again."""
    watcher.begin()
    watcher.round(devices(), time.time())
    while not once:
        time.sleep(every_s)
        try:
            watcher.round(devices(), time.time())
        except TidegateError as error:
            watcher.metrics.failed.inc()
            watcher.metrics.write()
            print(f"tidegate: {error}", file=sys.stderr)
