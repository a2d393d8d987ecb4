"""The whole of tuf-conformance against the agent's client, where TIDEGATE_TUF_CONFORMANCE names a checkout of it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from tests.conformance.suite import PAGE, run_suite

pytestmark = pytest.mark.room("trust")


@pytest.mark.timeout(3600)
def test_the_agents_client_passes_the_whole_suite(tmp_path: Path) -> None:
    checkout = os.environ.get("TIDEGATE_TUF_CONFORMANCE")
    if not checkout:
        pytest.skip("TIDEGATE_TUF_CONFORMANCE names no checkout of tuf-conformance")
    if not shutil.which("faketime"):
        pytest.skip("faketime is not installed")
    results = run_suite(Path(checkout).resolve(), tmp_path)
    assert [result for result in results if result.ended != "passed"] == []
    assert len(results) >= 108, "as many as the tag v2.4.0 has; later commits have more"


def test_the_page_shows_a_run_in_which_all_passed() -> None:
    text = PAGE.read_text(encoding="utf-8")
    said = re.search(r"(\d+) tests, (\d+) passed, 0 failed, 0 skipped", text)
    assert said and said[1] == said[2] and int(said[1]) >= 113
    assert text.count("| passed |") == int(said[1])
