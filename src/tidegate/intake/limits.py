"""How often one device, and one address, may ask: token buckets, a bounded number of them."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

MOST_KEYS = 100_000
HERE = frozenset({"127.0.0.1", "::1"})
"""This machine itself: a proxy in front says whom it speaks for, and tests are no crowd."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests a second, and as a burst, for one device and for one address; a rate of 0 is no limit.

    Behind one address may be a whole site, so its limit protects the server and not the fleet from one device.
    """

    device_per_s: float = 20.0
    device_burst: int = 200
    address_per_s: float = 1000.0
    address_burst: int = 10_000


class Buckets:
    """A bucket for each key, filled at `per_s` up to `burst`; the longest unused makes room for a new one."""

    def __init__(
        self, per_s: float, burst: int, most: int = MOST_KEYS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s, self._burst, self._most, self._clock = per_s, burst, most, clock
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait_s(self, key: Hashable) -> int:
        """Take one from the key's bucket; give 0, or the whole seconds after which there will be one."""
        if self._per_s <= 0:
            return 0
        now = self._clock()
        left, at = self._buckets.pop(key, (float(self._burst), now))
        left = min(float(self._burst), left + max(0.0, now - at) * self._per_s)
        allowed = left >= 1.0
        self._buckets[key] = (left - 1.0 if allowed else left, now)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((1.0 - left) / self._per_s))


class Limits:
    """The two limits of the devices' port."""

    def __init__(self, rates: Rates | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        rates = rates or Rates()
        self.devices = Buckets(rates.device_per_s, rates.device_burst, clock=clock)
        self.addresses = Buckets(rates.address_per_s, rates.address_burst, clock=clock)

    def address(self, client: tuple[str, int] | None) -> int:
        """Count a request of an address; give the seconds to wait."""
        if client is None or client[0] in HERE:
            return 0
        return self.addresses.wait_s(_network(client[0]))


def _network(address: str) -> str:
    """An IPv6 site has 2**64 addresses and more: what counts is its network."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))
