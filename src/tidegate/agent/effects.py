"""What a device does before it may change anything: fetch, announce, clean. `changes.py` has the rest."""

from __future__ import annotations

from typing import Any

from tidegate.agent.download import Download
from tidegate.agent.journal import Lease
from tidegate.agent.machine import Happened, Machine, Result, Wait
from tidegate.agent.pace import at_turn
from tidegate.agent.tools import Tools
from tidegate.agent.transport import HttpRefused
from tidegate.core.device import Event
from tidegate.core.errors import BadInput, TidegateError
from tidegate.core.model import Arm, Manifest
from tidegate.trust.errors import Unreachable
from tidegate.trust.payload import unpack_payload

LEAST_WAIT_S = 1.0
SLICE_S = 0.5
"""How long one component's download may keep the others waiting."""


def fetch(machine: Machine, tools: Tools) -> Result:
    """Bring the candidate into an inactive slot, verified and synced; everything can be done again."""
    digest = machine.digest
    try:
        if machine.slots.has(digest):
            manifest = machine.slots.manifest(digest)
            _drop_downloads(machine)
        else:
            seen = tools.plans.seen(machine.component)
            if seen.plan is None or seen.plan.candidate != machine.record.candidate:
                return Wait(tools.settings.poll_s, seen.sentence)
            manifest, _ = tools.plans.release(machine.component, seen)
            tools.drivers(manifest.driver)
            waiting = _fill(machine, tools, digest, manifest)
            if waiting:
                return waiting
        driver = tools.drivers(manifest.driver)
        driver.check(machine.slots.path(digest), manifest)
        driver.ready(tools.place(machine.component, manifest))
    except Unreachable as error:
        return Wait(machine.backoff.next_s(), str(error))
    except (TidegateError, OSError) as error:
        return unfit(machine, tools, str(error))
    return Happened(Event.FETCHED)


def unfit(machine: Machine, tools: Tools, sentence: str) -> Happened:
    """Give the candidate up for now: said, and tried again later."""
    wait_s = machine.failures.next_s(tools.settings.poll_s)
    machine.retry_at_s = tools.clock.boot_s() + wait_s
    machine.sentence = f"{sentence}; tried again in {wait_s:.0f} s"
    tools.say("unfit", component=machine.component, sentence=sentence)
    return Happened(Event.UNFIT, {"note": sentence})


def _fill(machine: Machine, tools: Tools, digest: str, manifest: Manifest) -> Wait | None:
    payload, held = manifest.payload, tools.may_not_fetch()
    if held:
        if machine.download:
            machine.download.close()
        return Wait(tools.settings.poll_s, held.sentence)
    if machine.download is None:
        machine.slots.need_room(payload.length + payload.unpacked)
        machine.download = Download(
            tools.server.stream, payload, machine.slots.directory / "fetch",
            lambda length: tools.bucket.take(length, tools.clock.boot_s()),
        )  # fmt: skip
    download = machine.download
    try:
        if not download.advance(SLICE_S):
            return Wait(download.wait_s, f"fetches {manifest.version}: {download.progress:.0%}")
        machine.slots.fill(digest, manifest, lambda directory: unpack_payload(download.file, directory, payload))
    except TidegateError:
        machine.download = None
        raise
    machine.download = None
    if machine.damaged:  # it may have been what runs
        machine.look_at_slots()
    download.file.unlink(missing_ok=True)
    return None


def announce(machine: Machine, tools: Tools) -> Result:
    """Ask for the lease. Without an answer ask again: the server gives the same lease to the same device."""
    seen = tools.plans.seen(machine.component)
    if seen.plan is None:
        return Wait(tools.settings.poll_s, seen.sentence)
    try:
        tools.deliver()  # first: behind a newer lease nothing is taken in any more of how an older one ended
        answer = ask(machine, tools)
    except (Unreachable, OSError) as error:
        return Wait(machine.backoff.next_s(), str(error))
    except HttpRefused as error:
        return _refused(machine, tools, error)
    if isinstance(answer, Lease):
        if tools.outbox.holds(answer.lease_id):  # a lease has one outcome, and it is on its way
            return not_yet(machine, tools, tools.settings.poll_s, "the outcome of its lease has not arrived yet")
        event = Event.LEASE_TREATED if answer.arm == Arm.TREATED.value else Event.LEASE_PLACEBO
        machine.sentence = f"has a lease of rollout {machine.record.rollout}, ring {answer.ring}"
        changes: dict[str, Any] = {"lease": answer, "report_seq": tools.sequence.take(), "kind": "", "probes": ()}
        return Happened(event, {**changes, "note": ""})
    wait_s, reason = answer
    if reason == "rank":
        machine.waits_ring = seen.plan.ring
    return not_yet(machine, tools, at_turn(wait_s, tools.rng), f"the server said 'not yet' ({reason})")


