"""Payloads pack the same way every time, and unpack whole, durable and within their manifest, or not at all."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import tarfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.core.errors import BadInput, NotFound, Refused, Untrusted
from tidegate.core.model import Payload
from tidegate.trust.errors import DiskFull
from tidegate.trust.payload import describe_payload, pack_payload, store_payload, unpack_payload, verify_payload


def tree(directory: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    return directory


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as made:
        for info, data in members:
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def claim(data: bytes, files: int, unpacked: int) -> Payload:
    return Payload(sha256(data).hexdigest(), len(data), files, unpacked)


def test_the_same_content_packs_to_the_same_bytes(tmp_path: Path) -> None:
    one = tree(tmp_path / "one", {"b.yar": b"b", "a/z.yar": b"z", "a/b/c.yar": b"c"})
    two = tree(tmp_path / "two", {"a/b/c.yar": b"c", "b.yar": b"b", "a/z.yar": b"z"})
    os.utime(two / "b.yar", (1, 1))
    (two / "b.yar").chmod(0o600)
    assert pack_payload(one) == pack_payload(two)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.from_regex(r"\A([a-z]{1,8}/)?[a-zäß]{1,8}1\.yar\Z"), st.binary(max_size=3000), min_size=1))
def test_what_is_packed_unpacks_as_it_was(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    place = tmp_path_factory.mktemp("payload")
    try:
        data = pack_payload(tree(place / "in", files))
    except BadInput as error:
        assert "twice" in str(error)
        return
    payload = describe_payload(data)
    unpack_payload(store_payload(place, data, payload), place / "out", payload)
    assert files_of(place / "out") == files
    assert (payload.files, payload.unpacked) == (len(files), sum(map(len, files.values())))


def test_the_executable_bit_is_kept_and_nothing_else(tmp_path: Path) -> None:
    source = tree(tmp_path / "in", {"run.sh": b"#!/bin/sh", "data": b"d"})
    (source / "run.sh").chmod(0o4755)
    data = pack_payload(source)
    payload = describe_payload(data)
    unpack_payload(store_payload(tmp_path, data, payload), tmp_path / "out", payload)
    assert (tmp_path / "out/run.sh").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "out/data").stat().st_mode & 0o7777 == 0o644


def test_what_cannot_be_packed_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        pack_payload(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds no file"):
        pack_payload(tmp_path / "empty")
    linked = tree(tmp_path / "linked", {"a": b"a"})
    (linked / "b").symlink_to("a")
    with pytest.raises(BadInput, match="'b' is a link"):
        pack_payload(linked)
    os.mkfifo(tree(tmp_path / "pipe", {"a": b"a"}) / "p")
    with pytest.raises(BadInput, match="'p' is a link or a device"):
        pack_payload(tmp_path / "pipe")
    no_text = tree(tmp_path / "no-text", {"a": b"a"})
    Path(os.fsdecode(os.fsencode(no_text) + b"/\xff.yar")).write_bytes(b"b")
    with pytest.raises(BadInput, match=r"xff.yar' is no UTF-8 name"):
        pack_payload(no_text)
    with pytest.raises(BadInput, match="at most"):
        pack_payload(tree(tmp_path / "big", {"a": b"aaaa"}), limit=3)
    with pytest.raises(BadInput, match="every system"):
        pack_payload(tree(tmp_path / "windows", {"aux.yar": b"a"}))


BAD_MEMBERS = {
    "absolute": [member("/etc/passwd")],
    "climbing": [member("a/../../b")],
    "dot": [member("./a")],
    "windows drive": [member("C:a")],
    "windows separator": [member("..\\b")],
    "line break": [member("a\nb")],
    "empty part": [member("a//b")],
    "symlink": [member("a", tarfile.SYMTYPE, "/etc")],
    "hard link": [member("a"), member("b", tarfile.LNKTYPE, "a")],
    "device": [member("a", tarfile.CHRTYPE)],
    "pipe": [member("a", tarfile.FIFOTYPE)],
    "directory": [member("a", tarfile.DIRTYPE)],
    "sparse": [member("a", tarfile.GNUTYPE_SPARSE)],
    "contiguous": [member("a", tarfile.CONTTYPE)],
    "long name of GNU": [member("a" * 150)],
    "left to right": [member("a\u2028b\x7f")],
    "twice": [member("a"), member("a")],
    "twice but for the form of a letter": [member("\u00e9"), member("e\u0301")],
    "twice but for case": [member("README"), member("readme")],
    "file and directory": [member("a"), member("a/b")],
}


@pytest.mark.parametrize("members", BAD_MEMBERS.values(), ids=BAD_MEMBERS)
def test_an_archive_that_reaches_for_more_is_refused_before_anything_is_written(
    tmp_path: Path, members: list[tarfile.TarInfo]
) -> None:
    data = archive(*((info, b"") for info in members))
    (tmp_path / "p.tar").write_bytes(data)
    with pytest.raises(BadInput):
        unpack_payload(tmp_path / "p.tar", tmp_path / "slot", claim(data, len(members), 0))
    assert [p.name for p in tmp_path.iterdir()] == ["p.tar"]


def _extended(**said: str) -> bytes:
    """A member of one byte whose pax header says something else of it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as made:
        info = member("a")
        info.size, info.pax_headers = 1, {name.replace("_", "."): value for name, value in said.items()}
        made.addfile(info, io.BytesIO(b"x"))
    return buffer.getvalue()


