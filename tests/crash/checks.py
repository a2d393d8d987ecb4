"""What must hold of a device: at the very moment of a cut, and after it was started again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.e2e.agent_server import COMPONENT

from tidegate.agent import guard
from tidegate.agent.config import Home
from tidegate.agent.journal import Journal
from tidegate.agent.seal import OWN
from tidegate.agent.slots import Slots, slot_name
from tidegate.core.errors import Untrusted
from tidegate.core.model import PlanState
from tidegate.trust.client import TrustClient

from .stage import Stage, Way

TEMPORARY = (".tmp", ".partial", ".part", ".damaged")


def at_the_cut(stage: Stage, way: Way, home: Path) -> None:
    """Look at what a cut left, before anything is started: every pointer names a whole release, and all is covered."""
    directory = home / "components" / COMPONENT
    current, good = pointer(home, "current"), pointer(home, "good")
    before = slot_name(way.old_digest) if way.old_digest else None
    new = slot_name(way.candidate.sha256)
    assert current in (before, new), f"current names {current}"
    assert good in (before, new), f"good names {good}"
    for name in {current, good} - {None}:
        whole(home, way, str(name))
    if good != before:
        journal = Journal(directory / "journal.json")
        assert journal.load() and journal.record.state in ("CONFIRMED", "IDLE"), "good moved before it was confirmed"
        assert current == new, "good moved, and current did not"
    if current == new and good != new:
        state = guard.read(directory / "guard.json") or {}
        assert state.get("armed") is True and state.get("slot") == new, "a release runs unconfirmed and unguarded"
    kinds = {(report["lease_id"], report["kind"]) for report in stage.world.reports}
    assert len(kinds) <= 1, f"two outcomes: {kinds}"
    refuses(stage, home, stage.oldest)
    if stage.world.announced:  # it has acted on the new plan: it must not forget that
        refuses(stage, home, stage.recent)


def afterwards(stage: Stage, way: Way, home: Path, *, faults: bool) -> str:
    """Look at a device that was started again; gives the outcome.

    Args:
        faults: calls failed: going back instead of confirming is right then, too.
    """
    world, directory = stage.world, home / "components" / COMPONENT
    kinds = world.kinds()
    assert len(kinds) == 1, f"one lease, one outcome: {kinds}"
    kind = kinds[0][1]
    assert kind == way.kind or (faults and kind == "reverted"), f"{kind}, not {way.kind}"
    assert len({report["seq"] for report in world.reports}) == 1, "one report has two numbers"
    assert world.seqs == sorted(set(world.seqs)), "a number of the credential was used twice"
    treated = way.arm == "treated"
    new = way.candidate.sha256
    expected = new if kind == "confirmed" and treated else way.old_digest
    slots = Slots(directory)
    assert slots.current() == slots.good() == expected, f"{slots.current()} and {slots.good()}, not {expected}"
    if expected:
        whole(home, way, slot_name(expected))
    harmed = treated and kind == "reverted" and way.state is not PlanState.HALTED  # a halt says nothing of this device
    assert slots.condemned(new) == harmed, "condemned or not, wrongly"
    assert slots.guard_state().get("armed") is not True, "the guard is still armed"
    assert not list((home / "outbox").glob("*.json")), "a report was not sent"
    kept = {slot.name for slot in slots.slots.iterdir()}
    # the plan still stands: a placebo holds the candidate ready for its next turn
    assert kept <= {slot_name(digest) for digest in (expected, new if not treated else None) if digest}, kept
    left = [str(p) for p in home.rglob("*") if p.name.endswith(TEMPORARY)]
    assert not left, f"left behind: {left}"
    refuses(stage, home, stage.oldest)
    refuses(stage, home, stage.recent)
    return kind


def whole(home: Path, way: Way, name: str) -> None:
    """A slot has every file of its release, byte for byte."""
    expected = way.new if name == slot_name(way.candidate.sha256) else way.old
    place = home / "components" / COMPONENT / "slots" / name
    found = {str(p.relative_to(place)): p.read_text() for p in place.rglob("*") if p.is_file() and p.name not in OWN}
    assert found == expected, f"slot {name} is not whole: {sorted((k, len(v)) for k, v in found.items())}"
    assert not Slots(home / "components" / COMPONENT).broken(name), f"slot {name} is not as it was filled"


def pointer(home: Path, name: str) -> str | None:
    path = home / "components" / COMPONENT / name
    return Path(os.readlink(path)).name if path.is_symlink() else None


def refuses(stage: Stage, home: Path, repo: Path) -> None:
    """An older repository, fresh and well signed, is not believed."""
    with stage.serving(repo):
        tools = Home(home)
        trust = TrustClient(tools.metadata, tools.load_root(), _reader(repo), lambda: stage.world.now())
        try:
            trust.refresh()
        except Untrusted:
            return
    raise AssertionError(f"an older repository was believed ({repo.name})")


def _reader(repo: Path) -> Callable[[str, int], bytes]:
    def fetch(path: str, limit: int) -> bytes:
        return (repo / path).read_bytes()[: limit + 1]

    return fetch
