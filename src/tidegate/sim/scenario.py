"""A scenario: the fleet, the defect, the faults and the rollout that a simulation plays, read from TOML and checked."""

from __future__ import annotations

import dataclasses
import shlex
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidegate.core.errors import BadInput, NotFound
from tidegate.core.model import SpeedLimit
from tidegate.sim.allowed import (
    BELOW_ONE,
    COUNT,
    INSIDE_ONE,
    MOST_DEVICES,
    RATIO,
    SECONDS,
    SHARE,
    SOME_SECONDS,
    Range,
    optional,
    required,
)
from tidegate.sim.scenario_fault import Fault, checked_fault
from tidegate.sim.scenario_speed import SpeedStep, limit_of

PACKAGED = Path(__file__).with_name("scenarios")
PEERS = ("instant", "hawkbit", "aws-iot", "flightctl", "phased", "lvfs", "nebraska", "argo", "kayenta", "teleport")
POLICIES = ("tidegate", "certain", "naive", *PEERS, "flag-ramp")


@dataclass(frozen=True, slots=True)
class Fleet:
    """`[fleet]`: how many devices the roster has."""

    devices: int = required(Range(1, MOST_DEVICES))


@dataclass(frozen=True, slots=True)
class Background:
    """`[background]`: what befalls a device in one observation window for its own reasons, in either arm."""

    silent_rate: float = optional(1e-4, BELOW_ONE)
    reverted_rate: float = optional(0.0, BELOW_ONE)

    @property
    def rate(self) -> float:
        """Failures of both kinds."""
        return self.silent_rate + self.reverted_rate


@dataclass(frozen=True, slots=True)
class Defect:
    """`[defect]`: the share of the fleet that the candidate harms, how it shows, and how long after the apply.

    Harm that shows later than `observe_s` comes after the confirmation: such a device confirms all the same.
    """

    harm_rate: float = optional(1.0, SHARE)
    outcome: str = optional("silent", ("silent", "reverted"))
    delay_s: float = optional(0.0, SECONDS)


@dataclass(frozen=True, slots=True)
class Late:
    """`[late]`: devices, drawn at random, that are away when their turn comes and are back `return_s` after the start.

    `harm_rate` is the share of them that the candidate harms beyond those of `[defect]`.
    """

    share: float = optional(0.2, BELOW_ONE)
    return_s: float = optional(14_400.0, SECONDS)
    harm_rate: float = optional(0.0, SHARE)


@dataclass(frozen=True, slots=True)
class GroupCap:
    """`[[cap]]`: the fleet falls at random into groups of this size, with at most so many of each in flight."""

    group_devices: int = optional(200, COUNT)
    at_most: int = optional(10, COUNT)


