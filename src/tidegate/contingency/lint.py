"""What is wrong with a set of plans: each finding with its rule, its file and line, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date

from tidegate.contingency.case import read_case
from tidegate.contingency.falls import Fallen, Told, kinds_of, required_services
from tidegate.contingency.plan import Plan, PlanSet
from tidegate.contingency.schedule import plan_recovery
from tidegate.core.errors import NotFound, Refused
from tidegate.exposure.analyse import analyse
from tidegate.exposure.estate import UNKNOWN, Estate, Kind

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding."""

    rule: str
    severity: str
    plan: str
    service: str
    file: str
    line: int
    message: str

    def to_dict(self) -> dict[str, object]:
        """Give it as plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked at: the plans, perhaps an estate, when plans were drilled last, and today's date."""

    plans: PlanSet
    estate: Estate | None
    drilled: dict[str, date]
    today: date


def lint(subject: Subject) -> list[Finding]:
    """Give all findings, by file and line. Raises BadInput for a recovery case that cannot be read."""
    found = [one for rule in RULES for one in rule(subject)]
    return sorted(found, key=lambda one: (one.file, one.line, one.rule, one.message))


def _at(plan: Plan, field: str, rule: str, message: str, severity: str = ERROR) -> Finding:
    return Finding(rule, severity, plan.name, plan.service, str(plan.file), plan.line(field), message)


def gaps(subject: Subject) -> Iterator[Finding]:
    """Demand an owner and a time; advise a deputy, a fallback, steps, and somebody to tell."""
    for plan in subject.plans.plans:
        if not plan.owner:
            yield _at(plan, "owner", "no-owner", "nobody owns this plan: name an owner")
        if not plan.rto_s:
            yield _at(plan, "rto", "no-rto", "it says no RTO: by when must the service be back?")
        if not plan.steps:
            yield _at(plan, "steps", "no-steps", "it has no steps: what is to be done?")
        for field, missing, words in (
            ("deputy", not plan.deputy, "nobody stands in for the owner: name a deputy"),
            ("fallback", not plan.fallback, "it does not say how people go on by hand meanwhile"),
            ("communication", not plan.messages, "it does not say who is told"),
            ("rpo", not plan.rpo_s, "it says no RPO: how much data may be lost?"),
        ):
            if missing:
                yield _at(plan, field, f"no-{field}", words, WARNING)


def names(subject: Subject) -> Iterator[Finding]:
    """Refuse names that neither the estate nor the plans know."""
    estate = subject.estate
    for plan in subject.plans.plans:
        if estate is not None:
            yield from _names_in(plan, estate)
        for below in plan.depends_on:
            known = estate.services if estate is not None else {one.service for one in subject.plans.plans}
            if below not in known:
                where = "no service of the estate" if estate is not None else "no service that has a plan"
                yield _at(plan, "depends_on", "unknown-name", f"it depends on {below!r}, which is {where}")


def _names_in(plan: Plan, estate: Estate) -> Iterator[Finding]:
    if plan.service not in estate.services:
        yield _at(plan, "service", "unknown-name", f"the estate has no service {plan.service!r}")
    kind, name = plan.trigger
    sites = {one.labels.get("site") for one in estate.classes}
    vendors = {*estate.vendors, *(one.vendor for one in estate.components.values())}
    known = {"vendor": vendors, "component": estate.components, "site": sites}[kind]
    if name not in known:
        yield _at(plan, "trigger", "unknown-name", f"the estate has no {kind} {name!r}")
    for need in plan.needs:
        for one, vendor in zip(need.names, need.vendors, strict=True):
            if not kinds_of(estate, one) and not vendor:
                words = f"prerequisite {one!r} is nothing in the estate: add it, or say its vendor here"
                line = need.place.line
                yield Finding("unknown-name", ERROR, plan.name, plan.service, str(plan.file), line, words)


def deadlocks(subject: Subject) -> Iterator[Finding]:
    """Find prerequisites that fall with the very thing the plan is for."""
    for plan in subject.plans.plans:
        for need in plan.needs:
            named = zip(need.names, need.vendors, strict=True)
            reasons = [_why_down(subject, plan, one, vendor) for one, vendor in named]
            line = need.place.line
            if all(reasons):
                what = " and ".join(need.names)
                words = f"recovery deadlock: {what} is needed and falls with {' '.join(plan.trigger)} ({reasons[0]})"
                yield Finding("deadlock", ERROR, plan.name, plan.service, str(plan.file), line, words)
            elif subject.estate is not None and plan.trigger != ("vendor", UNKNOWN):
                unknown = _unknown(subject.estate, need.names)
                if unknown:
                    words = (
                        f"{' or '.join(need.names)} falls if the unknown vendor does ({unknown}): find out who that is"
                    )
                    yield Finding("unknown-vendor", WARNING, plan.name, plan.service, str(plan.file), line, words)


def _why_down(subject: Subject, plan: Plan, name: str, vendor: str) -> str:
    if vendor and plan.trigger == ("vendor", vendor):
        return f"{name} is {vendor}'s"
    if subject.estate is not None:
        fallen = Fallen(subject.estate, plan.trigger)
        for one in kinds_of(subject.estate, name):
            why = fallen.named(one)
            if why:
                return why
            if one.kind is Kind.SERVICE:
                return ""  # the estate says that it stands
    elif name == plan.trigger[1]:
        return f"{name} is what fails"
    return Told(subject.plans, plan.trigger).service(name)


