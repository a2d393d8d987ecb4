"""DORA's three reports on a major incident: the 76 fields of (EU) 2025/302, and which are mandatory at which stage.

The published JSON schema keeps its stage rules where validators do not look, so the matrix itself is enforced here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from tidegate.contingency.dora_values import written
from tidegate.core.errors import BadInput, Refused

STAGES = ("initial", "intermediate", "final")
SUBMISSION = {
    "initial": "initial notification",
    "intermediate": "intermediate report",
    "final": "final report",
}
RECLASSIFIED = "major incident reclassified as non-major"
Json = dict[str, Any]
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its number, name and kind, and per stage `yes`, `no`, or the condition under which it is mandatory."""

    field: str
    name: str
    kind: str
    initial: str
    intermediate: str
    final: str
    choices: tuple[str, ...] = ()

    def rule(self, stage: str) -> str:
        """Give the rule at a stage."""
        return str(getattr(self, stage))


@cache
def fields() -> dict[str, Field]:
    """Give all 76 fields by number."""
    text = (files("tidegate.contingency") / "dora_fields.json").read_text(encoding="utf-8")
    found = [Field(**{**row, "choices": tuple(row.get("choices", ()))}) for row in json.loads(text)]
    return {one.field: one for one in found}


def _has(number: str, *words: str) -> Callable[[Values], bool]:
    def holds(values: Values) -> bool:
        chosen = values.get(number) or ()
        listed = [chosen] if isinstance(chosen, str) else list(chosen)
        return any(word in one.lower() for one in listed for word in words)

    return holds


def _counts_transactions(values: Values) -> bool:
    said = _has("3.12", "figures for transactions", "estimates for transactions")(values)
    return said or any(values.get(number) not in (None, "", 0) for number in ("3.9", "3.10", "3.11"))


CONDITIONS: dict[str, tuple[str, Callable[[Values], bool] | None]] = {
    "differs": ("the affected entity is not the one that submits, or the report is an aggregated one", None),
    "group": ("the financial entity belongs to a group", None),
    "third_party": ("the incident comes from a third-party provider or another financial entity", None),
    "other_information": ("there is information that no other field covers", _has("1.1", "reclassified")),
    "authority_code": ("the authority has given a reference code", None),
    "relevance": ("the threshold for relevance of clients and counterparts is met", None),
    "downtime": ("a service was down", lambda values: bool(values.get("3.3"))),
    "critical_risk": ("the incident is a risk to critical functions (Directive 2014/59/EU)", None),
    "resolvability": ("the incident has affected resolvability", None),
    "recurring": ("the major incident is made of recurring non-major ones", None),
    "spread": ("field 2.5 names geographical spread", _has("2.5", "geographical")),
    "reputation": ("field 2.5 names reputational impact", _has("2.5", "reputational")),
    "duration": ("field 2.5 names duration and service downtime", _has("2.5", "duration")),
    "data": ("field 2.5 names data losses", _has("2.5", "data losses")),
    "has_downtime": ("field 3.16, service downtime, is filled", lambda values: bool(values.get("3.16"))),
    "transactions": ("transactions were affected", _counts_transactions),
    "other_type": ("field 3.23 says other", _has("3.23", "other")),
    "cyber": ("field 3.23 says cybersecurity-related", _has("3.23", "cybersecurity")),
    "other_technique": ("field 3.25 says other", _has("3.25", "other")),
    "components": ("field 3.28 says yes", _has("3.28", "yes")),
    "other_authority": ("field 3.31 says other", _has("3.31", "other")),
    "measures": ("field 3.33 says yes", lambda values: values.get("3.33") in (True, "yes")),
    "other_cause": ("field 4.2 says other", _has("4.2", "other")),
}
"""Condition -> its words, and how it follows from other fields; those with None are answered on the record."""