@dataclass(frozen=True, slots=True)
class RolloutTerms:
    """`[rollout]`: the policy, the budget and the times."""

    max_harmed: int = required(COUNT)
    policy: str = optional("tidegate", POLICIES)
    confidence: float = optional(0.999, INSIDE_ONE)
    false_halt: float = optional(0.001, INSIDE_ONE)
    observe_s: float = optional(600.0, SOME_SECONDS)
    poll_s: float = optional(0.0, SECONDS)
    placebo_per_treated: float = optional(4.0, RATIO)
    canary: int = optional(0, COUNT)
    late_budget_share: float = optional(0.2, BELOW_ONE)
    q_gate: float = optional(0.05, BELOW_ONE)
    reverted_bound: float = optional(1e-6, INSIDE_ONE)
    rollout_deadline_s: float = optional(86_400.0, SOME_SECONDS)
    speed_ceiling: float = optional(1.0, SHARE)
    clock_slack_s: float = optional(120.0, SECONDS)

    @property
    def alpha(self) -> float:
        """1 - confidence."""
        return 1.0 - self.confidence

    @property
    def round_s(self) -> float:
        """From the opening of a ring to its last confirmation: the devices' poll and the observation time."""
        return self.poll_s + self.observe_s


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole scenario. `name` is for titles: the file's stem."""

    fleet: Fleet
    rollout: RolloutTerms
    background: Background = field(default_factory=Background)
    defect: Defect = field(default_factory=Defect)
    late: Late | None = None
    faults: tuple[Fault, ...] = ()
    caps: tuple[GroupCap, ...] = ()
    speeds: tuple[SpeedStep, ...] = ()
    seed: int = optional(1, Range(0))
    replicates: int = optional(200, Range(1, 10_000_000))
    name: str = "scenario"
    source: str = field(default="", compare=False)
    """The file it was read from, for the command that plays it again."""

    @property
    def good(self) -> bool:
        """Whether the candidate harms nobody."""
        return self.defect.harm_rate == 0 and (self.late is None or self.late.share * self.late.harm_rate == 0)

    @property
    def has_late(self) -> bool:
        """Whether devices may miss their ring: by `[late]`, or because they cannot reach the server for a while."""
        kinds = ("partition", "site_down", "clock_skew", "server_crash")
        away = any(
            fault.kind in kinds and fault.share > 0 and fault.duration_s >= self.rollout.round_s
            for fault in self.faults
        )
        return away or (self.late is not None and self.late.share > 0)

    def speed_limit(self, logged_s: int) -> SpeedLimit | None:
        """Give the speed limit, if there is one, signed at `logged_s` (unix seconds)."""
        return limit_of(self.speeds, self.rollout.speed_ceiling, self.rollout.clock_slack_s, logged_s)

    @property
    def budgets(self) -> tuple[int, int]:
        """`max_harmed` split into (main, late); late is 0 where nobody is late, or the budget is a single device."""
        budget, share = self.rollout.max_harmed, self.rollout.late_budget_share
        if not self.has_late or share == 0 or budget == 1:
            return budget, 0
        late = min(max(1, int(budget * share)), budget - 1)
        return budget - late, late

    @property
    def first_ring(self) -> int:
        """Devices that may be exposed while nobody has confirmed, within the main budget."""
        return min(self.rollout.canary or self.rollout.max_harmed, self.budgets[0])


_TABLES = {"fleet": Fleet, "background": Background, "defect": Defect, "late": Late, "rollout": RolloutTerms}
_LISTS = {"fault": Fault, "cap": GroupCap, "speed": SpeedStep}
_TOP = {"seed": int, "replicates": int}


def find_scenario(name_or_path: str | Path) -> Path:
    """Find a scenario file: a path, or the name of a packaged one.

    Raises:
        NotFound: naming the packaged scenarios.
    """
    path = Path(name_or_path)
    if path.is_file() or path.is_fifo():
        return path
    packaged = PACKAGED / f"{name_or_path}.toml"
    if packaged.parent == PACKAGED and packaged.is_file():
        return packaged
    known = ", ".join(sorted(one.stem for one in PACKAGED.glob("*.toml")))
    raise NotFound(f"no scenario file {str(path)!r}; give a path" + (f", or one of {known}" if known else ""))


def read_scenario(name_or_path: str | Path) -> Scenario:
    """Read and check a scenario. Raises BadInput with one line that names the key."""
    path = find_scenario(name_or_path)
    try:
        read = parse_scenario(path.read_text(encoding="utf-8"), path.stem)
        return dataclasses.replace(read, source=str(name_or_path))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error


def scenario_line(scenario: Scenario) -> str:
    """Give what stands for a scenario on a command line, and before it what pipes it in if it comes from no file."""
    if scenario.source:
        return f"tidegate simulate {shlex.quote(scenario.source)}"
    tables = [(name, getattr(scenario, name)) for name in _TABLES if getattr(scenario, name) is not None]
    lines = [f"seed = {scenario.seed}", *(f"{name} = {_inline(table)}" for name, table in tables)]
    for name in _LISTS:
        lines.append(f"{name} = [{', '.join(_inline(one) for one in getattr(scenario, name + 's'))}]")
    return f"printf '%s\\n' {' '.join(map(shlex.quote, lines))} | tidegate simulate /dev/stdin"


