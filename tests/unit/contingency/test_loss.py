"""Losses: the model against what was published, its ranges, and what a budget, a cap or a second vendor saves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tidegate.cli.main import run
from tidegate.contingency.loss import back_test, estimate, published_return, saved, so_far
from tidegate.contingency.loss_data import AIRLINE_LOSS, FORTUNE_500, FORTUNE_500_TOTAL
from tidegate.contingency.loss_page import back_test_page
from tidegate.core.errors import BadInput


def test_it_gives_the_published_sums_back() -> None:
    for one in FORTUNE_500:
        assert estimate(one.sector, companies=one.companies).usd == pytest.approx(one.usd)
    total = sum(estimate(one.sector, companies=one.companies).usd for one in FORTUNE_500)
    assert total == pytest.approx(FORTUNE_500_TOTAL, rel=0.001)
    assert sum(one.companies for one in FORTUNE_500) == 125
    airline = estimate("airlines")
    assert airline.low < AIRLINE_LOSS < airline.high, "the one company that is known lies in the range"


def test_services_return_as_published() -> None:
    back = published_return()
    assert back.back_by(6) == pytest.approx(0.58) and back.back_by(48) == pytest.approx(0.95)
    hours = np.random.default_rng(1).lognormal(np.log(back.median_h), back.sigma, 400_000)
    assert back.mean_h == pytest.approx(hours.mean(), rel=0.02)
    assert back.down_until(6) == pytest.approx(np.minimum(hours, 6).mean(), rel=0.01)
    now, whole = so_far("banking", 6)
    assert 0 < now.usd < whole.usd and so_far("banking", 0)[0].usd == 0


def test_many_companies_are_surer_than_one() -> None:
    one, many = estimate("health"), estimate("health", companies=30)
    assert many.high / many.usd < one.high / one.usd


def test_what_would_have_been_saved() -> None:
    loss = estimate("airlines", hours=10)
    rows = saved(loss, 10_000, max_harmed=100, cap=500, vendors=2)
    assert [row["devices_down"] for row in rows] == [100, 500, 5000, 0]
    assert rows[0]["saved_usd"] == pytest.approx(loss.usd * 0.99, abs=1)
    assert rows[2]["saved_usd"] == pytest.approx(loss.usd / 2, abs=1)
    assert saved(loss, 50, max_harmed=100)[0]["saved_usd"] == 0


def test_the_back_test_says_its_error() -> None:
    rows = {row["name"]: row for row in back_test()}
    assert rows["Fortune 500, health"]["how"] == "fitted"
    # Left out, manufacturing would be taken for the mean of all others: wrong by a factor of seven.
    assert rows["Fortune 500, manufacturing"]["held_out_error"] > 5
    assert rows["one airline"]["error"] == pytest.approx(860 / 6 / 550 - 1, abs=1e-3)
    page = back_test_page(list(rows.values()))
    assert "wrong by up to" in page and "<svg" in page and "<script" not in page


def test_bad_input_and_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput, match="no sector 'space'"):
        estimate("space")
    with pytest.raises(BadInput):
        estimate("health", share=2)
    with pytest.raises(SystemExit) as ended:
        run(["loss", "estimate", "--sector", "airlines", "--devices", "100", "--max-harmed", "5", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0 and found["loss"]["range_usd"][0] < found["loss"]["usd"]
    with pytest.raises(SystemExit) as ended:
        run(["loss", "estimate", "--sector", "airlines", "--max-harmed", "5"])
    assert ended.value.code == 2
