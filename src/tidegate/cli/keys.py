"""`tidegate keys`: make keys, change who may sign what, sign a change on a machine of one's own, hand it in."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from securesystemslib.signer import Key

from tidegate.cli.ceremony_file import write_bundle
from tidegate.cli.home import Home, default_home
from tidegate.cli.keys_at_rest import take_in_at_rest
from tidegate.cli.office import OfficeClient
from tidegate.cli.passphrase import open_keys, passphrase_of
from tidegate.cli.show import moment, out, out_json, table
from tidegate.core.errors import BadInput, NotFound, Refused
from tidegate.core.wire import plain
from tidegate.trust.ceremony import ONLINE, begin_change, merge_bundles, read_bundle, sign_bundle
from tidegate.trust.ceremony_words import describe, lacking
from tidegate.trust.durable import read_bytes, write_durably
from tidegate.trust.expiry import role_dates, trust_view
from tidegate.trust.keys import create_key, import_key, key_path, load_signer, public_file, read_public

app = App(name="keys", help="Signing keys: create, list, rotate, revoke; sign and hand in changes.")
app.command("tidegate.cli.keys_ledger:ledger", name="ledger", help="What the signed targets say of the ledger.")
app.command("tidegate.cli.keys_devices:devices", name="devices", help="List the epochs of the devices' secret.")
app.command("tidegate.cli.keys_devices:retire", name="retire", help="Let credentials of an old epoch count no more.")
Add = Annotated[list[Path] | None, Parameter(name="--add")]


@app.command
def create(
    name: str,
    /,
    *,
    directory: Path,
    passphrase_file: Path | None = None,
    passphrase_fd: int | None = None,
    unencrypted: bool = False,
) -> None:
    """Make a signing key on this machine. Beside it lies NAME.pub.json, which may be shown to anyone.

    Args:
        name: What to call it, as in root-4 or ada.
        directory: Where it lies: 0700, and not on the server.
        passphrase_file: Read the passphrase from a file instead of asking for it.
        passphrase_fd: Read it from an open file descriptor.
        unencrypted: Without a passphrase: for trials alone.
    """
    word = None if unencrypted else passphrase_of(passphrase_file, passphrase_fd, "New passphrase", twice=True)
    _made(directory, name, create_key(directory, name, word))


@app.command(name="import")
def take_in(
    file: list[Path],
    /,
    *,
    name: str = "",
    directory: Path | None = None,
    passphrase_file: Path | None = None,
    passphrase_fd: int | None = None,
    why: str = "",
    at_rest: bool = False,
    home: Path | None = None,
) -> None:
    """Hand a signed bundle in to the control plane; or take a PEM key that was made elsewhere into a directory.

    Args:
        file: The bundle, or the copies of it that different holders have signed; or a private key (PEM).
        name: What to call the key.
        directory: Where the key is to lie.
        passphrase_file: The key's passphrase, before and after, from a file.
        passphrase_fd: The same from an open file descriptor.
        why: The reason, for the record.
        at_rest: Take the bundle in though no server runs: the way back when the online keys are lost.
        home: The control plane's directory.
    """
    data = [read_bytes(path, "the file") for path in file]
    if data[0].lstrip().startswith(b"-----BEGIN"):
        if not name or directory is None or len(file) != 1:
            raise BadInput("to take in a key give one file, --name and --directory")
        word = passphrase_of(passphrase_file, passphrase_fd, "Passphrase")
        _made(directory, name, import_key(file[0], directory, name, word if b"ENCRYPTED" in data[0] else None, word))
        if b"ENCRYPTED" not in data[0]:
            out(f"{file[0]} still holds the key without a passphrase: destroy it.")
        return
    bundle = merge_bundles([read_bundle(each) for each in data])
    if at_rest:
        roles = take_in_at_rest(Home(home or default_home()), bundle, why)
    else:
        roles = OfficeClient(home).post("/api/v1/ceremonies", {"bundle": plain(bundle)}, why)["changed"]
    changed = ", ".join(roles)
    out(f"In force now: {changed}." if changed else "All of it was in force already.")


@app.command
def rotate(
    role: str,
    /,
    *,
    output: Path | None = None,
    add: Add = None,
    remove: list[str] | None = None,
    threshold: int = 0,
    why: str = "",
    home: Path | None = None,
) -> None:
    """Draw up a change of a role's keys as a bundle for signing. Nothing changes until enough holders have signed it.

    Args:
        role: root, targets, releases (all components and emergency together), promotions; or online, for which new
            keys are made here, and the old ones cease to count: what to do after a break-in; or devices, for which
            the running server begins a new secret at once, and devices get credentials of it by themselves.
        output: Where to write the bundle; all but devices need it.
        add: A new key's public file. Can be given several times.
        remove: An old key's id, or the beginning of it. Can be given several times.
        threshold: How many must sign from now on.
        why: The reason, for the record; for devices.
        home: The control plane's directory.
    """
    if role == "devices":
        epoch = OfficeClient(home).post("/api/v1/device-secrets/rotate", {}, why)["epoch"]
        out(f"Epoch {epoch} of the devices' secret has begun; devices follow when they next speak.")
        out(f"See how many have: tidegate keys devices. Then: tidegate keys retire {epoch - 1}")
        return
    if output is None:
        raise BadInput("--output names the file for the bundle that holders are to sign")
    place = Home(home or default_home())
    place.check()
    now = int(time.time())
    if role == "online":
        fresh: dict[str, list[Key]] = {name: [_next_online(place, name)] for name in ONLINE}
        old = {date.role: date.keyids for date in role_dates(place.repository, now) if date.role in ONLINE}
        bundle = begin_change(place.repository, now, "new online keys", add=fresh, remove=old)
    else:
        roles = _roles(place, role)
        if not add and not remove and not threshold:
            raise BadInput("say what changes: --add, --remove, --threshold; for a longer life: tidegate keys export")
        keys = [read_public(read_bytes(path, "the public key"))[1] for path in add or ()]
        gone = {name: [_whole_id(place, name, part) for part in remove or ()] for name in roles}
        limits = {name: threshold for name in roles if threshold and (name != "emergency" or len(roles) == 1)}
        bundle = begin_change(
            place.repository, now, f"keys of {role}", add=dict.fromkeys(roles, keys), remove=gone, thresholds=limits
        )
    write_bundle(output, bundle)


@app.command
def revoke(keyid: str, /, *, output: Path, home: Path | None = None) -> None:
    """Draw up a bundle that takes a key out of every role that has it.

    Args:
        keyid: The key's id, or the beginning of it.
        output: Where to write the bundle.
        home: The control plane's directory.
    """
    place = Home(home or default_home())
    place.check()
    now = int(time.time())
    gone = {d.role: [k for k in d.keyids if k.startswith(keyid)] for d in role_dates(place.repository, now)}
    gone = {role: ids for role, ids in gone.items() if ids}
    if not gone or len({k for ids in gone.values() for k in ids}) != 1:
        raise NotFound(f"{keyid!r} is the beginning of no key's id, or of several; see tidegate keys list")
    if set(gone) & set(ONLINE):
        raise Refused("this is an online key, and the server needs one: tidegate keys rotate online")
    write_bundle(output, begin_change(place.repository, now, f"without key {keyid}", remove=gone))


@app.command
def export(role: list[str], /, *, output: Path, home: Path | None = None) -> None:
    """Draw up a bundle that only lets roles last longer, for signing.

    Args:
        role: Roles to renew, as in root or releases-edr-rules.
        output: Where to write the bundle.
        home: The control plane's directory.
    """
    place = Home(home or default_home())
    place.check()
    change = begin_change(place.repository, int(time.time()), "longer life for " + ", ".join(role), renew=role)
    write_bundle(output, change)


@app.command
def sign(
    bundle: Path,
    /,
    *,
    key: list[Path],
    known_root: Path | None = None,
    passphrase_file: Path | None = None,
    passphrase_fd: int | None = None,
) -> None:
    """Say what a bundle changes, and sign it with keys of this machine. Needs no network and no control plane.

    Args:
        bundle: What tidegate keys rotate, revoke or export wrote; the signatures are added to it.
        key: A signing key (PEM). Can be given several times.
        known_root: A root that you have kept: its keys must have signed the root that the bundle calls standing.
        passphrase_file: Read the keys' passphrase from a file instead of asking for it.
        passphrase_fd: Read it from an open file descriptor.
    """
    found = read_bundle(read_bytes(bundle, "the signing bundle"))
    known = read_bytes(known_root, "the root that you keep") if known_root else b""
    for line in describe(found):
        out(line)
    made, signed = sign_bundle(found, open_keys(key, passphrase_file, passphrase_fd), known)
    write_durably(bundle, made.text())
    out(f"Signed: {', '.join(signed)}.")
    more = lacking(made)
    for line in more:
        out(line)
    out(f"Carry it on to the next holder: {bundle}" if more else f"It is whole: tidegate keys import {bundle}")


@app.command(name="list")
def listing(*, home: Path | None = None, json: bool = False) -> None:
    """List the roles: keys, how many must sign, and until when they last; warn of what runs out soon.

    Args:
        home: The control plane's directory.
        json: Print JSON.
    """
    place = Home(home or default_home())
    place.check()
    now = int(time.time())
    if json:
        out_json(trust_view(place.repository, now))
        return
    dates = role_dates(place.repository, now)
    rows = [
        (d.role, d.version, f"{d.threshold} of {len(d.keyids)}", moment(d.expires * 1000), _short(d.keyids))
        for d in dates
    ]
    table("Roles", ("role", "version", "must sign", "lasts until", "keys"), rows, empty="")
    for date in dates:
        if date.warning:
            out(date.warning)


def _short(keyids: tuple[str, ...]) -> str:
    return " ".join(keyid[:12] for keyid in keyids)


def _made(directory: Path, name: str, key: Key) -> None:
    public = directory / f"{name}.pub.json"
    write_durably(public, public_file(name, key))
    out(f"Key {key.keyid[:16]} in {key_path(directory, name)}; its public half: {public}")


def _next_online(place: Home, role: str) -> Key:
    """Give the key that is to follow, made here once: a lost bundle is drawn up anew with the same."""
    path = key_path(place.keys, f"{role}.next")
    return load_signer(path).public_key if path.exists() else create_key(place.keys, f"{role}.next")


def _roles(place: Home, role: str) -> list[str]:
    names = [date.role for date in role_dates(place.repository, int(time.time()))]
    found = [n for n in names if n.startswith("releases-") or n == "emergency"] if role == "releases" else [role]
    if role in ONLINE:
        raise Refused("online keys are made where they are used: tidegate keys rotate online")
    if not set(found) <= set(names):
        raise NotFound(f"there is no role {role!r}; there are {', '.join(names)}, releases, online")
    return found


def _whole_id(place: Home, role: str, part: str) -> str:
    keys: list[Any] = [d.keyids for d in role_dates(place.repository, int(time.time())) if d.role == role]
    found = [keyid for keyid in keys[0] if keyid.startswith(part)]
    if len(found) != 1 or len(part) < 6:
        raise NotFound(f"{part!r} is not the beginning (6 digits or more) of one key of {role}; see tidegate keys list")
    return str(found[0])
