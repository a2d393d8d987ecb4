"""Plans as data: for one service and one trigger, who does what, with what, in which time; one YAML file each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path

from tidegate.contingency.document import Place, read_document
from tidegate.core.errors import BadInput, NotFound

TRIGGERS = ("vendor", "component", "site")
STEP_KINDS = ("manual", "command", "rollback", "restore")
UNITS_S = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}
_PLAN = (
    "plan",
    "service",
    "trigger",
    "owner",
    "deputy",
    "fallback",
    "rto",
    "rpo",
    "prerequisites",
    "depends_on",
    "steps",
    "communication",
    "recovery_case",
    "drill",
    "notes",
)
_POLICY = ("drill_every", "owner")
POLICY_FILE = "policy.yaml"
DRILL_EVERY_S = 180 * 86_400


@dataclass(frozen=True, slots=True)
class Need:
    """A prerequisite: any one of `names` will do. Vendors may be said where there is no estate to look them up in."""

    names: tuple[str, ...]
    vendors: tuple[str, ...]
    """Whose each is, in the order of `names`; empty where nothing is said."""
    place: Place


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the recovery; one with `per_device` is done on each device, by somebody who has `skill`."""

    kind: str
    text: str
    minutes: float = 0.0
    per_device: bool = False
    skill: str = ""
    who: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """Who is told what, how, and within how long."""

    to: str
    how: str
    within_s: int = 0


@dataclass(frozen=True, slots=True)
class Drill:
    """How the plan is tried: what is injected, how often, and when that was done last, if the file says so."""

    inject: str = ""
    every_s: int = 0
    last: date | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan. `rto_s` and `rpo_s` are 0 where they are not said."""

    name: str
    service: str
    trigger: tuple[str, str]
    owner: str
    deputy: str
    fallback: str
    rto_s: int
    rpo_s: int
    needs: tuple[Need, ...]
    depends_on: tuple[str, ...]
    steps: tuple[Step, ...]
    messages: tuple[Message, ...]
    case: Path | None
    drill: Drill
    place: Place
    notes: str = ""

    @property
    def file(self) -> Path:
        """The file it was read from."""
        return Path(self.place.file)

    def line(self, field: str) -> int:
        """Give the line of a field, or of the plan where it has none."""
        found = self.place.get(field) if self.place.value.get(field) is not None else None
        return (found or self.place).line


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for all plans of a directory."""

    drill_every_s: int = DRILL_EVERY_S


@dataclass(frozen=True, slots=True)
class PlanSet:
    """All plans of a directory."""

    directory: Path
    plans: tuple[Plan, ...]
    policy: Policy

    def of(self, service: str) -> tuple[Plan, ...]:
        """Give the plans of a service."""
        return tuple(plan for plan in self.plans if plan.service == service)


def plan_schema() -> str:
    """Give the JSON Schema of a plan's file."""
    return files("tidegate.contingency").joinpath("plan.schema.json").read_text(encoding="utf-8")


def read_plans(directory: Path) -> PlanSet:
    """Read a directory of plans. Raises BadInput with the line, and NotFound where there is none."""
    if not directory.is_dir():
        raise NotFound(f"there is no directory of plans {directory}")
    paths = sorted(p for p in directory.iterdir() if p.suffix in (".yaml", ".yml", ".json") and p.is_file())
    policy = Policy()
    plans: list[Plan] = []
    for path in paths:
        root = read_document(path, "the plan")
        if path.name == POLICY_FILE:
            policy = _policy(root)
        else:
            plans.append(plan_of(root))
    names = [plan.name for plan in plans]
    for at, name in enumerate(names):
        if name in names[:at]:
            plans[at].place.refuse(f"two plans are called {name!r}; the other is in {plans[names.index(name)].file}")
    if not plans:
        raise NotFound(f"there are no plans (*.yaml) in {directory}")
    return PlanSet(directory, tuple(plans), policy)


def read_plan(path: Path) -> Plan:
    """Read one plan. Raises BadInput with the line, and NotFound."""
    return plan_of(read_document(path, "the plan"))


def _policy(root: Place) -> Policy:
    root.fields(_POLICY)
    every = root.get("drill_every")
    return Policy(seconds(every)) if every else Policy()


