"""The agent is killed, or refused, at its system calls: it starts again and ends where it should, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.core.device import STEPS, State

from . import checks, cuts, trace
from .stage import Stage

pytestmark = [pytest.mark.room("agent"), pytest.mark.xdist_group("crash")]


@pytest.fixture(scope="module")
def every(stage: Stage, home: Path) -> list[cuts.Cut]:
    return cuts.every_cut(stage, home)


def test_a_sample_of_all_cuts(stage: Stage, home: Path, every: list[cuts.Cut], seed: int) -> None:
    deaths = cuts.kills(every)
    errors = [cut for cut in every if cut.fault.what != "KILL" and not cut.fault.ever]
    drawn = [*cuts.sample(deaths, 30, seed), *cuts.sample(errors, 10, seed)]
    tally = cuts.do_all(stage, drawn, home)
    assert not tally.failures, "\n\n".join(tally.failures)
    assert sum(tally.done.values()) == 40


def test_the_ways_go_through_every_step_that_moves_a_pointer(stage: Stage, every: list[cuts.Cut]) -> None:
    assert {cut.way for cut in every} == stage.ways.keys()
    said = "".join(stage.said.values())
    for (state, event), (after, _) in STEPS.items():
        moves = {state, after} & {State.APPLYING, State.CONFIRMED, State.REVERTED}
        refused = (state, event.name) == (State.APPLYING, "SICK")  # a failed start: the refused calls reach it
        if moves and not refused and event.name != "WITHDRAWN":
            assert f'"state": "{after.name}", "was": "{state.name}"' in said, f"{state.name} to {after.name}"


def test_an_older_repository_is_believed_where_the_record_of_versions_is_gone(stage: Stage, home: Path) -> None:
    """The test of the test: what the cuts check of the trust state can fail."""
    way = stage.ways["install"]
    stage.begin(way, home)
    for path in [*home.glob("metadata/trust_floor*"), *home.glob("metadata/metadata/*.json")]:
        path.unlink()
    with pytest.raises(AssertionError, match="was believed"):
        checks.refuses(stage, home, stage.oldest)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_death_at_every_call(stage: Stage, home: Path, every: list[cuts.Cut]) -> None:
    tally = cuts.do_all(stage, cuts.kills(every), home)
    assert not tally.failures, "\n\n".join(tally.failures[:20])
    assert sum(tally.done.values()) >= 500


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_errors_once_and_from_then_on(stage: Stage, home: Path, every: list[cuts.Cut], seed: int) -> None:
    once = [cut for cut in every if cut.fault.what != "KILL" and not cut.fault.ever]
    ever = [cut for cut in every if cut.fault.ever]
    tally = cuts.do_all(stage, [*cuts.sample(once, 300, seed), *cuts.sample(ever, 100, seed)], home)
    assert not tally.failures, "\n\n".join(tally.failures[:20])


def test_the_command_itself_and_not_a_fork_of_this_process(stage: Stage, home: Path) -> None:
    """The same as above, once, with `python -m tidegate.agent` as the machine starts it."""
    way = stage.ways["install"]
    stage.begin(way, home)
    ran = trace.run(trace.agent(home), stage.aside, trace.Fault("rename", 25))
    assert ran.code not in (0, 1, 2, None), ran.said
    checks.at_the_cut(stage, way, home)
    stage.revive(home)
    assert checks.afterwards(stage, way, home, faults=False) == "confirmed"
