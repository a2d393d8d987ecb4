"""How often one device, and one address, may ask: token buckets, a bounded number of them."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass

from tidegate.control.buckets import Buckets

HERE = frozenset({"127.0.0.1", "::1"})
"""This machine itself: a proxy in front says whom it speaks for, and tests are no crowd."""


BURST_S = 10


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests a second, and as a burst, for one device and for one address; a rate of 0 is no limit.

    A burst is ten seconds' worth unless it is given: whoever sets a lower rate means one.
    Behind one address may be a whole site, so its limit protects the server and not the fleet from one device.
    """

    device_per_s: float = 20.0
    device_burst: int = 0
    address_per_s: float = 1000.0
    address_burst: int = 0

    @property
    def bursts(self) -> tuple[int, int]:
        """Those of one device and of one address, as they hold."""
        device, address = (max(1, round(BURST_S * per_s)) for per_s in (self.device_per_s, self.address_per_s))
        return self.device_burst or device, self.address_burst or address


class Limits:
    """The two limits of the devices' port."""

    def __init__(self, rates: Rates | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        rates = rates or Rates()
        device, address = rates.bursts
        self.devices = Buckets(rates.device_per_s, device, clock=clock)
        self.addresses = Buckets(rates.address_per_s, address, clock=clock)

    def address(self, client: tuple[str, int] | None) -> int:
        """Count a request of an address; give the seconds to wait."""
        if client is None or client[0] in HERE:
            return 0
        return self.addresses.wait_s(network_of(client[0]))


def network_of(address: str) -> str:
    """Give what counts as one address: an IPv6 site has 2**64 of them and more, so its network."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))
