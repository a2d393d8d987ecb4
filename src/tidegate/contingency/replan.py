"""Planning again while people work: what is done stays done, and everyone goes on from where they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from tidegate.contingency.case import Batch, Case, Service, Technician
from tidegate.contingency.schedule import Schedule


def remaining(case: Case, done: Mapping[int, int], gone: Mapping[int, int], people: tuple[Technician, ...]) -> Case:
    """Give the case that is left.

    Args:
        case: the case as it began.
        done: batch -> devices of it that are repaired or being repaired.
        gone: batch -> devices that cannot be repaired; a service that cannot get what it needs without them is kept
            with what it can get, and it is for the caller to say so.
        people: the technicians, each with the place and the hour from which they are free.
    """
    batches = tuple(
        replace(batch, count=batch.count - done.get(at, 0) - gone.get(at, 0)) for at, batch in enumerate(case.batches)
    )
    have, back = Counter[str](), Counter[str]()
    for at, batch in enumerate(batches):
        have[batch.service] += batch.count
        back[batch.service] += done.get(at, 0)
    services = {
        name: replace(service, needs=min(max(service.needs - back[name], 0), have[name]))
        for name, service in case.services.items()
    }
    return replace(case, technicians=people, services=services, batches=batches)


def as_it_stands(made: Schedule, at_h: float) -> Case:
    """Give what is left at an hour if all went as scheduled: repairs that have begun are ended by who began them."""
    case = made.case
    done = Counter[int]()
    where = {t: (one.site, max(one.arrives_h, at_h)) for t, one in enumerate(case.technicians)}
    for one in made.assignments:
        if one.start_h - one.travel_h <= at_h:
            done[one.batch] += 1
            where[one.technician] = (case.batches[one.batch].site, max(one.end_h, at_h))
    people = tuple(
        replace(person, site=where[t][0], arrives_h=where[t][1]) for t, person in enumerate(case.technicians)
    )
    return remaining(case, done, {}, people)


__all__ = ["Batch", "Service", "as_it_stands", "remaining"]
