"""The agent's loop: reads the plan, lets each component's machine go on, sends what waits, sleeps till more is due."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from tidegate.agent.changes import EFFECTS
from tidegate.agent.clock import seconds_since
from tidegate.agent.eligible import Answer, Standing, before_reading, eligible
from tidegate.agent.machine import CALM, Machine
from tidegate.agent.marks import condemned_here
from tidegate.agent.mend import mend
from tidegate.agent.pace import Backoff, first_poll, jittered, place_within
from tidegate.agent.plans import Seen
from tidegate.agent.say import StatusFile
from tidegate.agent.seal import damaged_files
from tidegate.agent.slots import slot_name
from tidegate.agent.tools import Tools, attempt, healthy, look
from tidegate.core.device import Event, State
from tidegate.core.errors import NotFound, TidegateError
from tidegate.core.model import Outcome
from tidegate.trust.durable import sweep_temporary

LONGEST_SLEEP_S = 60.0
LOOKS_AGAIN_S = 3600.0
"""A clock may be set, and a summer may end, while a device waits for its window."""
_WITHDRAWABLE = frozenset({State.FETCHING, State.READY, State.ANNOUNCED})
_UNDER_WATCH = frozenset({State.PROBING, State.WATCHING})


class Agent:
    """One device. `run` goes on for ever; `turn` is one round, for tests and --once."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.machines: dict[str, Machine] = {}
        self._status = StatusFile(tools.home.status_file)
        self._sending = Backoff(tools.settings.poll_s, tools.rng)
        self._send_at_s = 0.0

    def begin(self) -> None:
        """Take up, without any network, what was being done when the device last stopped."""
        _sweep(self.tools)
        for sentence in damaged_files(self.tools.home.path):
            self.tools.say("damaged", sentence=sentence)
        for directory in sorted((self.tools.home.path / "components").iterdir()):
            if directory.is_dir() and self._wanted(directory.name):
                self._add(directory.name)
        self._show()

    def run(self) -> None:
        """Never return; a signal ends it (see __main__)."""
        self.begin()
        plans = self.tools.plans
        calm = plans.known and all(machine.state in CALM for machine in self.machines.values())
        plans.begin_in(first_poll(calm, self.tools.settings.poll_s, self.tools.rng))
        while True:
            self.turn()
            wait_s = min(LONGEST_SLEEP_S, self.next_due_s() - self.tools.clock.boot_s())
            if wait_s > 0:
                self.tools.clock.sleep(wait_s)

    def run_once(self) -> bool:
        """Poll once, and see to its end what that starts. Returns False if the repository could not be read."""
        self.begin()
        self.turn()
        answered = not self.tools.plans.trouble
        while any(m.state not in CALM or m.download or m.mending for m in self.machines.values()):
            self.tools.clock.sleep(max(0.0, self.next_due_s() - self.tools.clock.boot_s()))
            self.turn()
        return answered

    def turn(self) -> None:
        """Do all that is due now."""
        tools = self.tools
        if tools.clock.boot_s() >= tools.plans.next_poll_s:
            tools.plans.refresh()
            for component in tools.settings.components or tools.plans.components():
                if component not in self.machines:
                    self._add(component)
        for machine in self.machines.values():
            if machine.state is State.IDLE and mend(machine, tools):
                self._wake(machine)
            self._consider(machine)
            machine.run()
            self._consider(machine)  # a candidate that has just been fetched need not wait for the next round
            machine.run()
        self._send()
        self._show()
        tools.own.follow(all(machine.state is State.IDLE for machine in self.machines.values()))

    def next_due_s(self) -> float:
        """Give the moment (boot_s) at which there is something to do again."""
        due = [self.tools.plans.next_poll_s, *(at_s for machine in self.machines.values() for at_s in machine.dues())]
        if self.tools.outbox.waiting():
            due.append(self._send_at_s)
        return min(due)

    def stop_components(self) -> None:
        """Stop what this agent protects: for tests and demos, where the device ends with its agent."""
        for machine in self.machines.values():
            current = machine.slots.current()
            if current:
                manifest = machine.slots.manifest(current)
                driver = self.tools.drivers(manifest.driver)
                wrong = attempt(driver.deactivate, self.tools.place(machine.component, manifest))
                self.tools.say("stopped", component=machine.component, sentence=wrong or None)

    def _wanted(self, component: str) -> bool:
        return not self.tools.settings.components or component in self.tools.settings.components

    def _add(self, component: str) -> None:
        try:
            machine = Machine(component, self.tools, EFFECTS, self._show)
            machine.begin()
        except (TidegateError, OSError, ValueError) as error:
            self.tools.say("not_taken_up", component=component, sentence=str(error))
            return
        self.machines[component] = machine
        self._wake(machine)

    def _wake(self, machine: Machine) -> None:
        """Start what should run and does not, as after a power cut. The guard counts it if it is not confirmed."""
        current = machine.slots.current()
        if current is None or machine.state in (State.APPLYING, State.REVERTING):
            return
        try:
            manifest = machine.slots.manifest(current)
            driver, place = self.tools.drivers(manifest.driver), self.tools.place(machine.component, manifest)
        except TidegateError as error:
            self.tools.say("not_started", component=machine.component, sentence=str(error))
            return
        if not healthy(look(driver, place)):
            wrong = attempt(driver.activate, place)
            self.tools.say("started_anew", component=machine.component, sentence=wrong or None)

    def _consider(self, machine: Machine) -> None:
        """Hold the plan against where the component stands. What cannot be written now is considered again later."""
        self.tools.plans.attend(machine.component, machine.state is not State.IDLE)
        try:
            self._weigh(machine, self.tools.plans.seen(machine.component))
        except (TidegateError, OSError) as error:
            machine.sentence = str(error)
            machine.retry_at_s = self.tools.clock.boot_s() + self.tools.settings.poll_s

    def _weigh(self, machine: Machine, seen: Seen) -> None:
        state = machine.state
        if state in _UNDER_WATCH:
            self._weigh_running(machine, seen)
        elif state in _WITHDRAWABLE:
            reason = seen.withdraws(machine.record.candidate, closed_too=True)
            if reason:
                machine.sentence = reason
                machine.tell(Event.WITHDRAWN, note=reason)
            elif state is State.READY:
                self._ask_when_due(machine, seen)
        elif state is State.IDLE:
            failed = bool(seen.plan) and seen.plan.candidate == machine.record.candidate
            if not failed or self.tools.clock.boot_s() >= machine.retry_at_s:  # another candidate need not wait
                self._start_if_eligible(machine, seen)

    def _weigh_running(self, machine: Machine, seen: Seen) -> None:
        reason = seen.withdraws(machine.record.candidate, closed_too=False)
        if reason:
            note = f"{reason}, while it was being probed here"
            machine.tell(Event.WITHDRAWN, kind=Outcome.REVERTED.value, note=note, withdrawn=True)

    def _start_if_eligible(self, machine: Machine, seen: Seen) -> None:
        if seen.plan and seen.plan.rollout == machine.record.refused:
            machine.sentence = machine.record.note or f"rollout {seen.plan.rollout} has nothing for this device"
            return
        if seen.plan and slot_name(seen.plan.candidate.sha256) in machine.damaged:
            machine.sentence = "runs what the plan names, and mends it"
            return
        answer = self._answer(machine, seen)
        machine.sentence = answer.sentence
        if not answer.yes or seen.plan is None:
            return
        plan, record = seen.plan, machine.record
        again = record.rollout == plan.rollout and record.candidate == plan.candidate
        machine.ask_at_s = None
        machine.tell(
            Event.ELIGIBLE,
            rollout=plan.rollout,
            plan_version=seen.version,
            candidate=plan.candidate,
            lease=None,
            attempt=record.attempt + 1 if again else 1,
            kind="",
            note="",
            probes=(),
            report_seq=0,
            withdrawn=False,
        )

    def _ask_when_due(self, machine: Machine, seen: Seen) -> None:
        """A ready device asks when the plan is open, its place in the spread has come, and nothing else is on trial."""
        now_s, poll_s = self.tools.clock.boot_s(), self.tools.settings.poll_s
        spread_s = seen.plan.spread_s if seen.plan else 0
        if now_s < machine.asks_at_s(now_s, seen.plan.ring if seen.plan else 0, spread_s):
            return
        answer = self._answer(machine, seen)
        busy = [m.component for m in self.machines.values() if m is not machine and m.state not in CALM]
        if answer.yes and busy:
            answer = replace(answer, yes=False, sentence=f"waits for {busy[0]}: one unconfirmed release at a time")
        wait_s = jittered(poll_s, self.tools.rng)
        if answer.yes and (held := self.tools.may_not_begin()):
            answer = replace(answer, yes=False, sentence=held.sentence)
            if held.wait_s:  # and a window that opens for many is no reason to come at once
                wait_s = min(held.wait_s, LOOKS_AGAIN_S) + place_within(max(spread_s, poll_s), self.tools.rng)
        if not answer.yes:
            machine.sentence = answer.sentence
            machine.ask_at_s = now_s + wait_s
            return
        machine.failures.reset()
        machine.tell(Event.ASK, plan_version=seen.version)

    def _answer(self, machine: Machine, seen: Seen) -> Answer:
        record, clock = machine.record, self.tools.clock
        installed = machine.slots.current()
        candidate = seen.plan.candidate.sha256 if seen.plan else ""
        changed = (record.changed_boot, record.changed_s) if record.changed_boot else None
        since_s = seconds_since(clock, changed)
        if changed and since_s is None:  # it lies before this start of the machine: at least so long ago
            since_s = clock.boot_s()
        standing = Standing(
            self.tools.identity.device_id,
            installed,
            _seq(machine, installed),
            condemned_here(machine, self.tools, candidate) if candidate else "",
            clock.wall(),
            self.tools.plans.high_water_s,
            since_s,
        )
        early = before_reading(seen, standing)
        if early or seen.plan is None:
            return early or Answer(False, seen.sentence)
        manifest, terms = self.tools.plans.release(machine.component, seen)
        return eligible(seen.plan, manifest, terms, standing)

    def _send(self) -> None:
        tools = self.tools
        if tools.clock.boot_s() < self._send_at_s or not tools.outbox.waiting():
            return
        try:
            tools.deliver()
            if tools.outbox.waiting():
                self._send_at_s = tools.clock.boot_s() + self._sending.next_s()
            else:
                self._sending.reset()
        except (TidegateError, OSError) as error:
            retry_after_s = getattr(error, "retry_after_s", None)
            self._send_at_s = tools.clock.boot_s() + self._sending.next_s(retry_after_s)
            tools.say("reports_wait", reports=len(tools.outbox.waiting()), sentence=str(error))

    def _show(self) -> None:
        rows = [_row(machine) for _, machine in sorted(self.machines.items())]
        trouble = self.tools.plans.trouble
        self.tools.say.trouble(trouble)
        for row in rows:
            if trouble and trouble not in row["sentence"]:
                row["sentence"] += f" ({trouble})"
        nothing = trouble or "no component has a plan"
        self._status.show(
            self.tools.identity.device_id, self.tools.plans.last_contact, rows, nothing, self.tools.say.found
        )


def _sweep(tools: Tools) -> None:
    """Remove what writes that were cut off have left; nobody else writes here while this agent holds the home."""
    home = tools.home
    with suppress(OSError):  # a disk that cannot be written keeps them until it can
        for leftover in home.path.glob(f".{home.seq_file.name}.*.tmp"):
            leftover.unlink(missing_ok=True)
        for directory in (home.outbox, *(home.path / "components").iterdir()):
            sweep_temporary(directory)


def _seq(machine: Machine, installed: str | None) -> int:
    if installed is None:
        return 0
    try:
        return machine.slots.manifest(installed).seq
    except NotFound:
        return 0


def _row(machine: Machine) -> dict[str, Any]:
    return {
        "component": machine.component,
        "state": machine.record.state,
        "installed": machine.slots.current(),
        "good": machine.slots.good(),
        "sentence": "; ".join(filter(None, (machine.sentence or machine.state.value, machine.found))),
        "plan_version": machine.record.plan_version,
    }
