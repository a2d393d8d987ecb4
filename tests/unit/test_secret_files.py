"""What holds a secret is its owner's alone, and a webhook's address shows its beginning alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tidegate.cli.passphrase import passphrase_of
from tidegate.cli.tokens import reachable
from tidegate.control.news import shown_url
from tidegate.core.errors import BadInput
from tidegate.core.private import too_open
from tidegate.log.address import open_log
from tidegate.log.sqlite import SqliteLog

pytestmark = [pytest.mark.room("trust"), pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_log_and_what_lies_beside_it_is_the_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        log = SqliteLog(tmp_path / "log.db")
    finally:
        os.umask(before)
    found = {path.name: mode(path) for path in tmp_path.iterdir()}
    log.close()
    assert "log.db-wal" in found
    assert set(found.values()) == {0o600}


def test_the_log_of_an_older_tidegate_is_taken_from_others(tmp_path: Path) -> None:
    SqliteLog(tmp_path / "log.db").close()
    (tmp_path / "log.db").chmod(0o644)
    log = SqliteLog(tmp_path / "log.db")
    assert {mode(path) for path in tmp_path.iterdir()} == {0o600}
    log.close()


@pytest.mark.parametrize("wide", [0o644, 0o640, 0o604, 0o666, 0o610])
def test_a_password_file_that_others_can_read_is_refused(tmp_path: Path, wide: int) -> None:
    file = tmp_path / "word"
    file.write_text("a passphrase\n")
    file.chmod(wide)
    with pytest.raises(BadInput, match=f"others can read it .mode {wide:04o}.: chmod 600 {file}"):
        passphrase_of(file, None, "Passphrase")
    with pytest.raises(BadInput, match="chmod 600"):
        open_log(tmp_path / "log.db", "postgresql://ada@127.0.0.1:1/none", file)
    file.chmod(0o600)
    assert passphrase_of(file, None, "Passphrase") == b"a passphrase"


def test_a_pipe_has_no_mode_that_counts() -> None:
    reading, writing = os.pipe()
    assert too_open("/dev/fd/9", os.fstat(reading).st_mode | 0o777) == ""
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example/services/T0/B0/verysecret", "https://hooks.example/services..."),
        ("https://hooks.example:8443/a?key=verysecret", "https://hooks.example:8443/a?key=ve..."),
        ("https://hooks.example", "https://hooks.example"),
        ("https://hooks.example?key=verysecret", "https://hooks.example/key=very..."),
        ("http://[::1]:9/x", "http://[::1]:9/x"),
    ],
)
def test_of_a_webhooks_address_only_the_beginning_shows(url: str, shown: str) -> None:
    assert shown_url(url) == shown
    assert "verysecret" not in shown


def test_a_token_names_no_address_that_devices_cannot_reach() -> None:
    assert reachable("https://127.0.0.1:9400") == "https://127.0.0.1:9400"
    for everywhere in ("https://0.0.0.0:9400", "https://[::]:9400"):
        found = reachable(everywhere)
        assert "0.0.0.0" not in found and "::" not in found
        assert found.startswith("https://") and found.endswith(":9400")