def _inline(table: Any) -> str:
    """A table on one line of TOML, without what has its default; how long a fault lasts follows from its kind."""
    changed = [
        one
        for one in dataclasses.fields(table)
        if getattr(table, one.name) != one.default or one.name in ("start_s", "duration_s")
    ]
    values = ((one.name, getattr(table, one.name)) for one in changed)
    return "{" + ", ".join(f"{name} = {value!r}" for name, value in values) + "}"


def parse_scenario(text: str, name: str = "scenario") -> Scenario:
    """Read a scenario from TOML text. Raises BadInput with one line that names the key."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{name} is no TOML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise BadInput(f"{name} is no TOML that can be read: tables or lists are nested too deeply") from error
    return scenario_of(found, name)


def scenario_of(found: dict[str, Any], name: str = "scenario") -> Scenario:
    """Check a scenario given as tables. Raises BadInput with one line that names the key."""
    allowed = {one.name: one for one in dataclasses.fields(Scenario) if one.name in _TOP}
    values: dict[str, Any] = {"name": name}
    for key in found:
        if key not in _TABLES and key not in _LISTS and key not in _TOP:
            known = ", ".join((*_TOP, *_TABLES, *_LISTS))
            raise BadInput(f"{_safe(key)}: unknown key; known are {known}")
    for key, one in allowed.items():
        if key in found:
            values[key] = _value(key, found[key], one)
    for key, kind in _TABLES.items():
        if key in found or key in ("fleet", "rollout"):
            values[key] = _table(key, found.get(key, {}), kind)
    for key, kind in _LISTS.items():
        values[f"{key}s"] = tuple(
            _table(f"{key}[{place}]", entry, kind) for place, entry in enumerate(_entries(key, found.get(key, [])))
        )
    return _consistent(Scenario(**values))


def _entries(key: str, entries: Any) -> list[Any]:
    if not isinstance(entries, list):
        raise BadInput(f"{key}: must be a list of tables; write [[{key}]]")
    return entries


def _table(where: str, found: Any, kind: Any) -> Any:
    if not isinstance(found, dict):
        raise BadInput(f"{where}: must be a table")
    known = {one.name: one for one in dataclasses.fields(kind)}
    for key in found:
        if key not in known:
            raise BadInput(f"{where}.{_safe(key)}: unknown key; known are {', '.join(known)}")
    for key, one in known.items():
        if one.metadata.get("required") and key not in found:
            raise BadInput(f"{where}.{key}: is missing and has no default")
    values = {key: _value(f"{where}.{key}", value, known[key]) for key, value in found.items()}
    return checked_fault(where, values) if kind is Fault else kind(**values)


def _safe(key: str) -> str:
    """A key as it may stand in one line: what has no place there is escaped."""
    return key if key.isprintable() and key else repr(key)


def _value(where: str, value: Any, one: dataclasses.Field[Any]) -> Any:
    allowed = one.metadata["allowed"]
    if isinstance(allowed, tuple):
        if not isinstance(value, str) or value not in allowed:
            raise BadInput(f"{where}: must be one of {', '.join(allowed)}, not {value!r}")
        return value
    whole = one.type == "int"
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise BadInput(f"{where}: must be a {'whole number' if whole else 'number'}, not {value!r}")
    if not allowed.holds(value):
        raise BadInput(f"{where}: must be {allowed}, not {value!r}")
    return value if whole else float(value)


def _consistent(scenario: Scenario) -> Scenario:
    terms = scenario.rollout
    if terms.canary > terms.max_harmed:
        raise BadInput(f"rollout.canary: must be at most max_harmed ({terms.max_harmed}), not {terms.canary}")
    if scenario.background.rate >= 1:
        raise BadInput("background.reverted_rate: with silent_rate it must stay below 1")
    scenario.speed_limit(0)
    return scenario
