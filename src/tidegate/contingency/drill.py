"""A drill's result: what was injected, how long it took to detect, halt, revert and restore, and if that is in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from tidegate.contingency.plan import Plan, PlanSet
from tidegate.core.errors import BadInput

INJECTIONS = {
    "faulty-release": "a faulty release is rolled out on a drill component; Tidegate must halt and take it back",
    "telemetry-outage": "devices can say nothing for a while; nothing more may be exposed, and then it goes on",
    "controller-lost": "the control plane is killed without warning and started again; nothing may be lost",
    "vendor-feed-gone": "the vendor's feed is gone; devices keep serving, and the release at hand still reaches them",
    "log-restored": "the log is lost and restored from its backup; an older backup must be refused",
    "keys-lost": "the online keys are lost; holders of the offline keys sign new ones",
}
MEASURES = ("detect_s", "halt_s", "revert_s", "restore_s")
Json = dict[str, Any]


@dataclass(slots=True)
class Drill:
    """One drill while it is played. `now` gives seconds; moments are kept as seconds since the injection."""

    plan: str
    inject: str
    kind: str
    now: Callable[[], float]
    rto_s: int = 0
    say: Callable[[str], None] = lambda text: None
    began: float | None = None
    measures: dict[str, float] = field(default_factory=lambda: {})
    steps: list[Json] = field(default_factory=lambda: [])
    failures: list[str] = field(default_factory=lambda: [])

    def inject_now(self, what: str) -> None:
        """The failure is injected: from here the clock runs."""
        self.began = self.now()
        self.step(what)

    def elapsed(self) -> float:
        """Give the seconds since the injection."""
        return self.now() - (self.began if self.began is not None else self.now())

    def step(self, what: str) -> None:
        """Write down what has happened."""
        self.steps.append({"at_s": round(self.elapsed(), 2), "what": what})
        self.say(f"{self.elapsed():7.1f} s  {what}")

    def reached(self, measure: str, what: str) -> None:
        """A measured moment is reached."""
        self.measures[measure] = round(self.elapsed(), 2)
        self.step(what)

    def expect(self, holds: bool, what: str) -> None:
        """Hold the drill to something that must be so."""
        if not holds:
            self.failures.append(what)
            self.step(f"NOT AS IT SHOULD BE: {what}")

    def result(self, participants: list[str], devices: int) -> Json:
        """Give the result. It is in time if everything was restored within the RTO (where the plan has one)."""
        restore = self.measures.get("restore_s")
        if restore is None:
            self.expect(False, "it did not come back")
        in_time = restore is not None and (not self.rto_s or restore <= self.rto_s)
        return {
            "drill": self.plan,
            "inject": self.inject,
            "kind": self.kind,
            "participants": participants,
            "devices": devices,
            "measures": {name: self.measures.get(name) for name in MEASURES},
            "rto_s": self.rto_s or None,
            "within_rto": in_time,
            "passed": in_time and not self.failures,
            "failures": self.failures,
            "steps": self.steps,
        }


def flat(result: Json) -> Json:
    """Give a result as the plain values that go into the ledger."""
    told = {name: result[name] for name in ("inject", "kind", "devices", "rto_s", "within_rto", "passed")}
    return told | result["measures"] | {"participants": ", ".join(result["participants"])[:300]}


def talk_through(drill: Drill, plan: Plan, ask: Callable[[str], str]) -> None:
    """Talk a plan through with a clock: each step is answered `done`, or with what keeps it from being done.

    Args:
        drill: takes the moments.
        plan: whose steps are gone through.
        ask: puts a question and gives the answer.
    """
    drill.inject_now(f"{plan.trigger[0]} {plan.trigger[1]} has failed; {plan.service} is down")
    for measure, question in (("detect_s", "Who notices, and how?"), ("halt_s", "What stops it from spreading?")):
        drill.reached(measure, f"{question} {ask(question)}")
    if plan.fallback:
        drill.step(f"By hand meanwhile: {plan.fallback} {ask('Does the fallback work (done, or why not)?')}")
    for need in plan.needs:
        names = " or ".join(need.names)
        answer = ask(f"Is {names} at hand (done, or why not)?")
        drill.step(f"{names}: {answer}")
        drill.expect(_is_done(answer), f"{names} is not at hand: {answer}")
    for number, step in enumerate(plan.steps, 1):
        answer = ask(f"{number}. [{step.kind}] {step.text} (done, or why not)?")
        drill.step(f"{number}. {step.text}: {answer}")
        drill.expect(_is_done(answer), f"step {number} cannot be done: {answer}")
        if step.kind == "rollback" and "revert_s" not in drill.measures:
            drill.measures["revert_s"] = round(drill.elapsed(), 2)
    if not drill.failures:
        drill.reached("restore_s", f"{plan.service} is back: {ask(f'Is {plan.service} back (done, or why not)?')}")


def _is_done(answer: str) -> bool:
    return answer.strip().lower() in ("", "done", "yes", "y", "ok")


@dataclass(frozen=True, slots=True)
class Due:
    """When a plan is to be drilled next."""

    plan: str
    service: str
    last: date | None
    due: date
    every_days: int

    def late_days(self, today: date) -> int:
        """Give by how many days it is late; negative: how many are left."""
        return (today - self.due).days


def due_drills(plans: PlanSet, drilled: dict[str, date], today: date) -> list[Due]:
    """Give when each plan is to be drilled, the most urgent first; one that never was is due today."""
    found: list[Due] = []
    for plan in plans.plans:
        last = max((one for one in (plan.drill.last, drilled.get(plan.name)) if one), default=None)
        every = max(1, (plan.drill.every_s or plans.policy.drill_every_s) // 86_400)
        found.append(Due(plan.name, plan.service, last, today if last is None else last + timedelta(days=every), every))
    return sorted(found, key=lambda one: (one.due, one.plan))


def calendar(due: list[Due], made: str) -> str:
    """Give reminders as an iCalendar file (RFC 5545), each with an alarm a week before."""
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Tidegate//drills//EN"]
    for one in due:
        lines += [
            "BEGIN:VEVENT",
            f"UID:{_plain(one.plan)}-{one.due:%Y%m%d}@tidegate",
            f"DTSTAMP:{made}",
            f"DTSTART;VALUE=DATE:{one.due:%Y%m%d}",
            f"SUMMARY:Drill: {_plain(one.plan)}",
            f"DESCRIPTION:tidegate drill run {_plain(one.plan)}",
            "BEGIN:VALARM",
            "ACTION:DISPLAY",
            "DESCRIPTION:Drill in a week",
            "TRIGGER:-P7D",
            "END:VALARM",
            "END:VEVENT",
        ]
    return "\r\n".join([*lines, "END:VCALENDAR", ""])


def _plain(text: str) -> str:
    return "".join(char for char in text if char.isalnum() or char in " -_.")


def check_injection(name: str) -> str:
    """Give the name of an injection. Raises BadInput for one that does not exist."""
    if name not in INJECTIONS:
        raise BadInput(f"there is no injection {name!r}; there are {', '.join(INJECTIONS)}")
    return name
