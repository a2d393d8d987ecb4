"""The publisher never misleads a device, wherever it dies, and cleans up only what nobody reads any more."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.pens import Watched

from tidegate.core.errors import BadInput, NotFound, Untrusted
from tidegate.core.wire import encode
from tidegate.trust.durable import write_durably
from tidegate.trust.keys import create_key
from tidegate.trust.publisher import KEEP_EDITIONS, KEEP_S, Publisher

if TYPE_CHECKING:
    from .conftest import House


class PowerCut(Exception):
    """The machine has just lost its power."""


def before(path: Path, data: bytes) -> None:
    """Nothing of the write is left."""


def after(path: Path, data: bytes) -> None:
    """The write is whole and durable; the next one never began."""
    write_durably(path, data)


def half(path: Path, data: bytes) -> None:
    """The temporary file is left behind."""
    (path.parent / f".{path.name}.cut.tmp").write_bytes(data[:10])


@pytest.mark.parametrize("end", [before, after, half])
@pytest.mark.parametrize("at", range(4))
def test_a_power_cut_at_each_write(rolling: House, at: int, end: Callable[[Path, bytes], None]) -> None:
    device, _ = rolling.device()
    device.refresh()
    plan, known = device.plan(rolling.component)
    writes: list[Path] = []

    def cut(path: Path, data: bytes) -> None:
        if len(writes) == at:
            end(path, data)
            raise PowerCut
        writes.append(path)

    changed = rolling.plan(plan.candidate, ring=2)
    with pytest.raises(PowerCut):
        Publisher(rolling.repo, rolling.online, pen=Watched(cut)).publish(
            {rolling.component: encode(changed)}, rolling.now
        )
    device.refresh()
    seen, version = device.plan(rolling.component)
    # The timestamp is the last of the four writes: only once it stands is the plan there, and then it is there whole.
    published = at == 3 and end is after
    assert (seen.ring, version > known) == ((2, True) if published else (1, False))

    rolling.publisher = Publisher(rolling.repo, rolling.online)
    assert not list(rolling.repo.rglob("*.tmp"))
    final = rolling.publish(rolling.plan(plan.candidate, ring=3))
    device.refresh()
    assert (device.plan(rolling.component)[0].ring, device.plan(rolling.component)[1]) == (3, final)
    assert final > version


def test_a_timestamp_that_was_read_and_then_lost_to_a_power_cut(rolling: House) -> None:
    """A rename that was seen but not yet synced may be undone; its number must not be signed again."""
    device, _ = rolling.device()
    device.refresh()
    plan, _ = device.plan(rolling.component)

    def visible_then_lost(path: Path, data: bytes) -> None:
        if path.name == "timestamp.json":
            old = path.read_bytes()
            write_durably(path, data)
            device.refresh()
            path.write_bytes(old)
            raise PowerCut

    torn = Publisher(rolling.repo, rolling.online, pen=Watched(visible_then_lost))
    with pytest.raises(PowerCut):
        torn.publish({rolling.component: encode(rolling.plan(plan.candidate, ring=2))}, rolling.now)
    seen, version = device.plan(rolling.component)
    assert seen.ring == 2
    rolling.publisher = Publisher(rolling.repo, rolling.online)
    assert rolling.publish(rolling.plan(plan.candidate, ring=3)) > version
    assert device.refresh()
    assert device.plan(rolling.component)[0].ring == 3


def test_a_damaged_timestamp_is_named_with_the_way_out_which_works(rolling: House) -> None:
    device, _ = rolling.device()
    device.refresh()
    plan, version = device.plan(rolling.component)
    timestamp = rolling.repo / "metadata" / "timestamp.json"
    timestamp.write_bytes(b"")
    with pytest.raises(BadInput, match=f"remove {timestamp} and start again"):
        Publisher(rolling.repo, rolling.online)
    timestamp.unlink()
    rolling.publisher = Publisher(rolling.repo, rolling.online)
    assert rolling.publish(rolling.plan(plan.candidate, ring=4)) > version
    assert device.refresh()
    assert device.plan(rolling.component)[0].ring == 4


def test_a_restart_keeps_the_plans_and_goes_on_counting(rolling: House) -> None:
    version = rolling.publisher.version
    again = Publisher(rolling.repo, rolling.online)
    assert again.version == version
    assert again.refresh(rolling.now + 2000) == version + 1
    device, _ = rolling.device()
    rolling.now += 300
    device.refresh()
    assert device.plan(rolling.component)[1] == version + 1


def test_signatures_are_renewed_at_half_life_and_not_before(rolling: House) -> None:
    publisher, version = rolling.publisher, rolling.publisher.version
    assert publisher.refresh(rolling.now + 1799) is None
    assert publisher.refresh(rolling.now + 1800) == version + 1
    assert publisher.refresh(rolling.now + 1801) is None
    # A clock that was set back must not leave signatures that end too early.
    assert publisher.refresh(rolling.now - 5000) == version + 2


def test_a_component_without_a_plan_has_none_any_more(rolling: House) -> None:
    device, _ = rolling.device()
    device.refresh()
    assert device.components() == ("edr-rules",)
    rolling.publisher.publish({}, rolling.now)
    device.refresh()
    assert device.components() == ()
    with pytest.raises(NotFound, match="has no plan"):
        device.plan(rolling.component)


def test_what_cannot_be_published_changes_nothing(rolling: House) -> None:
    files = sorted(rolling.repo.rglob("*"))
    with pytest.raises(BadInput, match="component other is not in this repository"):
        rolling.publisher.publish({"other": b"{}"}, rolling.now)
    with pytest.raises(BadInput, match="at most"):
        rolling.publisher.publish({rolling.component: b"x" * 2_000_001}, rolling.now)
    assert sorted(rolling.repo.rglob("*")) == files


def test_a_reader_in_the_middle_of_an_older_edition_finishes_and_then_it_is_cleaned(rolling: House) -> None:
    def count(pattern: str) -> int:
        return len(list(rolling.repo.glob(pattern)))

    device, wire = rolling.device()
    timestamp = (rolling.repo / "metadata" / "timestamp.json").read_bytes()
    plan_of = rolling.plan(rolling.candidate(rolling.release(2)))
    start = rolling.now
    for i in range(20):
        rolling.now = start + i
        rolling.publish(rolling.plan(plan_of.candidate, ring=i))
    wire.answers["metadata/timestamp.json"] = timestamp
    device.refresh()
    assert device.plan(rolling.component)[0].ring == 1

    rolling.now = start + KEEP_S + 20
    rolling.publish(rolling.plan(plan_of.candidate, ring=99))
    assert count("metadata/*.plans.json") == count("metadata/*.snapshot.json") == KEEP_EDITIONS
    assert count("targets/plans/*") == KEEP_EDITIONS
    assert count("metadata/*.root.json") == 1 and count("metadata/*.releases-*.json") == 3
    fresh, _ = rolling.device("fresh")
    fresh.refresh()
    assert fresh.plan(rolling.component)[0].ring == 99


def test_a_plan_that_stays_the_same_is_never_cleaned_away(rolling: House) -> None:
    for i in range(1, 10):
        rolling.publisher.refresh(rolling.now + i * 2000)
    rolling.now += 9 * 2000
    rolling.publisher.refresh(rolling.now)
    assert len(list((rolling.repo / "metadata").glob("*.plans.json"))) == KEEP_EDITIONS
    assert len(list((rolling.repo / "targets" / "plans").iterdir())) == 1


def test_keys_that_the_repository_does_not_name_are_refused(house: House, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(house.online, other)
    (other / "plans.pem").unlink()
    create_key(other, "plans")
    with pytest.raises(Untrusted, match="online key plans is not the one"):
        Publisher(house.repo, other)
    with pytest.raises(NotFound):
        Publisher(house.repo, tmp_path / "nowhere")
    with pytest.raises(NotFound, match="tidegate init"):
        Publisher(tmp_path / "empty", house.online)
