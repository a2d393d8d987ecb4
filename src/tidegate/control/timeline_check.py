"""An account held against its own evidence, with no server and no network: signature, ledger, proofs, sentences."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from tidegate.control.timeline_words import exposures_of, sentence_of
from tidegate.core.errors import BadInput, Untrusted
from tidegate.core.wire import canonical
from tidegate.trust.checkpoint import Checkpoint, open_checkpoint
from tidegate.trust.merkle import leaf_hash, verify_inclusion
from tidegate.trust.note import NoteKey, open_note, parse_key

TYPE = "tidegate/timeline/v1"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checked:
    """What held: records proven by the ledger, those that rest on the signature alone, and the ledger's size."""

    key: NoteKey
    proven: int
    signed_alone: int
    ledger_size: int


def digest_note(account: Json) -> str:
    """Give the text that is signed: what it is, and the digest of the account without its signature."""
    body = {name: value for name, value in account.items() if name != "signature"}
    return f"{TYPE}\n{hashlib.sha256(canonical(body)).hexdigest()}\n"


def read_timeline(data: bytes) -> Json:
    """Read an account's file; nothing of it is checked yet. Raises BadInput if it is none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"this is no timeline: {error}") from error
    if not isinstance(found, dict) or found.get("type") != TYPE:
        raise BadInput(f"this is no timeline of type {TYPE}; give the JSON file, not the page")
    return found


def verify_timeline(account: Json, key: NoteKey | None = None) -> Checked:
    """Check an account whole.

    Args:
        account: from `read_timeline`.
        key: the ledger's, from a source that is trusted; without it the key that the account names itself, which
            shows that nothing was changed since, and not who made it.

    Raises:
        Untrusted: naming the first thing that does not hold.
    """
    try:
        named = parse_key(account["key"])
        if key is not None and named != key:
            raise Untrusted(f"the account is signed by {named.text()}, and not by {key.text()}")
        if open_note(account["signature"].encode(), named) != digest_note(account):
            raise Untrusted("the account was changed after it was signed")
        checkpoint = open_checkpoint(account["checkpoint"].encode(), named)
        return _verify(account, named, checkpoint)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise Untrusted(f"the account lacks a part or has one of another kind: {error}") from error
    except BadInput as error:
        raise Untrusted(str(error)) from error


def _verify(account: Json, key: NoteKey, checkpoint: Checkpoint) -> Checked:
    entries: dict[int, Json] = {}
    for at, entry in account["entries"].items():
        text = entry["text"].encode()
        verify_inclusion(int(at), checkpoint.size, leaf_hash(text), _hashes(entry["proof"]), checkpoint.root)
        entries[int(at)] = {"bytes": text, "value": json.loads(text)}
    proven, records = 0, []
    for row in account["records"]:
        proven += _verify_row(row, entries)
        record = json.loads(row["text"])
        records.append(record)
        if row["at_ms"] != record["at_ms"] or row["sentence"] != sentence_of(record):
            raise Untrusted(f"a sentence does not say what its record says: {row['sentence']!r}")
    if account["exposures"] != exposures_of(records):
        raise Untrusted("the table of exposures does not follow from the records")
    return Checked(key, proven, len(records) - proven, checkpoint.size)


def _verify_row(row: Json, entries: dict[int, Json]) -> bool:
    if "entry" not in row:
        return False
    entry = entries[row["entry"]]
    text = row["text"].encode()
    if "segment" not in row:
        if entry["bytes"] != text:
            raise Untrusted(f"a record is not the ledger entry {row['entry']} that it names")
        return True
    way, segment = row["segment"], entry["value"]
    if segment["kind"] != "segment" or segment["events"] != way["events"]:
        raise Untrusted(f"ledger entry {row['entry']} is not the digest that a record needs")
    root = bytes.fromhex(segment["root"])
    verify_inclusion(way["index"], way["events"], leaf_hash(text), _hashes(way["proof"]), root)
    return True


def _hashes(proof: list[str]) -> list[bytes]:
    return [base64.b64decode(part, validate=True) for part in proof]
