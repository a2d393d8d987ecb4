"""Do failures cluster? Groups that failed far more often than all others; placebo devices beside treated ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.core.caps import Group
from tidegate.core.looks_special import hypergeometric_cdf

LEAST_FAILED = 2
TOKEN = "token"
"""The group that devices share by the token that they enrolled with; a label of this name is counted besides."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A group that stands out.

    Attributes:
        group: label and value, or ("token", its id).
        exposed, failed: devices of the group that were exposed, and those that reverted or fell silent.
        of_exposed, of_failed: the same over the whole rollout.
        chance: how likely it is that any group stands out so far, if failures fell on the exposed at random.
    """

    group: Group
    exposed: int
    failed: int
    of_exposed: int
    of_failed: int
    chance: float

    @property
    def sentence(self) -> str:
        """For a person, with both readings: counts cannot tell liars from a defect that these devices share."""
        name, value = self.group
        odds = f"1 in {1 / self.chance:,.0f}" if self.chance > 1e-12 else "1 in a million million"
        return (
            f"{self.failed:,} of {self.of_failed:,} failures are devices of {name}={value}, which has {self.exposed:,}"
            f" of {self.of_exposed:,} exposed (by chance {odds}): either the candidate harms what they share, or they"
            " lie"
        )


def clusters(
    exposed: Mapping[Group, int], failed: Mapping[Group, int], of_exposed: int, of_failed: int, level: float = 1e-3
) -> tuple[Cluster, ...]:
    """Find the groups whose devices failed more often than chance explains, the least likely first.

    Given who was exposed and how many failed, the failures of a group are hypergeometric if they fall on the exposed at
    random; the tail is multiplied by the number of groups looked at (Bonferroni).

    Args:
        exposed: exposed devices by group; a group that holds everyone tells nothing.
        failed: those of them that reverted or fell silent.
        of_exposed, of_failed: of the whole rollout.
        level: the chance up to which a group is named.

    Raises:
        ValueError: for more failures than exposed devices.
    """
    if of_failed > of_exposed or any(failed[group] > exposed.get(group, 0) for group in failed):
        raise ValueError("no more devices can have failed than were exposed")
    looked = [group for group, count in exposed.items() if 0 < count < of_exposed]
    found: list[Cluster] = []
    for group in looked:
        count = failed.get(group, 0)
        if count < LEAST_FAILED:
            continue
        below = hypergeometric_cdf(of_exposed, of_failed, exposed[group])
        chance = max(1.0 - float(below[count - 1]), _point(of_exposed, of_failed, exposed[group], count))
        chance = min(1.0, chance * len(looked))
        if chance <= level:
            found.append(Cluster(group, exposed[group], count, of_exposed, of_failed, chance))
    return tuple(sorted(found, key=lambda cluster: (cluster.chance, -cluster.failed, cluster.group)))


@dataclass(frozen=True, slots=True)
class Spill:
    """Placebo devices that share a site with treated ones, beside those that do not: the sign of interference.

    Attributes:
        beside, beside_failed: placebo devices with a treated neighbour, and those that failed.
        apart, apart_failed: the others.
        chance: how likely so many failures fall beside treated devices, if the candidate harms nobody but its own
            device. Sites go down as a whole, so it is a sign to look at and no proof.
    """

    beside: int
    beside_failed: int
    apart: int
    apart_failed: int
    chance: float

    @property
    def sentence(self) -> str:
        """For a person."""
        return (
            f"placebo devices beside treated ones fail more often ({self.beside_failed:,} of {self.beside:,}) than"
            f" those apart ({self.apart_failed:,} of {self.apart:,}): the candidate may take its neighbours down, and"
            " then max_harmed does not bound the harm: pause and look"
        )


def spill_over(beside: int, beside_failed: int, apart: int, apart_failed: int) -> Spill:
    """Compare placebo devices that share a site with treated ones with those that do not (hypergeometric tail).

    Raises:
        ValueError: for counts that cannot be.
    """
    if not (0 <= beside_failed <= beside and 0 <= apart_failed <= apart):
        raise ValueError("no more devices can have failed than there are")
    chance = 1.0
    if beside and apart and beside_failed:
        total, failed = beside + apart, beside_failed + apart_failed
        below = hypergeometric_cdf(total, failed, beside)
        chance = min(1.0, max(1.0 - float(below[beside_failed - 1]), _point(total, failed, beside, beside_failed)))
    return Spill(beside, beside_failed, apart, apart_failed, chance)


def _point(total: int, marked: int, drawn: int, count: int) -> float:
    """P(H = count): a floor below which 1 - P(H < count) is rounded away."""
    logs = _log_choose(drawn, count) + _log_choose(total - drawn, marked - count) - _log_choose(total, marked)
    return math.exp(logs)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
