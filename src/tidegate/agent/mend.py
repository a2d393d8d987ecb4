"""Puts a release right that a failing disk has damaged: what runs, and the last known good, from their own manifest.

Nothing is decided here: the same digest is fetched again, and each damaged file is replaced by what it was, one atomic
step each, so that a cut in between leaves a slot that is less damaged than before.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tidegate.agent.download import Download
from tidegate.agent.slots import slot_name
from tidegate.core.errors import NotFound, TidegateError
from tidegate.core.model import Manifest
from tidegate.trust.payload import unpack_payload

if TYPE_CHECKING:
    from tidegate.agent.machine import Machine
    from tidegate.agent.tools import Tools

SLICE_S = 0.5


def mend(machine: Machine, tools: Tools) -> bool:
    """Go on mending an idle component for about half a second, if anything of it is damaged.

    Returns:
        Whether a release has just been put right. What fails is said, and tried again later.
    """
    if not machine.damaged or tools.clock.boot_s() < machine.mend_at_s:
        return False
    if held := tools.may_not_fetch():
        machine.mend_at_s = tools.clock.boot_s() + tools.settings.poll_s
        machine.sentence = held.sentence
        return False
    name = machine.damaged[0]
    try:
        digest, manifest = _what_it_was(machine, tools, name)
        download = machine.mending or _begin(machine, tools, manifest)
        machine.mending = download
        if not download.advance(SLICE_S):
            machine.mend_at_s = tools.clock.boot_s() + download.wait_s
            return False
        machine.slots.mend(digest, manifest, lambda place: unpack_payload(download.file, place, manifest.payload))
    except (TidegateError, OSError) as error:
        machine.mending = None
        machine.mend_at_s = tools.clock.boot_s() + machine.failures.next_s(tools.settings.poll_s)
        tools.say("not_mended", component=machine.component, sentence=f"{name} stays damaged for now: {error}")
        return False
    machine.mending = None
    with suppress(OSError):
        download.file.unlink(missing_ok=True)
    machine.look_at_slots()
    tools.say("mended", component=machine.component, sentence=f"{name} was damaged here and is whole again")
    return True


def _begin(machine: Machine, tools: Tools, manifest: Manifest) -> Download:
    payload = manifest.payload
    machine.slots.need_room(payload.length + payload.unpacked)
    directory, bucket, clock = machine.slots.directory / "fetch", tools.bucket, tools.clock
    return Download(tools.server.stream, payload, directory, lambda length: bucket.take(length, clock.boot_s()))


def _what_it_was(machine: Machine, tools: Tools, name: str) -> tuple[str, Manifest]:
    """Give the digest and the manifest of a slot, from itself or, if that is what is damaged, from the signed plan."""
    for pointed in (machine.slots.current(), machine.slots.good()):
        if pointed is not None and slot_name(pointed) == name:
            return pointed, machine.slots.manifest(pointed)
    seen = tools.plans.seen(machine.component)
    if seen.plan is None or slot_name(seen.plan.candidate.sha256) != name:
        raise NotFound("its manifest is damaged as well, and no plan names it; the next release replaces it")
    manifest, _ = tools.plans.release(machine.component, seen)
    return seen.plan.candidate.sha256, manifest
