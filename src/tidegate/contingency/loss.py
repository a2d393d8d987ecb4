"""What an outage costs: a loss per sector and hour, spread as the published outages were, with ranges said openly.

The model: loss = rate * sum over services of (share of the business) * integral of the part still down over time.
The part still down falls as in the published hospitals: 58 % of services were back within 6 hours, some after more
than 48; a log-normal through the first figure and with 95 % at 48 hours gives the mean time to return. The rate per
hour of a sector is its published loss per company over that mean. It is a fit to one day: sums are right on
average, single companies are not, so ranges are wide: a factor between companies, taken from how far the one
company whose own figure is known lies from its sector's mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from tidegate.contingency.loss_data import (
    AIRLINE_LOSS,
    BACK_WITHIN_6H,
    FORTUNE_500,
    FORTUNE_500_TOTAL,
    INSURED,
)
from tidegate.core.errors import BadInput

Json = dict[str, Any]
BACK_BY_48H = 0.95
QUANTILE = 0.9
"""Ranges hold this share of single companies, as far as one day can tell."""
SECTORS = tuple(one.sector for one in FORTUNE_500)
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Return:
    """How services come back after July 2024's kind of outage: log-normal hours with this median and spread."""

    median_h: float
    sigma: float

    @property
    def mean_h(self) -> float:
        """Mean hours until a service is back."""
        return self.median_h * math.exp(self.sigma**2 / 2)

    def back_by(self, hours: float) -> float:
        """Give the share of services that are back by then."""
        return _NORMAL.cdf(math.log(hours / self.median_h) / self.sigma) if hours > 0 else 0.0

    def down_until(self, hours: float) -> float:
        """Give the mean hours of downtime up to a moment, per service: the integral of the part still down."""
        if hours <= 0:
            return 0.0
        late = math.log(hours / self.median_h) / self.sigma
        return self.mean_h * _NORMAL.cdf(late - self.sigma) + hours * (1 - _NORMAL.cdf(late))


def published_return() -> Return:
    """Fit the return of services to the published figures."""
    first, last = _NORMAL.inv_cdf(BACK_WITHIN_6H), _NORMAL.inv_cdf(BACK_BY_48H)
    sigma = math.log(48 / 6) / (last - first)
    return Return(6 / math.exp(sigma * first), sigma)


def spread() -> float:
    """Give the standard deviation of the logarithm of a single company's loss around its sector's mean.

    One company's own figure is known (the airline): it lies a factor of its sector's mean away. With one observation
    the estimate is its distance itself.
    """
    airlines = next(one for one in FORTUNE_500 if one.sector == "airlines")
    return math.log(AIRLINE_LOSS / airlines.each)


def rate_per_h(sector: str) -> float:
    """Give the loss of one large company of a sector per hour of full downtime. Raises BadInput."""
    found = next((one for one in FORTUNE_500 if one.sector == sector), None)
    if found is None:
        raise BadInput(f"there is no sector {sector!r}; there are {', '.join(SECTORS)}")
    return found.each / published_return().mean_h


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss in US dollars with its range, for one company; `insured` is the part that insurance may pay."""

    usd: float
    low: float
    high: float
    hours: float

    @property
    def insured(self) -> tuple[float, float]:
        """Give the range of what is insured."""
        return self.usd * INSURED[0], self.usd * INSURED[1]

    def to_dict(self) -> Json:
        """Give it as plain values."""
        low, high = self.insured
        return {
            "usd": round(self.usd),
            "range_usd": [round(self.low), round(self.high)],
            "insured_usd": [round(low), round(high)],
            "service_hours": round(self.hours, 2),
        }


def ranged(usd: float, hours: float, companies: int = 1) -> Loss:
    """Put the range around a loss: of one company wide, of many companies' sum narrower by the square root."""
    width = math.exp(_NORMAL.inv_cdf((1 + QUANTILE) / 2) * spread() / math.sqrt(max(companies, 1)))
    return Loss(usd, usd / width, usd * width, hours)


