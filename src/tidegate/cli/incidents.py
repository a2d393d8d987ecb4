"""The incidents of this control plane and their clocks, as several commands read them."""

from __future__ import annotations

from pathlib import Path

from tidegate.cli.book import now_ms, open_book, write
from tidegate.cli.halts import Source, incident_of
from tidegate.contingency.clocks import Clock, Facts, cra_clocks, dora_clocks, nis2_clocks
from tidegate.contingency.days_off import entity_of
from tidegate.contingency.incident import OPENED, Incident, fold, new_name
from tidegate.core.errors import NotFound


def all_incidents(home: Path | None) -> dict[str, Incident]:
    """Give all incidents; a halted rollout that has none yet opens one."""
    found = fold(open_book(home).read())
    known = {one.rollout for one in found.values()}
    try:
        source = Source(home)
    except NotFound:
        return found  # no control plane here: the book stands for itself
    fresh = [view for view in source.halted() if view["rollout"] not in known]
    for view in fresh:
        body = {"incident": new_name(found, now_ms()), **incident_of(source, view)}
        write(home, OPENED, body, who="tidegate", why=f"rollout {view['rollout']} was halted")
        found = fold(open_book(home).read())
    return found


def clocks_of(incident: Incident) -> list[Clock]:
    """Give all clocks of an incident. Raises BadInput for a country or time zone that is none."""
    facts = Facts(
        aware=incident.moment("aware"),
        classified=incident.moment("classified"),
        fix_available=incident.moment("fix_available"),
        kind=str(incident.values.get("kind") or "incident"),
        sent=incident.sent,
    )
    return [*dora_clocks(facts, entity_of(incident.values)), *nis2_clocks(facts), *cra_clocks(facts)]
