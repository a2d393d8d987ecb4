"""Files stand whole or not at all, keys are kept from others, tokens and secrets never show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tidegate.core.errors import BadInput, NotFound, Refused, Untrusted
from tidegate.trust.durable import make_directory, read_json, sweep_temporary, write_durably
from tidegate.trust.errors import DiskFull
from tidegate.trust.keys import create_key, key_path, load_signer, load_signers
from tidegate.trust.tokens import TOKEN_RANDOM_BYTES, new_token, parse_token, token_hash


def test_a_file_is_replaced_whole_and_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_durably(path, b"one")
    write_durably(path, b"two" * 100_000, 0o600)
    assert path.read_bytes() == b"two" * 100_000
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "state.json").mkdir()
    with pytest.raises(OSError):
        write_durably(tmp_path / "state.json", b"a directory is in the way")
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_the_order_of_system_calls_is_data_fsync_rename_fsync(tmp_path: Path) -> None:
    if subprocess.run(["which", "strace"], capture_output=True).returncode:
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    write = f"write_durably(Path({str(tmp_path / 'x')!r}), b'data')"
    code = f"from pathlib import Path; from tidegate.trust.durable import write_durably; {write}"
    command = [
        "strace",
        "-o",
        str(trace),
        "-e",
        "trace=write,fsync,rename,renameat,renameat2",
        sys.executable,
        "-c",
        code,
    ]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    calls = [line.split("(")[0] for line in trace.read_text().splitlines() if "(" in line and "resumed" not in line]
    assert calls[-4:] == ["write", "fsync", "rename", "fsync"]


def test_what_a_dead_writer_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".state.json.abc123.tmp").write_bytes(b"half")
    (tmp_path / "state.json").write_bytes(b"whole")
    sweep_temporary(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_a_full_disk_says_so_and_keeps_the_old_file(small_disk: Path) -> None:
    write_durably(small_disk / "state", b"old")
    with pytest.raises(DiskFull, match="no room left"):
        write_durably(small_disk / "state", os.urandom(1 << 20))
    assert (small_disk / "state").read_bytes() == b"old"
    assert len(list(small_disk.iterdir())) == 1


def test_reading_json_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="the settings is not there"):
        read_json(tmp_path / "absent", "the settings")
    (tmp_path / "bad").write_text("{")
    with pytest.raises(BadInput, match="is not JSON"):
        read_json(tmp_path / "bad", "the settings")


def test_directories_are_made_with_those_above(tmp_path: Path) -> None:
    make_directory(tmp_path / "a" / "b", 0o700)
    make_directory(tmp_path / "a" / "b", 0o700)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_keys_are_private_never_overwritten_and_sign(tmp_path: Path) -> None:
    public = create_key(tmp_path / "keys", "release-1")
    path = key_path(tmp_path / "keys", "release-1")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    signer = load_signer(path)
    public.verify_signature(signer.sign(b"data"), b"data")
    before = path.read_bytes()
    with pytest.raises(Refused, match="never overwritten"):
        create_key(tmp_path / "keys", "release-1")
    assert path.read_bytes() == before
    path.chmod(0o644)
    with pytest.raises(Untrusted, match="chmod 600"):
        load_signer(path)


def test_a_passphrase_encrypts_the_key(tmp_path: Path) -> None:
    create_key(tmp_path, "root-1", b"correct horse")
    path = key_path(tmp_path, "root-1")
    assert b"ENCRYPTED" in path.read_bytes()
    assert load_signer(path, b"correct horse")
    for wrong, words in ((None, "give its passphrase"), (b"wrong", "passphrase is wrong")):
        with pytest.raises(BadInput, match=words) as caught:
            load_signer(path, wrong)
        assert "horse" not in str(caught.value)


@pytest.mark.parametrize("name", ["../root", "", "a/b", "Root", "x" * 64])
def test_a_key_name_cannot_leave_the_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput):
        create_key(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "root-1.pem"
    path.write_bytes(b"nonsense")
    path.chmod(0o600)
    with pytest.raises(BadInput, match="no PKCS8 PEM"):
        load_signers(tmp_path, "root")
    with pytest.raises(BadInput, match=r"no keys targets-1\.pem"):
        load_signers(tmp_path, "targets")


def test_a_token_comes_back_as_it_was_and_hides_its_secret() -> None:
    token = new_token("ab" * 32, bytes(range(TOKEN_RANDOM_BYTES)))
    assert parse_token(token.text() + "\n") == token
    assert token.text() == "tg1." + "ab" * 32 + ".0001020304050607." + bytes(range(8, 40)).hex()
    assert token.secret not in repr(token)
    other = new_token("ab" * 32, bytes(range(1, 1 + TOKEN_RANDOM_BYTES)))
    assert len(token_hash(token.text())) == 64
    assert token_hash(token.text()) != token_hash(other.text())
    assert token.secret not in token_hash(token.text())


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: t + "0", lambda t: t.replace("tg1", "tg2"), str.upper])
def test_a_mangled_token_is_refused_without_being_repeated(change) -> None:
    text = change(new_token("ab" * 32, bytes(TOKEN_RANDOM_BYTES)).text())
    with pytest.raises(BadInput) as caught:
        parse_token(text)
    assert text not in str(caught.value)