BOMBS = {
    "sparse by pax": _extended(GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_realsize="1000000000000"),
    "older sparse": _extended(GNU_sparse_map="0,1", GNU_sparse_size="1000000000000"),
    "another size": _extended(size="1000000000000"),
    "another name": _extended(path="../../b"),
    "linked": _extended(linkpath="/etc/passwd"),
    "a header of a megabyte": _extended(comment="c" * 1_000_000),
    "gzip": gzip.compress(archive((member("a"), bytes(10_000_000)))),
    "xz": lzma.compress(archive((member("a"), bytes(10_000_000)))),
    "a size in binary": archive((member("a"), b"x")).replace(b"00000000001\0", b"\x80" + bytes(10) + b"\1"),
    "a size below nothing": archive((member("a"), b"x")).replace(b"00000000001\0", b"-0000000001\0"),
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_a_header_that_says_more_than_there_is_is_refused_before_anything_is_written(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "p.tar").write_bytes(data)
    with pytest.raises(BadInput):
        describe_payload(data)
    for unpacked in (1, 1_000_000_000_000):
        with pytest.raises(BadInput):
            unpack_payload(tmp_path / "p.tar", tmp_path / "slot", claim(data, 1, unpacked))
    assert [p.name for p in tmp_path.iterdir()] == ["p.tar"]


@pytest.mark.parametrize("change", [{"files": 2}, {"unpacked": 4}, {"length": 5}, {"sha256": "0" * 64}])
def test_a_payload_must_be_just_what_its_manifest_says(tmp_path: Path, change: dict[str, int]) -> None:
    data = archive((member("a"), b"aaa"))
    (tmp_path / "p.tar").write_bytes(data)
    right = claim(data, 1, 3)
    with pytest.raises(Untrusted):
        unpack_payload(tmp_path / "p.tar", tmp_path / "slot", replace(right, **change))
    assert not (tmp_path / "slot").exists()
    unpack_payload(tmp_path / "p.tar", tmp_path / "slot", right)
    with pytest.raises(Refused, match="exists already"):
        unpack_payload(tmp_path / "p.tar", tmp_path / "slot", right)


@pytest.mark.parametrize("at", [0, 600, -1])
def test_one_changed_byte_is_seen(tmp_path: Path, at: int) -> None:
    data = bytearray(archive((member("a"), b"x" * 500)))
    payload = claim(bytes(data), 1, 500)
    data[at] ^= 1
    (tmp_path / "p.tar").write_bytes(data)
    with pytest.raises(Untrusted, match="has not the digest"):
        verify_payload(tmp_path / "p.tar", payload)
    with pytest.raises(Untrusted):
        store_payload(tmp_path, bytes(data), payload)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    for data in (b"not a tar at all" * 100, archive((member("a"), b"x" * 5000))[:1500]):
        with pytest.raises(BadInput):
            describe_payload(data)


def test_a_half_unpacked_slot_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    data = archive((member("a"), b"aaa"))
    (tmp_path / "p.tar").write_bytes(data)
    tree(tmp_path / "slot.partial", {"old": b"half"})
    unpack_payload(tmp_path / "p.tar", tmp_path / "slot", claim(data, 1, 3))
    assert files_of(tmp_path / "slot") == {"a": b"aaa"}
    assert not (tmp_path / "slot.partial").exists()


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, small_disk: Path) -> None:
    data = archive((member("a"), b"aaa"), (member("b"), os.urandom(1 << 20)))
    (tmp_path / "p.tar").write_bytes(data)
    with pytest.raises(DiskFull, match="free some space"):
        unpack_payload(tmp_path / "p.tar", small_disk / "slot", claim(data, 2, 3 + (1 << 20)))
    assert list(small_disk.iterdir()) == []
