"""`tidegate ledger`: verify the ledger, prove an entry, watch it grow; by its public files alone, from anywhere."""

from __future__ import annotations

import json as jsonlib
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
from cyclopts import App

from tidegate.cli.home import Home, default_home
from tidegate.cli.ledger_home import open_ledger, read_policy
from tidegate.cli.log_reading import log_of
from tidegate.cli.show import moment, out, out_json, seconds_of
from tidegate.control.ledger_events import entries_of_batches
from tidegate.control.strangers import Asker
from tidegate.control.timeline_words import sentence_of
from tidegate.core.errors import BadInput, NotFound, Refused, Untrusted
from tidegate.core.words import counted
from tidegate.trust.durable import read_bytes, write_durably
from tidegate.trust.errors import Unreachable
from tidegate.trust.ledger import directory_fetch
from tidegate.trust.ledger_proof import EntryProof, parse_proof
from tidegate.trust.ledger_read import LedgerReader
from tidegate.trust.note import COSIGNATURE, NoteKey, load_note_signer, parse_key
from tidegate.trust.tiles import Fetch
from tidegate.trust.witness import Witness

app = App(name="ledger", help="Verify the ledger, prove an entry, watch it grow; be a witness of it.")
app.command(
    "tidegate.cli.ledger_witness:witness", name="witness", help="Cosign a ledger that continues what was seen before."
)
ENTRY = ("entry", "entries")
MOST_FILE = 20_000_000
TIMEOUT_S = 120.0
EVERY = "60s"


def find_key(text: str, home: Path | None) -> NoteKey | None:
    """Read the key that is named, or take that of the control plane on this machine, or None."""
    if text:
        return parse_key(text)
    place = Home(home or default_home())
    ledger = open_ledger(place) if place.operator_token.is_file() else None
    return ledger.key if ledger else None


def _url_fetch(url: str) -> Fetch:
    asker = Asker(follow_redirects=True)

    def fetch(path: str) -> bytes:
        try:
            reply = asker.ask("GET", f"{url.rstrip('/')}/{path}", most=MOST_FILE, deadline_s=TIMEOUT_S)
        except httpx.HTTPError as error:
            raise Unreachable(f"{url} does not answer ({error}); ask again later") from error
        if reply.status == 404:
            raise NotFound(f"a part of the ledger is not there: {url.rstrip('/')}/{path}")
        if reply.status != 200:
            raise Unreachable(f"{url} answered {reply.status} for {path}; ask again later")
        return reply.body

    return fetch


def source_of(source: str) -> Fetch:
    """Read a ledger's files from an address or a directory. Raises NotFound and Unreachable when it is asked."""
    return _url_fetch(source) if source.startswith(("http://", "https://")) else directory_fetch(Path(source))


def _source(source: str, home: Path | None) -> Fetch:
    return source_of(source or str(Home(home or default_home()).repository / "ledger"))


def _key(text: str, source: str, home: Path | None) -> NoteKey:
    found = parse_key(text) if text or source else find_key("", home)
    if found is None:
        place = Home(home or default_home())
        place.check()
        raise Refused(f"{place.path} has no ledger: it was made without a key for one")
    return found


def _witnesses(texts: Iterable[str] | None) -> list[NoteKey]:
    return [parse_key(text) for text in texts or ()]


@app.command
def verify(
    *,
    source: str = "",
    key: str = "",
    witness: list[str] | None = None,
    quorum: int | None = None,
    proof: Path | None = None,
    entry: Path | None = None,
    log: bool = False,
    home: Path | None = None,
    json: bool = False,
) -> None:
    """Verify the whole ledger; or, with --proof and --entry, one entry from two files and no network.

    Args:
        source: The ledger's directory or address; default: that of the control plane on this machine.
        key: The ledger's public key, NAME+ID+BASE64; needed with --source.
        witness: A witness's public key; default: those that the signed targets on this machine name. Several times.
        quorum: How many witnesses must have cosigned; default: all that are given.
        proof: A tlog-proof, from tidegate ledger prove.
        entry: The entry's text, from there too.
        log: Derive every entry again from the log of the control plane on this machine, and compare; a running server
            is asked for its log.
        home: The control plane's directory.
        json: Print JSON.
    """
    if source and not key:
        raise BadInput("--source needs --key: the ledger's public key, from someone whom you trust to know it")
    if (proof is None) != (entry is None):
        raise BadInput("--proof and --entry go together")
    if log and (source or proof):
        raise BadInput("--log compares the ledger of the control plane on this machine; leave the rest out")
    known, others = _key(key, source, home), _witnesses(witness)
    own = not (source or key or proof) and witness is None and quorum is None
    if own and (policy := read_policy(Home(home or default_home()))):
        others, quorum = [each.note_key for each in policy.witnesses], policy.quorum
    needed = len(others) if quorum is None else quorum
    if proof and entry:
        text = read_bytes(entry, "the entry")
        checkpoint = parse_proof(read_bytes(proof, "the proof")).verify(text, known, others, needed)
        out(f"The entry is in the ledger {checkpoint.origin} ({counted(checkpoint.size, *ENTRY)}): {_say(text)}")
        return
    reader = LedgerReader(_source(source, home), known, others, needed)
    entries = reader.verify()
    if log:
        _compare(entries, Home(home or default_home()))
    found = {"origin": known.name, "entries": len(entries), "root": reader.checkpoint.root.hex(), "key": known.text()}
    if json:
        out_json({**found, "witnessed": reader.witnessed})
        return
    out(f"The ledger {known.name} holds: {counted(len(entries), *ENTRY)}, root {found['root']}.")
    out(f"Key: {known.text()}")
    if log:
        out("The log gives the same entries, each derived again.")
    if others:
        out(f"Cosigned by {', '.join(reader.witnessed) or 'no witness'}.")