def plan_of(root: Place) -> Plan:
    """Read a plan from an open document. Raises BadInput with the line."""
    root.fields(_PLAN, ("service", "trigger"))
    trigger = root.need("trigger")
    trigger.fields(TRIGGERS)
    if len(trigger.value) != 1:
        trigger.refuse(f"a plan has one trigger: {', '.join(TRIGGERS)}")
    kind = next(iter(trigger.value))
    case = root.get("recovery_case")
    name = root.get("plan")
    return Plan(
        name=name.text() if name else Path(root.file).stem,
        service=root.need("service").text(),
        trigger=(kind, trigger.need(kind).text()),
        owner=_text(root, "owner"),
        deputy=_text(root, "deputy"),
        fallback=_text(root, "fallback"),
        rto_s=_seconds(root, "rto"),
        rpo_s=_seconds(root, "rpo"),
        needs=tuple(_need(place) for place in _listed(root, "prerequisites")),
        depends_on=tuple(place.text() for place in _listed(root, "depends_on")),
        steps=tuple(_step(place) for place in _listed(root, "steps")),
        messages=tuple(_message(place) for place in _listed(root, "communication")),
        case=Path(root.file).parent / case.text() if case else None,
        drill=_drill(root),
        place=root,
        notes=_text(root, "notes"),
    )


def _listed(root: Place, field: str) -> list[Place]:
    found = root.get(field)
    return found.items() if found else []


def _text(root: Place, field: str) -> str:
    found = root.get(field)
    return found.text() if found else ""


def _seconds(root: Place, field: str) -> int:
    found = root.get(field)
    return seconds(found) if found else 0


def seconds(place: Place) -> int:
    """Read a duration as in 30min, 4h, 90d."""
    found = re.fullmatch(r"(\d{1,7}(?:\.\d+)?) ?([a-z]+)", str(place.value))
    if not found or found[2] not in UNITS_S:
        place.refuse(f"{place.name} must be a duration as in 30min, 4h or 90d, not {str(place.value)[:40]!r}")
    return round(float(found[1]) * UNITS_S[found[2]])


def _need(place: Place) -> Need:
    if not isinstance(place.value, dict):
        return Need((place.text(),), ("",), place)
    place.fields(("name", "any", "vendor"))
    alternatives, name = place.get("any"), place.get("name")
    if (alternatives is None) == (name is None):
        place.refuse("a prerequisite has a name, or any: with a list of names")
    vendor = _text(place, "vendor")
    if name is not None:
        return Need((name.text(),), (vendor,), place)
    found = [_alternative(one, vendor) for one in alternatives.items()] if alternatives else []
    if not found:
        place.refuse("any: needs at least one name")
    return Need(tuple(one for one, _ in found), tuple(whose for _, whose in found), place)


def _alternative(place: Place, vendor: str) -> tuple[str, str]:
    if not isinstance(place.value, dict):
        return place.text(), vendor
    place.fields(("name", "vendor"), ("name",))
    return place.need("name").text(), _text(place, "vendor") or vendor


def _step(place: Place) -> Step:
    if isinstance(place.value, dict) and len(place.value) == 1 and next(iter(place.value)) in STEP_KINDS:
        kind = next(iter(place.value))
        return Step(kind, place.need(kind).text())
    place.fields(("kind", "do", "minutes", "per_device", "skill", "who"), ("kind", "do"))
    minutes, each = place.get("minutes"), place.get("per_device")
    return Step(
        place.need("kind").one_of(STEP_KINDS),
        place.need("do").text(),
        minutes.number() if minutes else 0.0,
        each.flag() if each else False,
        _text(place, "skill"),
        _text(place, "who"),
    )


def _message(place: Place) -> Message:
    place.fields(("to", "how", "within"), ("to", "how"))
    return Message(place.need("to").text(), place.need("how").text(), _seconds(place, "within"))


def _drill(root: Place) -> Drill:
    place = root.get("drill")
    if place is None:
        return Drill()
    place.fields(("inject", "every", "last"))
    last = place.get("last")
    try:
        when = date.fromisoformat(last.text()) if last else None
    except ValueError:
        raise BadInput(
            f"{root.file}, line {last.line if last else 1}: drill.last must be a date as in 2026-08-01"
        ) from None
    return Drill(_text(place, "inject"), _seconds(place, "every"), when)
