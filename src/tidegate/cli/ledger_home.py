"""A control plane's own ledger: its key, the signed policy that names it, and its place in the home."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import os
from pathlib import Path

from securesystemslib.signer import Key
from tuf.api.metadata import Targets

from tidegate.cli.home import Home
from tidegate.control.ledger import Ledger
from tidegate.core.errors import Untrusted
from tidegate.trust import layout
from tidegate.trust.checkpoint import ledger_origin
from tidegate.trust.durable import read_bytes, sync_dir
from tidegate.trust.keys import LEDGER, create_key, key_path, load_signer
from tidegate.trust.ledger_policy import LedgerPolicy, policy_of
from tidegate.trust.metadata import latest_bytes, parse, root_digest
from tidegate.trust.note import load_note_signer


def make_ledger_key(keys: Path) -> Key:
    """Make the ledger's key among the online ones, if there is none, and give its public half."""
    path = key_path(keys, LEDGER)
    return load_signer(path).public_key if path.exists() else create_key(keys, LEDGER)


def read_policy(place: Home) -> LedgerPolicy | None:
    """Give what the newest signed targets say of the ledger."""
    data = latest_bytes(place.repository, layout.TARGETS)
    return policy_of(parse(Targets, data, "the targets metadata").signed)


def open_ledger(place: Home, *, renew: bool = False) -> Ledger | None:
    """Find a control plane's ledger, to be begun; None for one that was made without a key for it.

    Args:
        place: the control plane.
        renew: take up the ledger that the targets' holders have named to follow; the one so far is laid aside.

    Raises:
        Untrusted: if they name another key than lies here.
    """
    path, following = key_path(place.keys, LEDGER), key_path(place.keys, f"{LEDGER}.next")
    if not path.exists():
        return None
    policy = read_policy(place)
    if policy is not None and following.exists() and public_of(following) == policy.note_key.public and renew:
        lay_ledger_aside(place)
        os.replace(following, path)
        sync_dir(path.parent)
    name = first_origin(place)
    if policy is not None and policy.note_key.public == public_of(path):
        name = policy.note_key.name
    elif policy is not None and renew:
        raise Untrusted(
            f"the ledger key {path} is not the one that the signed targets name; restore it, or tidegate keys ledger"
        )
    signer = load_note_signer(path, name)
    return Ledger(place.repository / "ledger", place.path / "ledger.checkpoint", signer)


def first_origin(place: Home) -> str:
    """Give the name of a control plane's first ledger."""
    return ledger_origin(root_digest(read_bytes(layout.metadata_dir(place.repository) / "1.root.json", "the root")))


def public_of(path: Path) -> bytes:
    """Give the public half of a ledger key."""
    return bytes.fromhex(load_signer(path).public_key.keyval["public"])


def lay_ledger_aside(place: Home) -> None:
    """Keep what the old ledger showed, under a name of its own: it is evidence. Safe to repeat after a power cut."""
    served, memory = place.repository / "ledger", place.path / "ledger.checkpoint"
    number = 1
    while (place.repository / f"ledger-{number}").exists():
        number += 1
    if served.exists():
        os.rename(served, place.repository / f"ledger-{number}")
        sync_dir(place.repository)
    if memory.exists():
        os.rename(memory, place.path / f"ledger-{number}.checkpoint")
        sync_dir(place.path)
