"""The facts that an incident's record takes by name: what each means, how it is read, which DORA field it fills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tidegate.contingency.dora import ANSWERED, CONDITIONS, fields
from tidegate.contingency.dora_values import EEA, written
from tidegate.contingency.moments import moment_of, moment_text
from tidegate.core.errors import BadInput


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact. `kind`: text, moment, whole, number, percent, yesno, countries, span, names or a choice `a|b`."""

    kind: str
    meaning: str
    dora: str = ""


FACTS: dict[str, Fact] = {
    "title": Fact("text", "what it is called"),
    "description": Fact("text", "what happened, in plain words", "2.4"),
    "kind": Fact("incident|vulnerability", "for the CRA: a severe incident, or an actively exploited vulnerability"),
    "component": Fact("text", "the component that failed"),
    "version": Fact("text", "the version that failed"),
    "vendor": Fact("text", "who makes it", "2.8"),
    "services": Fact("names", "services affected"),
    "sites": Fact("names", "sites affected"),
    "devices": Fact("whole", "devices affected"),
    "aware": Fact("moment", "when you became aware (detection)", "2.2"),
    "classified": Fact("moment", "when it was classified as major", "2.3"),
    "occurred": Fact("moment", "when it began", "3.2"),
    "recovered": Fact("moment", "when services were back", "3.3"),
    "cause_addressed": Fact("moment", "when the root cause was dealt with", "4.7"),
    "resolved": Fact("moment", "when it was over", "4.8"),
    "fix_available": Fact("moment", "for the CRA: when a fix was available"),
    "discovered_by": Fact("text", "who found it, in the words of field 2.7", "2.7"),
    "continuity_plan": Fact("yesno", "whether a continuity plan was activated", "2.9"),
    "clients": Fact("whole", "clients affected", "3.4"),
    "clients_percent": Fact("percent", "the same in percent of all", "3.5"),
    "counterparts": Fact("whole", "financial counterparts affected", "3.6"),
    "counterparts_percent": Fact("percent", "the same in percent of all", "3.7"),
    "relevant_clients": Fact("yesno", "whether clients or counterparts of special relevance are affected", "3.8"),
    "transactions": Fact("whole", "transactions affected", "3.9"),
    "transactions_percent": Fact("percent", "the same in percent of the daily average", "3.10"),
    "transactions_value": Fact("number", "their value, in thousands of the reporting currency", "3.11"),
    "member_states": Fact("countries", "member states affected, as in FR;DE", "2.6"),
    "downtime": Fact("span", "how long services were down, DD:HH:MM", "3.16"),
    "costs_eur": Fact("number", "costs and losses so far, in euro"),
    "critical_services": Fact("yesno", "whether services that support critical or important functions are affected"),
    "malicious_access": Fact("yesno", "whether there was malicious, unauthorised access that may lose data"),
    "reputation": Fact("yesno", "whether media, repeated complaints, rules or loss of clients are touched"),
    "data_loss": Fact("yesno", "whether data's availability, authenticity, integrity or confidentiality is lost"),
    "malicious": Fact("yesno", "for NIS2: whether unlawful or malicious acts are suspected"),
    "cross_border": Fact("yesno", "for NIS2: whether it may touch other member states"),
    "resolution": Fact("text", "how it was resolved", "4.6"),
    "currency": Fact("text", "the reporting currency", "1.15"),
    "country": Fact("text", "the member state whose authority is told; its holidays count"),
    "time_zone": Fact("text", "its time zone, as in Europe/Paris"),
    "strict_clocks": Fact(
        "yesno", "credit institution, central counterparty, trading venue, essential or important entity"
    ),
    "days_off": Fact("names", "more bank holidays, as in 2026-12-24"),
    "contact": Fact("text", "who answers questions; for notices and CSAF"),
    "publisher": Fact("text", "who publishes: the organisation's name"),
    "namespace": Fact("text", "the organisation's address, as in https://example.org"),
    "fallback": Fact("text", "what people can do meanwhile; for notices"),
    "next_update": Fact("moment", "when the next notice comes"),
}


def read_value(name: str, text: Any) -> Any:
    """Read the value of a fact (`clients`), a DORA field (`3.4`) or a condition's answer (`if.group`).

    Raises:
        BadInput: for an unknown name, naming those that are close, or a value that is not what it takes.
    """
    if name[:1].isdigit():
        found = fields().get(name)
        if found is None:
            raise BadInput(f"there is no DORA field {name!r}: they go from 1.1 to 4.16")
        return written(name, found.name, found.kind, found.choices, text)
    if name.startswith("if."):
        if name[3:] not in ANSWERED:
            known = "; ".join(f"if.{one}: {CONDITIONS[one][0]}" for one in ANSWERED)
            raise BadInput(f"there is no condition {name!r}; there are {known}")
        return written(name, CONDITIONS[name[3:]][0], "yesno", (), text)
    fact = FACTS.get(name)
    if fact is None:
        import difflib

        near = difflib.get_close_matches(name, FACTS, 3)
        advice = f"did you mean {' or '.join(near)}?" if near else "tidegate incident facts lists them"
        raise BadInput(f"an incident has no fact {name!r}: {advice}")
    return _value(name, fact, text)


def _value(name: str, fact: Fact, text: Any) -> Any:
    if fact.kind == "moment":
        return moment_text(moment_of(name, str(text)))
    if fact.kind == "names":
        listed = text if isinstance(text, list) else str(text).split(",")
        return [str(one).strip() for one in listed if str(one).strip()]
    if "|" in fact.kind:
        return written(name, fact.meaning, "choice", tuple(fact.kind.split("|")), text)
    kind = {"number": "money"}.get(fact.kind, fact.kind)
    value = written(name, fact.meaning, kind, (), text)
    if kind == "countries" and not set(value) <= EEA:
        raise BadInput(f"{name}: {', '.join(sorted(set(value) - EEA))} is no member state")
    return value


def dora_value(fact: Fact, value: Any) -> Any:
    """Give a fact's value as its DORA field takes it."""
    return ("yes" if value else "no") if fact.kind == "yesno" else value
