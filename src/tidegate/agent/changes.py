"""What a device does under a lease: activate or sham, probe through the soak, confirm or go back, and say so."""

from __future__ import annotations

from typing import Any

from tidegate.agent import guard
from tidegate.agent.clock import seconds_since
from tidegate.agent.effects import announce, ask, clean, fetch
from tidegate.agent.journal import Lease
from tidegate.agent.machine import Happened, Machine, Result, Run, Soak, Wait, readable
from tidegate.agent.tools import Tools, attempt, healthy, look
from tidegate.agent.transport import HttpRefused
from tidegate.core.device import Effect, Event, State
from tidegate.core.errors import TidegateError
from tidegate.core.model import Health, Manifest, Outcome, PlanState
from tidegate.core.wire import plain
from tidegate.drivers.port import ProbeResult
from tidegate.trust.errors import Unreachable

STARTS_TRIED = 3
PROBES_KEPT = 20
DETAIL_LENGTH = 300


def activate(machine: Machine, tools: Tools) -> Result:
    """Arm the guard, move the pointer, start the candidate; on a restart go on from where the pointer stands."""
    slots, digest = machine.slots, machine.digest
    if taken_back := slots.note_about(digest):
        return _sick(taken_back)
    if slots.current() != digest:
        refused = _may_act(machine, tools)
        if refused:
            return refused
        if not slots.has(digest):
            return _sick("the candidate's slot is gone or damaged; nothing was changed")
        try:
            slots.arm(digest, **_facts(machine))
            slots.flip(digest)
        except (TidegateError, OSError) as error:
            return _sick(f"the pointer could not be moved: {error}")
    manifest = slots.manifest(digest)
    machine.sentence = f"starts {manifest.version}"
    wrong = attempt(tools.drivers(manifest.driver).activate, tools.place(machine.component, manifest))
    if slots.current() != digest:
        wrong = slots.note_about(digest) or wrong or "the pointer was moved back while the candidate started"
    return _sick(wrong) if wrong else Happened(Event.ACTIVATED)


def sham(machine: Machine, tools: Tools) -> Result:
    """Go through the same motions with what runs already; the pointer is not touched."""
    refused = _may_act(machine, tools)
    if refused:
        return refused
    manifest = _runs(machine)
    candidate = machine.slots.manifest(machine.digest)
    driver = tools.drivers((manifest or candidate).driver)
    wrong = attempt(driver.sham, tools.place(machine.component, manifest))
    return Happened(Event.SHAMMED, {"note": wrong})


def _may_act(machine: Machine, tools: Tools) -> Result:
    """Read the plan anew, and see that the lease still holds; None if the device may go on.

    Without a fresh plan nothing is moved: the device waits, and asks for its lease again if that ran out meanwhile.
    """
    if not tools.plans.refresh():
        return Wait(machine.backoff.next_s(), f"has a lease, but cannot read the plan again: {tools.plans.trouble}")
    seen = tools.plans.seen(machine.component)
    reason = seen.withdraws(machine.record.candidate, closed_too=True)
    if reason:
        return _withdrawn(f"{reason}, before anything changed here")
    if seen.plan is None or seen.plan.state is PlanState.PAUSED:
        sentence = seen.sentence or f"rollout {machine.record.rollout} is paused"
        return Wait(tools.settings.poll_s, f"has a lease, and waits: {sentence}")
    age_s = seconds_since(tools.clock, machine.lease.granted)
    if age_s is not None and age_s < machine.lease.ttl_s:
        return None
    return _renew(machine, tools)


def _renew(machine: Machine, tools: Tools) -> Result:
    """Ask whether a lease that ran out (or is of an earlier start of the machine) still holds."""
    try:
        answer = ask(machine, tools)
    except Unreachable as error:
        return Wait(machine.backoff.next_s(), f"the lease ran out, and nobody answers: {error}")
    except HttpRefused as error:
        if error.status == 409:
            return _withdrawn(f"the lease ran out, and {error}")
        return Wait(machine.backoff.next_s(error.retry_after_s), f"the lease ran out, and {error}")
    if not isinstance(answer, Lease):
        return Wait(answer[0] or tools.settings.poll_s, f"the lease ran out, and the server said {answer[1]!r}")
    if answer.arm != machine.lease.arm:
        return _withdrawn("the lease ran out, and the server gave one of the other arm")
    machine.journal.write(lease=answer)
    return None


