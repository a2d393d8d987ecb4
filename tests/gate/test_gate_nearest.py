"""Where nothing names a line: the line or byte where two files part, or where a packed one breaks off."""

from __future__ import annotations

import gzip
import io
import random
import shutil
import tarfile
from pathlib import Path

import pytest

from tidegate.cli.gate import Wanted, trial_of
from tidegate.gate.nearest import broken_at, parting
from tidegate.gate.pipeline import run_checks
from tidegate.gate.port import choose, load_checks
from tidegate.gate.report import refusal
from tidegate.gate.settings import Corpora, Settings

pytestmark = pytest.mark.room("gate")
ALONE = Settings(corpus=Corpora(system=False))


def packed(*, zipped: bool = True) -> bytes:
    """A database in ClamAV's own form, of two files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("daily.ndb", "daily.hdb"):
            text = random.Random(name).randbytes(3000).hex().encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
    head = b"ClamAV-VDB:26 Nov 2026:1:1:90:X:X:tides:0".ljust(512)
    return head + (gzip.compress(buffer.getvalue(), mtime=0) if zipped else buffer.getvalue())


@pytest.mark.parametrize("zipped", [True, False], ids=["gzip", "plain"])
def test_a_packed_database_that_breaks_off_is_told_with_byte_and_file(tmp_path: Path, zipped: bool) -> None:
    path, data = tmp_path / "daily.cvd", packed(zipped=zipped)
    path.write_bytes(data)
    assert broken_at(path) == ""
    share = len(data) * 2 // 3 if zipped else 512 + 512 + 6144 + 512 + 1000
    path.write_bytes(data[:share])
    said = broken_at(path)
    assert said.startswith("daily.cvd breaks off at byte ") and "in file 2 of those packed in it (daily.hdb)" in said
    assert abs(int(said.split(" byte ")[1].split(", in")[0].replace(",", "")) - share) <= 512
    path.write_bytes(data[:100])
    assert broken_at(path) == "daily.cvd ends at byte 100, within its header of 512 bytes"
    path.write_bytes(b"nothing of the kind")
    assert broken_at(path) == "daily.cvd has no header of ClamAV's at byte 0"


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        (b"a\nb\nc\n", b"a\nb\nX\n", (3, 4)),
        (b"a\nb\n", b"a\nb\nc\nd\n", (3, 4)),
        (b"a\nb\nc\n", b"a\n", (1, 2)),
        (b"", b"x\n", (1, 0)),
        (b"\0abc", b"\0abd", (0, 3)),
        (b"a" * 70_000 + b"\nb", b"a" * 70_000 + b"\nc", (2, 70_001)),
        (b"a" * 70_000, b"a" * 70_000 + b"\nmore", (1, 70_000)),
    ],
)
def test_where_two_files_part(tmp_path: Path, old: bytes, new: bytes, place: tuple[int, int]) -> None:
    (tmp_path / "old").write_bytes(old)
    (tmp_path / "new").write_bytes(new)
    assert parting(tmp_path / "old", tmp_path / "new") == place


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_a_payload_that_grows_is_told_with_the_line_from_which_it_does(tmp_path: Path) -> None:
    rule = 'rule {} {{ strings: $a = "bad text {}" condition: $a }}\n'
    for place, count in (("old", 3), ("new", 30)):
        (tmp_path / place).mkdir()
        (tmp_path / place / "all.yar").write_text("".join(rule.format(f"r{n}", n) for n in range(count)))
    with trial_of(tmp_path / "new", Wanted(ALONE, Path(), baselines=(tmp_path / "old",))) as trial:
        (result,) = run_checks(trial, choose(load_checks(), ["size"], []))
    lines = refusal([result])
    assert lines and all(line.startswith("size: all.yar:4: it has ") for line in lines), lines
    assert result.findings[0].quote.startswith("rule r3 ")


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
@pytest.mark.skipif(shutil.which("clamscan") is None, reason="clamscan is not installed")
def test_clamscan_refuses_a_packed_database_that_is_cut_off_and_the_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    data = packed()
    (tmp_path / "new" / "daily.cvd").write_bytes(data[: len(data) * 2 // 3])
    with trial_of(tmp_path / "new", Wanted(ALONE, Path(), driver="clamav")) as trial:
        (result,) = run_checks(trial, choose(load_checks(), ["load"], []))
    lines = refusal([result])
    assert lines and "daily.cvd breaks off at byte" in lines[0] and lines[0].startswith("load: daily.cvd: "), lines


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
@pytest.mark.skipif(shutil.which("clamscan") is None, reason="clamscan is not installed")
def test_a_line_that_clamscan_refuses_without_naming_it_is_found(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "good.ndb").write_text("Tide.One:0:*:61206d61726b206f66\n")
    line = "Tide.L{0};Engine:81-255,Target:0;0&1;61206e6f7465{0:02x};0/[a-z{1}/\n"
    lines = [line.format(number, "" if number == 5 else "]") for number in range(9)]
    (tmp_path / "new" / "logical.ldb").write_text("".join(lines))
    with trial_of(tmp_path / "new", Wanted(ALONE, Path(), driver="clamav")) as trial:
        (result,) = run_checks(trial, choose(load_checks(), ["load"], []))
    lines = refusal([result])
    assert lines and lines[0].startswith("load: logical.ldb:6: "), lines
    assert "missing terminating ]" in lines[0] and result.findings[0].quote.startswith("Tide.L5;")