def _compare(entries: list[bytes], place: Home) -> None:
    place.check()
    with log_of(place) as batches:
        given = list(islice(entries_of_batches(batches), len(entries)))
    for at, (held, derived) in enumerate(zip(entries, given, strict=False)):
        if held != derived:
            raise Untrusted(f"the log gives another entry {at} than the ledger holds: {_say(held)}; one was changed")
    if len(given) < len(entries):
        has = counted(len(entries), "entry", "entries")
        raise Untrusted(f"the ledger has {has} and the log gives {len(given):,}: it has lost its end")


@app.command
def prove(
    what: str,
    /,
    *,
    out_dir: Path = Path("."),
    source: str = "",
    key: str = "",
    home: Path | None = None,
) -> None:
    """Write an entry and its proof as two files, which anyone can check offline.

    Args:
        what: An entry's number, or the digest of a release (its first 8 digits and more).
        out_dir: Where the files go.
        source: The ledger's directory or address; default: that of the control plane on this machine.
        key: The ledger's public key; needed with --source.
        home: The control plane's directory.
    """
    if source and not key:
        raise BadInput("--source needs --key: the ledger's public key")
    reader = LedgerReader(_source(source, home), _key(key, source, home))
    index = int(what) if what.isdecimal() and len(what) < 8 else _index_of(reader, what)
    text, proof = reader.prove(index)
    names = [out_dir / f"entry-{index}.{suffix}" for suffix in ("json", "tlog-proof")]
    for path, data in zip(names, (text, EntryProof(index, tuple(proof), reader.note).data()), strict=True):
        write_durably(path, data)
    out(f"Entry {index}: {_say(text)}")
    out(f"Written: {names[0]}, {names[1]}. Next: tidegate ledger verify --entry {names[0]} --proof {names[1]}")


def _index_of(reader: LedgerReader, digest: str) -> int:
    found = [
        index
        for index, entry in reader.tiles.entries()
        if (value := _value(entry)).get("kind") == "release" and str(value.get("digest")).startswith(digest)
    ]
    if len(found) != 1 or len(digest) < 8:
        raise NotFound(f"{len(found)} releases in the ledger have a digest that begins with {digest!r}; give 8 or more")
    return found[0]


@app.command
def watch(
    *,
    state: Path,
    source: str = "",
    key: str = "",
    every: str = EVERY,
    once: bool = False,
    cosign_key: Path | None = None,
    cosign_name: str = "",
    cosigned: Path | None = None,
    home: Path | None = None,
) -> None:
    """Follow the ledger: each checkpoint must continue the one seen before. Ends with exit code 1 at a fork.

    Args:
        state: Where the newest checkpoint seen is remembered.
        source: The ledger's directory or address; default: that of the control plane on this machine.
        key: The ledger's public key; needed with --source.
        every: How often to look.
        once: Look once.
        cosign_key: A witness's private key: cosigns what it has seen to continue.
        cosign_name: The witness's name, as in witness.example.org/1.
        cosigned: Where the cosigned checkpoint goes.
        home: The control plane's directory.
    """
    if source and not key:
        raise BadInput("--source needs --key: the ledger's public key")
    if len({cosign_key is None, not cosign_name, cosigned is None}) != 1:
        raise BadInput("--cosign-key, --cosign-name and --cosigned go together")
    pause_s = seconds_of("--every", every)
    known, fetch = _key(key, source, home), _source(source, home)
    signer = load_note_signer(cosign_key, cosign_name, COSIGNATURE) if cosign_key else None
    witness = Witness(state, known, signer)
    if signer:
        out(f"Witness key: {signer.key.text()}")
    other = state.with_name(f"{state.name}.other")
    _look(witness, fetch, known, cosigned, other)
    while not once:
        time.sleep(pause_s)
        try:
            _look(witness, fetch, known, cosigned, other)
        except (NotFound, Unreachable) as error:
            out(f"{error}")


def _look(witness: Witness, fetch: Callable[[str], bytes], key: NoteKey, cosigned: Path | None, other: Path) -> None:
    reader = LedgerReader(fetch, key)
    old = witness.seen.size
    try:
        made = witness.add(reader.note, reader.consistency(old), int(time.time()))
    except Untrusted as error:  # two signed checkpoints that contradict each other are the evidence of a fork
        write_durably(other, reader.note)
        raise Untrusted(
            f"{error}; the checkpoint seen before ({counted(old, 'entry', 'entries')}) stays, this one is in {other}"
        ) from error
    if cosigned:
        write_durably(cosigned, made)
    for index, entry in reader.tiles.entries(old):
        out(f"{index:>6}  {moment(_value(entry).get('at_ms'))}  {_say(entry)}")
    out(f"{counted(reader.checkpoint.size, *ENTRY)}; they continue the {old:,} seen before.")


def _value(entry: bytes) -> dict[str, Any]:
    try:
        found = jsonlib.loads(entry)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _say(entry: bytes) -> str:
    return sentence_of(_value(entry))