def ask(machine: Machine, tools: Tools) -> Lease | tuple[float, str]:
    """Announce once.

    Returns:
        The lease; or (seconds until the device should ask again, reason).

    Raises:
        Unreachable, HttpRefused: as the names say. BadInput: if the answer is neither.
    """
    record = machine.record
    message = {
        "rollout": record.rollout,
        "plan_version": record.plan_version,
        "installed": machine.slots.current(),
        "seq": tools.sequence.take(),
        "attempt": record.attempt,
        "boot_id": tools.clock.boot_id,
    }
    granted_s = tools.clock.boot_s()  # counted from the question: the lease never seems younger than it is
    return read_answer(tools.announce(message), tools.clock.boot_id, granted_s)


def read_answer(answer: dict[str, Any], boot_id: str, granted_s: float) -> Lease | tuple[float, str]:
    """Read what the server says to an announcement. Raises BadInput; fields that are not known are left aside."""
    if "lease_id" not in answer:
        wait_s = answer.get("retry_after_s")
        if not isinstance(wait_s, int | float) or not 0 <= wait_s <= 86_400 * 30:
            raise BadInput("the answer to an announcement has neither a lease nor a retry_after_s")
        return float(wait_s), str(answer.get("reason", ""))[:100]
    lease_id, arm, ring = answer["lease_id"], answer.get("arm"), answer.get("ring")
    ttl_s, observe_s = answer.get("ttl_s"), answer.get("observe_s")
    if not isinstance(ttl_s, int | float) or not isinstance(observe_s, int | float) or not ttl_s > 0:
        raise BadInput("the server's lease lacks ttl_s or observe_s; nothing is done with it")
    if not isinstance(lease_id, str) or not 0 < len(lease_id) <= 200 or not isinstance(ring, int):
        raise BadInput("the server's lease lacks lease_id or ring; nothing is done with it")
    if arm not in (Arm.TREATED.value, Arm.PLACEBO.value):
        raise BadInput(f"the server's lease has the arm {arm!r}; nothing is done with it")
    return Lease(lease_id, str(arm), ring, float(ttl_s), float(observe_s), boot_id, granted_s)


def not_yet(machine: Machine, tools: Tools, wait_s: float, sentence: str) -> Happened:
    wait_s = max(wait_s, min(tools.settings.poll_s, LEAST_WAIT_S))
    machine.ask_at_s = tools.clock.boot_s() + wait_s
    machine.sentence = f"{sentence}; asks again in {wait_s:.0f} s"
    return Happened(Event.NOT_YET)


def _refused(machine: Machine, tools: Tools, error: HttpRefused) -> Result:
    if error.status == 409:
        machine.sentence = f"{error}; waits for another rollout"
        return Happened(Event.WITHDRAWN, {"refused": machine.record.rollout, "note": str(error)})
    wait_s = machine.backoff.next_s(error.retry_after_s)
    if error.status >= 500 or error.status == 429:
        return Wait(wait_s, str(error))
    if error.status in (401, 403):
        return not_yet(machine, tools, max(wait_s, tools.settings.poll_s * 4), f"{error}; enrol this device again")
    return not_yet(machine, tools, wait_s, str(error))


def clean(machine: Machine, tools: Tools) -> Result:
    """Remove what is neither active nor the last known good, and partial downloads."""
    machine.slots.clean(())
    machine.download = None
    _drop_downloads(machine)
    return None


def _drop_downloads(machine: Machine) -> None:
    for leftover in (machine.slots.directory / "fetch").glob("*.part"):
        leftover.unlink(missing_ok=True)
