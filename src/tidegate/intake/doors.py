"""How many connections a port may have open, and one address of them; what was refused and dropped, for monitors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tidegate.intake.limits import HERE, network_of

PATIENCE_S = 30.0
"""So long may a request take to come whole, a TLS handshake, and a pause in reading an answer."""
SHARE = 4
"""One address may have this part of a port's connections: behind it may be a large site."""
LEAST_SHARE = 16


@dataclass(slots=True)
class Door:
    """The connections of one port. `most` and `share` of 0 bound nothing."""

    name: str = ""
    most: int = 0
    share: int = 0
    patience_s: float = PATIENCE_S
    most_bytes: int = 0
    """Of a request that is not whole yet; 0: the application bounds its body."""
    body_bytes_per_s: int = 0
    """A body may take longer than patience has it as long as it keeps this pace; 0: it may not."""
    open: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    failures: int = 0
    """How often the system could not accept a connection (no file left)."""
    make_room: Callable[[str | None], bool] | None = None
    """Frees a place that somebody holds for nothing: of anybody, or of one address."""
    _by_address: dict[str, int] = field(default_factory=dict)

    def enter(self, address: str) -> str | None:
        """Let one connection in; give what `leave` needs to know, or None if it is refused."""
        if self.most and self.open >= self.most and not self._made_room(None):
            self.refused["full"] += 1
            return None
        who = ""
        if self.share and address and address not in HERE:
            who = network_of(address)
            if self._by_address.get(who, 0) >= self.share and not self._made_room(who):
                self.refused["share"] += 1
                return None
            self._by_address[who] = self._by_address.get(who, 0) + 1
        self.open += 1
        return who

    def _made_room(self, who: str | None) -> bool:
        if self.make_room is None or not self.make_room(who):
            return False
        self.dropped["room"] += 1
        return True

    def leave(self, who: str) -> None:
        """Count one connection less."""
        self.open -= 1
        if who:
            left = self._by_address[who] - 1
            if left:
                self._by_address[who] = left
            else:
                del self._by_address[who]


def share_of(most: int) -> int:
    """Give the connections that one address may have of so many."""
    return min(most, max(most // SHARE, LEAST_SHARE))


class DoorMetrics(Collector):
    """What monitors see of the ports of a process."""

    def __init__(self, doors: Iterable[Door]) -> None:
        self._doors = tuple(doors)

    def collect(self) -> Iterator[Metric]:
        """Give all counts (called by a registry)."""
        now = GaugeMetricFamily("tidegate_connections_open", "Open connections", labels=("port",))
        most = GaugeMetricFamily("tidegate_connections_max", "Connections that may be open", labels=("port",))
        refused = CounterMetricFamily(
            "tidegate_connections_refused",
            "Connections closed at once, because all may not be more, or those of one address",
            labels=("port", "why"),
        )
        dropped = CounterMetricFamily(
            "tidegate_connections_dropped",
            "Connections dropped: a request or a handshake took too long, an answer was not read, others needed room",
            labels=("port", "why"),
        )
        failed = CounterMetricFamily(
            "tidegate_connections_accept_failures", "Times that no connection could be accepted", labels=("port",)
        )
        for door in self._doors:
            now.add_metric((door.name,), door.open)
            most.add_metric((door.name,), door.most)
            failed.add_metric((door.name,), door.failures)
            for why in ("full", "share"):
                refused.add_metric((door.name, why), door.refused[why])
            for why in ("handshake", "request", "room", "size", "unread"):
                dropped.add_metric((door.name, why), door.dropped[why])
        yield from (now, most, refused, dropped, failed)