def probe(machine: Machine, tools: Tools) -> Result:
    """Look at health, again and again through the soak; one failed probe ends it."""
    treated = machine.state is State.PROBING
    if not treated and machine.record.note:
        return _sick(machine.record.note)
    moved = _moved(machine) if treated else ""
    if moved:
        return _sick(moved)
    manifest = machine.slots.manifest(machine.digest) if treated else _runs(machine)
    candidate = machine.slots.manifest(machine.digest)
    driver, place = tools.drivers((manifest or candidate).driver), tools.place(machine.component, manifest)
    if machine.soak is None:
        machine.soak = Soak(tools.clock.boot_s())
    results = look(driver, place)
    moved = _moved(machine) if treated else ""
    if moved or not healthy(results):
        return _sick(moved or _first_failure(results), results)
    left_s = machine.soak.began_s + candidate.health.soak_s - tools.clock.boot_s()
    if left_s <= 0 and candidate.health.after_restart and not machine.soak.restarted:
        machine.soak.restarted = True
        wrong = attempt(driver.sham, place)  # what runs is started anew, in both arms alike
        return _sick(f"it did not start again after its soak: {wrong}", results) if wrong else Wait(0.0, "restarted")
    return _soaked(machine, tools, candidate.health, results, left_s)


def _soaked(machine: Machine, tools: Tools, health: Health, results: list[ProbeResult], left_s: float) -> Result:
    waits = [result.detail for result in results if result.pending]
    if left_s <= 0 and not waits:
        return Happened(Event.HEALTHY, {"kind": Outcome.CONFIRMED.value, "probes": _kept(results), "note": ""})
    tools.plans.hurry(max(health.interval_s, health.soak_s / 10))
    what = "the candidate" if machine.state is State.PROBING else "what ran before, as a placebo,"
    if left_s <= 0:
        return Wait(health.interval_s, f"probes {what}: {waits[0]}")
    return Wait(min(health.interval_s, left_s), f"probes {what} for another {left_s:.0f} s")


def _moved(machine: Machine) -> str:
    """Say who took the candidate back while it was being probed, or nothing."""
    if machine.slots.current() == machine.digest:
        return machine.slots.note_about(machine.digest)
    return machine.slots.note_about(machine.digest) or "the pointer does not name the candidate any more"


def confirm(machine: Machine, tools: Tools) -> Result:
    """Make the candidate the last known good, and report; the guard has the last word."""
    slots, digest = machine.slots, machine.digest
    if slots.keep(digest):
        tools.outbox.put(_report(machine, tools, Outcome.CONFIRMED.value, machine.record.note))
        machine.sentence = f"confirmed {digest[:16]}"
    else:
        note = slots.note_about(digest) or "the pointer was moved back before it was confirmed"
        slots.marks.make(digest, note, tools.plans.high_water_s)
        tools.outbox.put(_report(machine, tools, Outcome.REVERTED.value, note, condemned=True))
        machine.sentence = note
    return Happened(Event.SETTLED)


def revert(machine: Machine, tools: Tools) -> Result:
    """Let the last known good run again, or nothing if there was none; a start that fails is tried three times."""
    slots = machine.slots
    was, good, good_slot = slots.current(), _good(machine), guard.slot_of(slots.directory, "good")
    note = machine.record.note
    if good:
        slots.point_back()
        note = _join(note, _start_again(machine, tools, good, moved=was != slots.current()))
    elif good_slot:
        slots.point_back()
        note = _join(note, f"the last known good has a damaged manifest: {good_slot} is active, but not started")
    else:
        manifest = slots.manifest(was) if was else None
        if manifest:
            driver = tools.drivers(manifest.driver)
            note = _join(note, attempt(driver.deactivate, tools.place(machine.component, manifest)))
        slots.point_back()
    slots.disarm()
    machine.sentence = f"went back to {good.version if good else 'nothing: it was the first install'}; {note}"
    return Happened(Event.RETURNED, {"note": note, "kind": Outcome.REVERTED.value})


