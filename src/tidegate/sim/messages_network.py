"""Between devices and server: delay, loss, repetition, disorder, outages; and who is switched off."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.sim.messages_clock import Timeline

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Weather:
    """How badly messages fare and how often the server dies, beyond the faults that a scenario names.

    Attributes:
        latency_s: shortest and longest way of a message, in seconds.
        loss, repeat, straggle: shares of messages that are lost, come twice, or take up to `straggle_s`, so that later
            ones overtake them.
        crash_every_s: mean time between the server's deaths; 0 for none.
        down_s: how long it is away each time.
        site_devices: devices that share a site; 0 for no sites.
        site_down_s: a harmed device takes its whole site down for so long: the interference that the promise excludes.
    """

    latency_s: tuple[float, float] = (0.02, 0.2)
    loss: float = 0.0
    repeat: float = 0.0
    straggle: float = 0.0
    straggle_s: float = 120.0
    crash_every_s: float = 0.0
    down_s: float = 20.0
    site_devices: int = 0
    site_down_s: float = 0.0


CALM = Weather()
STORM = Weather((0.02, 2.0), loss=0.1, repeat=0.1, straggle=0.05, crash_every_s=900.0, down_s=30.0)
WEATHER = {"calm": CALM, "storm": STORM}


@dataclass(frozen=True, slots=True)
class Outage:
    """Some devices, from `start_ms` until `end_ms`, cannot do something: `reports`, `anything`, or be `on` at all."""

    what: str
    start_ms: int
    end_ms: int
    devices: Mask

    def hits(self, index: int, now_ms: int) -> bool:
        return self.start_ms <= now_ms < self.end_ms and bool(self.devices[index])


class Network:
    """Carries messages both ways, and knows who is cut off."""

    def __init__(self, timeline: Timeline, rng: random.Random, weather: Weather, outages: Sequence[Outage]) -> None:
        self._timeline, self._rng, self._weather = timeline, rng, weather
        self._outages = list(outages)
        self._site_down_ms: dict[int, int] = {}
        self.sent = self.lost = self.repeated = 0

    def send(self, index: int, what: str, act: Callable[..., None], *args: Any) -> None:
        """Carry one message of or for device `index`; `what` is "reports" or "announce"."""
        self.sent += 1
        weather, rng = self._weather, self._rng
        if self.cut_off(index, what) or (weather.loss and rng.random() < weather.loss):
            self.lost += 1
            return
        self._timeline.after(self._way_s(), act, *args)
        if weather.repeat and rng.random() < weather.repeat:
            self.repeated += 1
            self._timeline.after(self._way_s(), act, *args)

    def way_s(self) -> float:
        """Give the time that one ordinary message takes."""
        return self._rng.uniform(*self._weather.latency_s)

    def cut_off(self, index: int, what: str) -> bool:
        """Say whether device `index` cannot send `what` ("reports", "announce") or "read" at this moment."""
        now_ms = self._timeline.now_ms
        return any(
            outage.hits(index, now_ms) and (outage.what != "reports" or what == "reports") for outage in self._outages
        ) or self._site_is_down(index)

    def off_until_ms(self, index: int) -> int:
        """Give the time until which device `index` is switched off; 0 if it is on."""
        now_ms = self._timeline.now_ms
        ends = [o.end_ms for o in self._outages if o.what == "on" and o.hits(index, now_ms)]
        if self._site_is_down(index):
            ends.append(self._site_down_ms[index // self._weather.site_devices])
        return max(ends, default=0)

    def take_site_down(self, index: int) -> None:
        """Let a harmed device take down everyone that shares its site."""
        weather = self._weather
        if weather.site_devices and weather.site_down_s:
            end_ms = self._timeline.now_ms + round(weather.site_down_s * 1000)
            site = index // weather.site_devices
            self._site_down_ms[site] = max(end_ms, self._site_down_ms.get(site, 0))

    def site_was_hit(self, index: int) -> bool:
        """Say whether a harmed device has taken this device's site down, now or before."""
        return bool(self._weather.site_devices) and index // self._weather.site_devices in self._site_down_ms

    def _site_is_down(self, index: int) -> bool:
        if not self._site_down_ms:
            return False
        return self._site_down_ms.get(index // self._weather.site_devices, 0) > self._timeline.now_ms

    def _way_s(self) -> float:
        way_s = self.way_s()
        if self._weather.straggle and self._rng.random() < self._weather.straggle:
            way_s += self._rng.uniform(0.0, self._weather.straggle_s)
        return way_s
