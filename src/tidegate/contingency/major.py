"""Whether an incident is major: (EU) 2024/1772 articles 8 and 9, criterion by criterion, with the reason in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.core.errors import BadInput

Values = Mapping[str, Any]
Three = bool | None
"""True, False, or None for: not known yet."""


@dataclass(frozen=True, slots=True)
class Judged:
    """`major` None: what is known does not decide it. `criteria` are those met, in the words of field 2.5."""

    major: Three
    sentence: str
    criteria: tuple[str, ...]
    unknown: tuple[str, ...]


def _over(values: Values, name: str, limit: float) -> Three:
    value = values.get(name)
    return None if value is None else float(value) > limit


def _any(*found: Three) -> Three:
    if any(one is True for one in found):
        return True
    return False if all(one is False for one in found) else None


def _clients(values: Values) -> Three:
    return _any(
        _over(values, "clients_percent", 10),
        _over(values, "clients", 100_000),
        _over(values, "counterparts_percent", 30),
        _over(values, "transactions_percent", 10),
        values.get("relevant_clients"),
    )


def minutes_of(text: Any) -> float | None:
    """Read DD:HH:MM as minutes."""
    if not text:
        return None
    try:
        days, hours, minutes = (int(part) for part in str(text).split(":"))
    except ValueError:
        raise BadInput(f"a duration must be DD:HH:MM, not {text!r}") from None
    return (days * 24 + hours) * 60 + minutes


def _duration(values: Values) -> Three:
    lasted, down = minutes_of(values.get("3.15")), minutes_of(values.get("downtime") or values.get("3.16"))
    return _any(None if lasted is None else lasted > 24 * 60, None if down is None else down > 120)


def _spread(values: Values) -> Three:
    states = values.get("member_states")
    return None if states is None else len(set(states)) >= 2


CRITERIA: dict[str, tuple[str, Callable[[Values], Three]]] = {
    "clients": ("clients, financial counterparts and transactions affected", _clients),
    "reputation": ("reputational impact", lambda values: values.get("reputation")),
    "duration": ("duration and service downtime", _duration),
    "spread": ("geographical spread", _spread),
    "data": ("data losses", lambda values: values.get("data_loss")),
    "costs": ("economic impact", lambda values: _over(values, "costs_eur", 100_000)),
}
"""The six criteria of article 9(1) to (6). Clients over 10 % or 100,000, counterparts over 30 %, transactions over 10 %
and clients of special relevance are one criterion, met by any of them."""
CRITICAL = "critical services affected"


def judge(values: Values) -> Judged:
    """Say whether an incident is major: critical services, and malicious access or two of the criteria."""
    verdicts = {name: test(values) for name, (_, test) in CRITERIA.items()}
    met = [CRITERIA[name][0] for name, found in verdicts.items() if found]
    unknown = [CRITERIA[name][0] for name, found in verdicts.items() if found is None]
    critical, access = values.get("critical_services"), values.get("malicious_access")
    criteria = tuple(([CRITICAL] if critical else []) + met)
    if critical is False:
        return Judged(False, "not major: no critical service is affected", criteria, ())
    enough = True if access or len(met) >= 2 else None
    if enough is None and access is False and len(met) + len(unknown) < 2:
        enough = False
    if enough is False:
        return Judged(False, f"not major: {_listed(met)}, and two criteria are needed", criteria, tuple(unknown))
    if critical and enough:
        why = "malicious access that may lose data" if access else " and ".join(met)
        return Judged(True, f"major: critical services are affected, with {why}", criteria, tuple(unknown))
    open_ = ([] if critical is not None else [CRITICAL]) + ([] if enough else unknown)
    if access is None and not enough:
        open_.append("malicious access")
    return Judged(None, f"not decided: {', '.join(open_)} not known yet", criteria, tuple(open_))


def _listed(met: list[str]) -> str:
    return f"only {met[0]} is met" if met else "no criterion is met"
