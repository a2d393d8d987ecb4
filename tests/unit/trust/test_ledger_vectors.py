"""Merkle proofs, tiles, notes and signatures against public vectors; skipped where these are not at hand."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tidegate.core.errors import Untrusted
from tidegate.trust.checkpoint import open_checkpoint
from tidegate.trust.ledger import directory_fetch
from tidegate.trust.ledger_read import LedgerReader
from tidegate.trust.merkle import Tree, leaf_hash, verify_consistency, verify_inclusion
from tidegate.trust.note import NoteKey, parse_key
from tidegate.trust.tiles import TileReader, tile_path

BESIDE = Path(__file__).resolve().parents[3].parent / "shared" / "data"
VECTORS = Path(os.environ.get("TIDEGATE_TEST_DATA") or BESIDE) / "vectors"
TESSERA_KEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"


def folder(name: str) -> Path:
    place = VECTORS / name
    if not place.is_dir():
        pytest.skip(f"the public vectors {name} are not at hand (TIDEGATE_TEST_DATA names their folder)")
    return place


def cases(kind: str) -> list[tuple[Path, dict[str, Any]]]:
    found = sorted(folder("merkle/testdata").glob(f"{kind}/**/*.json"))
    return [(path, json.loads(path.read_text())) for path in found]


def unpacked(texts: list[str] | None) -> list[bytes]:
    return [base64.b64decode(text) for text in texts or ()]


def refused(check: Any, *given: Any) -> bool:
    try:
        check(*given)
    except Untrusted:
        return True
    return False


def test_inclusion_vectors() -> None:
    found = cases("inclusion")
    wrong = [
        str(path)
        for path, case in found
        if refused(
            verify_inclusion,
            case["leafIdx"],
            case["treeSize"],
            base64.b64decode(case["leafHash"]),
            unpacked(case["proof"]),
            base64.b64decode(case["root"]),
        )
        != case["wantErr"]
    ]
    assert wrong == []
    assert len(found) > 80
    assert any(not case["wantErr"] for _, case in found)


def test_consistency_vectors() -> None:
    found = cases("consistency")
    wrong = [
        str(path)
        for path, case in found
        if refused(
            verify_consistency,
            case["size1"],
            case["size2"],
            unpacked(case["proof"]),
            *(base64.b64decode(case[name]) for name in ("root1", "root2")),
        )
        != case["wantErr"]
    ]
    assert wrong == []
    assert len(found) > 80


def test_a_log_written_by_others_is_read_at_every_size() -> None:
    place = folder("tessera-log/testdata/log")
    key = parse_key(TESSERA_KEY)
    fetch = directory_fetch(place)
    assert key.text() == TESSERA_KEY
    for size in range(1, 16):
        # The origin of this log is its key's name, as in ours.
        checkpoint = open_checkpoint((place / f"checkpoint.{size}").read_bytes(), key)
        tiles = TileReader(fetch, size)
        entries = [entry for _, entry in tiles.entries()]
        tree = Tree(leaf_hash(entry) for entry in entries)
        assert (checkpoint.size, len(entries), tree.root()) == (size, size, checkpoint.root)
        hashes = b"".join(tree.node(0, i) for i in range(size))
        assert hashes == (place / tile_path(0, 0, size)).read_bytes()
    assert len(LedgerReader(fetch, key).verify()) == 15


def test_a_signature_that_is_ambiguous_is_judged_by_one_library_alone() -> None:
    vectors = json.loads((folder("ed25519") / "ed25519" / "ed25519vectors.json").read_text())
    accepted = 0
    for case in vectors:
        key = NoteKey("v", bytes.fromhex(case["key"]))
        accepted += key.holds(case["msg"].encode(), bytes.fromhex(case["sig"]))
    # The library's own count over these edge cases; another number says that verification has changed under us.
    assert len(vectors) == 914
    assert accepted == 208