def estimate(
    sector: str, *, hours: float | None = None, share: float = 1.0, size: float = 1.0, companies: int = 1
) -> Loss:
    """Estimate a loss.

    Args:
        sector: one of SECTORS.
        hours: the service is down so long; None: services return as they did in July 2024.
        share: of the business that the service carries, 0 to 1; or of the machines that are down.
        size: of the company, 1 for the mean one of the sector's published figures.
        companies: how many such companies together.

    Raises:
        BadInput: for a sector that is not known, or a share above 1.
    """
    if not 0 <= share <= 1 or size < 0 or companies < 1 or (hours is not None and hours < 0):
        raise BadInput("share must be 0 to 1, size and hours not negative, companies at least 1")
    down = published_return().mean_h if hours is None else hours
    return ranged(rate_per_h(sector) * down * share * size * companies, down, companies)


def so_far(sector: str, elapsed_h: float, *, share: float = 1.0, size: float = 1.0) -> tuple[Loss, Loss]:
    """Estimate during an incident: what is lost by now, and what will be when all is back as in July 2024."""
    down = published_return().down_until(elapsed_h)
    rate = rate_per_h(sector) * share * size
    return ranged(rate * down, down), ranged(rate * published_return().mean_h, published_return().mean_h)


def saved(loss: Loss, devices: int, *, max_harmed: int = 0, cap: int = 0, vendors: int = 1) -> list[Json]:
    """Say what a budget, a cap or a second vendor would have saved of a loss.

    A loss is taken to grow in proportion to the devices that are down at once. A budget holds them below `max_harmed`,
    a cap below `cap` in a group; with v vendors, equally shared, one vendor's fault takes 1/v of them, and where
    services have alternatives (lanes), none of those falls.
    """
    rows: list[Json] = []

    def add(what: str, down: float, note: str) -> None:
        left = min(down / devices, 1.0) if devices else 1.0
        rows.append({"what": what, "devices_down": round(down), "loss": ranged(loss.usd * left, loss.hours).to_dict(),
                     "saved_usd": round(loss.usd * (1 - left)), "note": note})  # fmt: skip

    if max_harmed:
        add(f"a budget of {max_harmed:,} devices", min(max_harmed, devices), "promised for the whole rollout")
    if cap:
        add(f"a cap of {cap:,} devices at once", min(cap, devices), "until they are healthy again or retired")
    if vendors > 1:
        add(f"{vendors} vendors in equal shares", devices / vendors, "if services need all devices alike")
        add(f"{vendors} vendors in lanes", 0, "if each service lives on either vendor's devices")
    return rows


def back_test() -> list[Json]:
    """Hold the model against the published sums, with its error; and say which rows it was fitted on.

    Sectors are held out one by one: each is predicted with the rate that all others give together per company, which is
    what one would have had to say of a sector without a figure.
    """
    rows: list[Json] = []
    for one in FORTUNE_500:
        fitted = estimate(one.sector, companies=one.companies)
        others = [other for other in FORTUNE_500 if other.sector != one.sector]
        blind = sum(o.usd for o in others) / sum(o.companies for o in others) * one.companies
        rows.append(_row(f"Fortune 500, {one.sector}", one.usd, fitted, "fitted", blind))
    total = sum(estimate(one.sector, companies=one.companies).usd for one in FORTUNE_500)
    companies = sum(one.companies for one in FORTUNE_500)
    rows.append(_row("Fortune 500, all", FORTUNE_500_TOTAL, ranged(total, 0, companies), "fitted", None))
    airline = estimate("airlines")
    rows.append(_row("one airline", AIRLINE_LOSS, airline, "not fitted, but sets the range", None))
    return rows


def _row(name: str, published: float, model: Loss, how: str, blind: float | None) -> Json:
    return {
        "name": name,
        "published_usd": round(published),
        "model_usd": round(model.usd),
        "range_usd": [round(model.low), round(model.high)],
        "error": round(model.usd / published - 1, 4),
        "how": how,
        "held_out_usd": None if blind is None else round(blind),
        "held_out_error": None if blind is None else round(blind / published - 1, 4),
    }