def _unknown(estate: Estate, alternatives: tuple[str, ...]) -> str:
    fallen = Fallen(estate, ("vendor", UNKNOWN))
    reasons = [next((why for one in kinds_of(estate, name) if (why := fallen.named(one))), "") for name in alternatives]
    return reasons[0] if reasons and all(reasons) else ""


def uncovered(subject: Subject) -> Iterator[Finding]:
    """Find services with a single point of failure that no plan is for."""
    if subject.estate is None:
        return
    found = analyse(subject.estate)["services"]
    inner = {name: component.vendor for name, component in subject.estate.components.items()}
    for service, row in found.items():
        for point in row["single_points"]:
            covered = any(
                plan.trigger[1] == point or (plan.trigger[0] == "component" and inner.get(plan.trigger[1]) == point)
                for plan in subject.plans.of(service)
            )
            if not covered:
                words = f"service {service} falls with {point} alone, and no plan is for that"
                line = subject.estate.services[service].line
                yield Finding("no-plan", ERROR, "", service, str(subject.estate.source), line, words)


def times(subject: Subject) -> Iterator[Finding]:
    """Find a dependency that is back later than the service, and an RTO below what recovery takes."""
    slowest: dict[str, Plan] = {}
    for plan in subject.plans.plans:
        if plan.rto_s and (plan.service not in slowest or plan.rto_s > slowest[plan.service].rto_s):
            slowest[plan.service] = plan
    for plan in subject.plans.plans:
        below = set(plan.depends_on)
        if subject.estate is not None and plan.service in subject.estate.services:
            below |= required_services(subject.estate, plan.service)
        for name in sorted(below):
            other = next((one for one in subject.plans.of(name) if one.trigger == plan.trigger), slowest.get(name))
            if plan.rto_s and other is not None and other.rto_s > plan.rto_s:
                words = f"RTO {_span(plan.rto_s)} is below that of {name}, which it depends on: {_span(other.rto_s)}"
                yield _at(plan, "rto", "dependency-rto", f"{words} ({other.name})")
        yield from _forecast(plan)


def _forecast(plan: Plan) -> Iterator[Finding]:
    if plan.case is None:
        return
    try:
        made = plan_recovery(read_case(plan.case))
    except NotFound as error:
        yield _at(plan, "recovery_case", "unknown-name", str(error))
        return
    except Refused as error:
        yield _at(plan, "recovery_case", "rto-below-forecast", str(error))
        return
    if plan.service not in made.services:
        yield _at(plan, "recovery_case", "unknown-name", f"{plan.case} has no service {plan.service!r}")
    elif plan.rto_s and made.services[plan.service] * 3600 > plan.rto_s + 0.5:
        takes = made.services[plan.service] * 3600
        words = f"RTO {_span(plan.rto_s)} is below the forecast recovery time of {_span(takes)} ({plan.case.name})"
        yield _at(plan, "rto", "rto-below-forecast", words)


def drills(subject: Subject) -> Iterator[Finding]:
    """Find plans that have not been drilled for longer than the policy allows."""
    for plan in subject.plans.plans:
        last = max((one for one in (plan.drill.last, subject.drilled.get(plan.name)) if one), default=None)
        every_s = plan.drill.every_s or subject.plans.policy.drill_every_s
        if last is None:
            yield _at(plan, "drill", "drill-overdue", f"it was never drilled; the policy is every {_span(every_s)}")
        elif (subject.today - last).days * 86_400 > every_s:
            age = f"{(subject.today - last).days} days ago"
            yield _at(
                plan, "drill", "drill-overdue", f"last drilled {last} ({age}); the policy is every {_span(every_s)}"
            )


def circles(subject: Subject) -> Iterator[Finding]:
    """Find plans that wait for each other, and two plans for one case."""
    below = {
        service: {b for plan in subject.plans.of(service) for b in plan.depends_on} for service in _services(subject)
    }
    seen: dict[tuple[str, tuple[str, str]], Plan] = {}
    for plan in subject.plans.plans:
        circle = _circle(below, plan.service)
        if circle:
            yield _at(plan, "depends_on", "circle", f"services wait for each other: {' -> '.join(circle)}")
        key = (plan.service, plan.trigger)
        if key in seen:
            yield _at(plan, "trigger", "two-plans", f"plan {seen[key].name} is for the same service and trigger")
        seen.setdefault(key, plan)


def _services(subject: Subject) -> set[str]:
    return {plan.service for plan in subject.plans.plans}


def _circle(below: dict[str, set[str]], start: str) -> list[str]:
    stack, seen = [[start]], set[str]()
    while stack:
        trail = stack.pop()
        for name in sorted(below.get(trail[-1], ())):
            if name == start:
                return [*trail, start]
            if name not in seen:
                seen.add(name)
                stack.append([*trail, name])
    return []


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size and (seconds >= 2 * size or seconds % size == 0):
            return f"{seconds / size:.1f}".rstrip("0").rstrip(".") + f" {unit}"
    return f"{seconds:.0f} s"


RULES: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    gaps,
    names,
    deadlocks,
    uncovered,
    times,
    drills,
    circles,
)
