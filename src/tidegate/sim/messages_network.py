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


LATENCY_S = (0.02, 0.2)
"""Shortest and longest way of an ordinary message."""
STRAGGLE_S = 120.0
"""How long a message may take that others overtake."""


@dataclass(frozen=True, slots=True)
class Noise:
    """From `start_ms` to `end_ms` this share of messages is lost, as many come twice, and as many are overtaken."""

    start_ms: int
    end_ms: int
    share: float


@dataclass(frozen=True, slots=True)
class Spill:
    """Interference: a harmed device takes its site down for `down_ms`, if its site is one of those that can be."""

    start_ms: int
    end_ms: int
    down_ms: int
    site_devices: int
    sites: Mask


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

    def __init__(
        self,
        timeline: Timeline,
        rng: random.Random,
        outages: Sequence[Outage],
        noises: Sequence[Noise],
        spills: Sequence[Spill],
    ) -> None:
        self._timeline, self._rng = timeline, rng
        self._outages, self._noises, self._spills = list(outages), list(noises), list(spills)
        self._site_down_ms: dict[tuple[int, int], int] = {}
        self.sent = self.lost = self.repeated = 0

    def send(self, index: int, what: str, act: Callable[..., None], *args: Any) -> None:
        """Carry one message of or for device `index`; `what` is "reports" or "announce"."""
        self.sent += 1
        rng, noise = self._rng, self._noise()
        if self.cut_off(index, what) or (noise and rng.random() < noise):
            self.lost += 1
            return
        self._timeline.after(self._way_s(noise), act, *args)
        if noise and rng.random() < noise:
            self.repeated += 1
            self._timeline.after(self._way_s(noise), act, *args)

    def way_s(self) -> float:
        """Give the time that one ordinary message takes."""
        return self._rng.uniform(*LATENCY_S)

    def cut_off(self, index: int, what: str) -> bool:
        """Say whether device `index` cannot send `what` ("reports", "announce") or "read" at this moment."""
        now_ms = self._timeline.now_ms
        return any(
            outage.hits(index, now_ms) and (outage.what != "reports" or what == "reports") for outage in self._outages
        ) or bool(self._down_ms(index))

    def off_until_ms(self, index: int) -> int:
        """Give the time until which device `index` is switched off; 0 if it is on."""
        now_ms = self._timeline.now_ms
        ends = [o.end_ms for o in self._outages if o.what == "on" and o.hits(index, now_ms)]
        return max([*ends, *self._down_ms(index)], default=0)

    def take_site_down(self, index: int) -> None:
        """Let a harmed device take down everyone that shares its site."""
        now_ms = self._timeline.now_ms
        for place, spill in enumerate(self._spills):
            site = index // spill.site_devices
            if spill.start_ms <= now_ms < spill.end_ms and spill.sites[site]:
                self._site_down_ms[place, site] = now_ms + spill.down_ms

    def _down_ms(self, index: int) -> list[int]:
        """When the sites of a device that are down come up again."""
        if not self._site_down_ms:
            return []
        now_ms = self._timeline.now_ms
        found = (
            self._site_down_ms.get((place, index // spill.site_devices), 0) for place, spill in enumerate(self._spills)
        )
        return [end_ms for end_ms in found if end_ms > now_ms]

    def _noise(self) -> float:
        now_ms = self._timeline.now_ms
        calm = 1.0
        for noise in self._noises:
            if noise.start_ms <= now_ms < noise.end_ms:
                calm *= 1.0 - noise.share
        return 1.0 - calm

    def _way_s(self, noise: float) -> float:
        way_s = self.way_s()
        if noise and self._rng.random() < noise:
            way_s += self._rng.uniform(0.0, STRAGGLE_S)
        return way_s