ANSWERED = (
    "differs",
    "group",
    "third_party",
    "other_information",
    "authority_code",
    "relevance",
    "downtime",
    "transactions",
    "critical_risk",
    "resolvability",
    "recurring",
)
"""Conditions that somebody has to answer; until then they are taken not to apply, and the report says so."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a report lacks (fields), what is wrong in it (sentences), and which conditions nobody has answered."""

    missing: tuple[Field, ...]
    wrong: tuple[str, ...]
    open_conditions: tuple[str, ...]


def is_set(value: Any) -> bool:
    """Say whether a field has a value; 0 and "no" are values."""
    return value not in (None, "", [], ())


def mandatory(field: Field, stage: str, values: Values, answers: Mapping[str, bool]) -> bool | None:
    """Say whether a field is mandatory at a stage; None where its condition has not been answered."""
    rule = field.rule(stage)
    if rule in ("yes", "no"):
        return rule == "yes"
    follows = CONDITIONS[rule][1]
    if follows is not None and follows(values):
        return True
    if rule in ANSWERED:
        return answers.get(rule)
    return False


def check(stage: str, values: Values, answers: Mapping[str, bool]) -> Checked:
    """Check a report's values against the matrix and the kinds of its fields."""
    missing, wrong, unanswered = list[Field](), list[str](), dict[str, None]()
    for number in values:
        if number not in fields():
            wrong.append(f"there is no field {number}")
    for field in fields().values():
        value = values.get(field.field)
        if is_set(value):
            try:
                written(field.field, field.name, field.kind, field.choices, value)
            except BadInput as error:
                wrong.append(str(error))
            continue
        must = mandatory(field, stage, values, answers)
        if must:
            missing.append(field)
        elif must is None:
            unanswered.setdefault(field.rule(stage))
    said = values.get("1.1")
    if is_set(said) and str(said).lower() not in (SUBMISSION[stage], RECLASSIFIED):
        wrong.append(f"field 1.1 says {said!r}, and this is the {SUBMISSION[stage]}")
    return Checked(tuple(missing), tuple(wrong), tuple(unanswered))


def report(stage: str, values: Values, answers: Mapping[str, bool]) -> Json:
    """Make a report.

    Raises:
        BadInput: for a stage that does not exist.
        Refused: naming every mandatory field that is missing, and every value that is not what the field takes.
    """
    if stage not in STAGES:
        raise BadInput(f"the stage must be one of {', '.join(STAGES)}, not {stage!r}")
    values = {**values, "1.1": values.get("1.1") or SUBMISSION[stage]}
    found = check(stage, values, answers)
    if found.missing or found.wrong:
        raise Refused(f"no {SUBMISSION[stage]} can be made: {'; '.join(trouble(found))}")
    rows = [
        {"field": one.field, "name": one.name, "value": written(one.field, one.name, one.kind, one.choices, value)}
        for one in fields().values()
        if is_set(value := values.get(one.field))
    ]
    assumed = [CONDITIONS[name][0] for name in found.open_conditions]
    return {"regime": "DORA", "template": "EU 2025/302", "stage": stage, "fields": rows, "taken_not_to_apply": assumed}


def trouble(found: Checked) -> list[str]:
    """Say what keeps a report from being one, field by field."""
    missing = [f"field {one.field} ({one.name}) is missing" for one in found.missing]
    return [*missing, *found.wrong]


def check_report(value: Any, stage: str = "") -> Checked:
    """Check a report that was made before or elsewhere. Raises BadInput if it has not the form of one."""
    if not isinstance(value, dict) or not isinstance(value.get("fields"), list | dict):
        raise BadInput('this is no DORA report: it has no "fields"')
    stage = stage or str(value.get("stage"))
    if stage not in STAGES:
        raise BadInput(f"the report's stage must be one of {', '.join(STAGES)}, not {stage!r}")
    listed: Any = value["fields"]
    try:
        values = listed if isinstance(listed, dict) else {str(row["field"]): row.get("value") for row in listed}
    except (KeyError, TypeError, AttributeError):
        raise BadInput('each of "fields" must have "field" and "value"') from None
    return check(stage, values, value.get("conditions") or {})
