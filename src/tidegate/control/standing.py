"""Which plans stand in the repository, which are on record but do not stand yet, and when to try again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidegate.control.plans import RENEW_S, says_the_same
from tidegate.control.state import Published
from tidegate.core.model import Plan
from tidegate.core.wire import plain
from tidegate.log.events import PlanPublished

PUBLISH_AGAIN_S = 5.0
"""A disk that takes no plan is not asked at every tick."""


@dataclass(slots=True)
class Standing:
    """What a controller knows of its own publications; after a start it knows nothing."""

    must: bool = True
    """Whether to publish whatever the plans say: a release has come, or what stands is not known."""
    may_catch_up: bool = True
    """Until its first publication, what else was published is its predecessor's."""
    plans: dict[str, Published] = field(default_factory=dict[str, Published])
    """Plans that are known to stand, by component; a record is no proof of it."""
    recorded: list[PlanPublished] | None = None
    """What is on record and could not be put in its place."""
    trouble: str = ""
    """Why what should stand does not."""
    again_at: float = 0.0

    def waits(self, now: float) -> bool:
        """Say whether a failed publication is too fresh to try again; a clock set back makes nothing wait longer."""
        return now < self.again_at <= now + PUBLISH_AGAIN_S

    def recorded_for(self, plans: Mapping[str, Plan], version: int, now_s: int) -> list[PlanPublished] | None:
        """Give what is on record, where putting just that in its place is enough: else a record for each try."""
        events = self.recorded
        if events is None or {event.component for event in events} != set(plans):
            return None
        for event in events:
            same = says_the_same(event.plan, plans[event.component])
            if event.version != version or not same or event.plan["expires"] - now_s <= RENEW_S:
                return None
        return events

    def begins(self, events: list[PlanPublished]) -> None:
        """All of this is on record, and is about to be put in its place; who asks from now on asks for another."""
        self.recorded, self.must = events, False

    def done(self, published: Mapping[str, Published]) -> None:
        """Note that what the state says is published does stand."""
        self.plans, self.recorded, self.may_catch_up, self.trouble = dict(published), None, False, ""

    def failed(self, now: float, trouble: str) -> None:
        """Note that it could not be put in its place, and why."""
        self.must, self.again_at, self.trouble = True, now + PUBLISH_AGAIN_S, trouble


def published_events(plans: Mapping[str, Plan], version: int, now_ms: int) -> list[PlanPublished]:
    """Put plans on record, under the version that they will have."""
    made: list[PlanPublished] = []
    for component, plan in plans.items():
        body: dict[str, Any] = plain(plan)
        made.append(PlanPublished(at_ms=now_ms, component=component, rollout=plan.rollout, version=version, plan=body))
    return made
