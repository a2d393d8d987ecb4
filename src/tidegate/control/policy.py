"""What one operator may not do alone, and what devices must prove: the control plane's settings, on record."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.core.errors import BadInput


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings. A number of 0 is no limit: out of the box one person may do everything, as on a trial.

    `devices_alone`: one person may start on up to so many devices; `harmed_alone`: and put up to so many at risk.
    `raise_needs_two`: a component's 30-day limit is raised by two. Going on after a halt always takes two.
    `signed_reports`: reports count only with the device's own signature.
    """

    devices_alone: int = 0
    harmed_alone: int = 0
    raise_needs_two: bool = False
    approval_expires_s: int = 86_400
    signed_reports: bool = False

    @property
    def takes_two(self) -> bool:
        """Whether anything takes two people: then one may not undo that alone."""
        return bool(self.devices_alone or self.harmed_alone or self.raise_needs_two)

    def check(self) -> None:
        """Refuse numbers that cannot be. Raises BadInput."""
        if self.devices_alone < 0 or self.harmed_alone < 0:
            raise BadInput("devices_alone and harmed_alone are numbers of devices; 0 is no limit")
        if not 60 <= self.approval_expires_s <= 30 * 86_400:
            raise BadInput("a request for approval lasts from a minute to 30 days")

    def loosens(self, old: Policy) -> bool:
        """Say whether this allows one person more than before."""
        more = any(
            before and (after == 0 or after > before)
            for before, after in ((old.devices_alone, self.devices_alone), (old.harmed_alone, self.harmed_alone))
        )
        fewer = (old.raise_needs_two and not self.raise_needs_two) or (old.signed_reports and not self.signed_reports)
        return more or fewer or self.approval_expires_s > old.approval_expires_s
