"""The way back when online keys are lost: the key that was made to follow is taken though the old one is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.core.errors import NotFound, Untrusted
from tidegate.trust.keys import create_key, key_path, online_signer


def test_a_lost_online_key_does_not_stand_in_the_way_of_the_next(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        online_signer(tmp_path, "plans", ["any"])
    following = create_key(tmp_path, "plans.next")
    with pytest.raises(Untrusted):
        online_signer(tmp_path, "plans", ["another"])
    assert online_signer(tmp_path, "plans", [following.keyid]).public_key.keyid == following.keyid
    assert key_path(tmp_path, "plans").exists() and not key_path(tmp_path, "plans.next").exists()