def _start_again(machine: Machine, tools: Tools, good: Manifest, *, moved: bool) -> str:
    """Start the last known good, unless the guard did so already; give what went wrong, or nothing."""
    driver, place = tools.drivers(good.driver), tools.place(machine.component, good)
    if not moved and healthy(look(driver, place)):
        return ""
    wrong = ""
    for _ in range(STARTS_TRIED):
        wrong = attempt(driver.activate, place)
        if not wrong:
            return ""
    return f"the last known good did not start: {wrong}"


def condemn(machine: Machine, tools: Tools) -> Result:
    """Condemn the digest and report; only then is the guard's note of no more use.

    A release that was taken back because its rollout ended is not condemned: it may be good, and be rolled out again.
    """
    record = machine.record
    if record.digest and not record.withdrawn:
        machine.slots.marks.make(record.digest, record.note, tools.plans.high_water_s)
    if record.lease:
        condemned = bool(record.digest) and not record.withdrawn
        tools.outbox.put(_report(machine, tools, Outcome.REVERTED.value, record.note, condemned=condemned))
    machine.slots.drop_note()
    return Happened(Event.SETTLED)


def report_placebo(machine: Machine, tools: Tools) -> Result:
    """Report how the placebo fared."""
    tools.outbox.put(_report(machine, tools, machine.record.kind, machine.record.note))
    machine.sentence = f"was a placebo of rollout {machine.record.rollout}: nothing was changed"
    return Happened(Event.SETTLED)


def _facts(machine: Machine) -> dict[str, Any]:
    """What the guard's file keeps of the journal, in case that is lost."""
    record = machine.record
    facts = {"lease": record.lease, "candidate": record.candidate}
    return {**plain(facts), "rollout": record.rollout, "report_seq": record.report_seq}


def _report(machine: Machine, tools: Tools, kind: str, note: str, *, condemned: bool = False) -> dict[str, Any]:
    record = machine.record
    return {
        "lease_id": machine.lease.lease_id,
        "kind": kind,
        "seq": record.report_seq,
        "boot_s": int(tools.clock.boot_s()),
        "probes": list(record.probes),
        "note": readable(note),
        "condemned": condemned,
    }


def _sick(note: str, results: list[ProbeResult] | None = None) -> Happened:
    changes = {"kind": Outcome.REVERTED.value, "note": note, "probes": _kept(results or [])}
    return Happened(Event.SICK, changes)


def _withdrawn(note: str) -> Happened:
    return Happened(Event.WITHDRAWN, {"kind": Outcome.REVERTED.value, "note": note, "withdrawn": True})


def _kept(results: list[ProbeResult]) -> tuple[dict[str, Any], ...]:
    first = sorted(results, key=lambda result: result.healthy)[:PROBES_KEPT]
    return tuple(
        {"name": readable(r.name, 100), "healthy": r.healthy, "detail": readable(r.detail, DETAIL_LENGTH)}
        for r in first
    )


def _first_failure(results: list[ProbeResult]) -> str:
    failed = next(result for result in results if not result.healthy)
    return f"probe {failed.name} failed: {failed.detail[:DETAIL_LENGTH]}"


def _runs(machine: Machine) -> Manifest | None:
    current = machine.slots.current()
    return machine.slots.manifest(current) if current else None


def _good(machine: Machine) -> Manifest | None:
    good = machine.slots.good()
    return machine.slots.manifest(good) if good else None


def _join(note: str, more: str) -> str:
    return f"{note}; {more}" if note and more and more not in note else note or more


EFFECTS: dict[Effect, Run] = {
    Effect.FETCH: fetch,
    Effect.ANNOUNCE: announce,
    Effect.ACTIVATE: activate,
    Effect.SHAM: sham,
    Effect.PROBE: probe,
    Effect.CONFIRM: confirm,
    Effect.REVERT: revert,
    Effect.CONDEMN: condemn,
    Effect.REPORT_PLACEBO: report_placebo,
    Effect.CLEAN: clean,
}
