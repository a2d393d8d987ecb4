"""`tidegate keys ledger`: draw up what the signed targets say of the ledger: key, witnesses, what devices demand."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tidegate.cli.ceremony_file import write_bundle
from tidegate.cli.home import Home, default_home
from tidegate.cli.ledger_home import first_origin, public_of, read_policy
from tidegate.cli.options import Change
from tidegate.cli.show import out, out_json
from tidegate.core.errors import BadInput, NotFound
from tidegate.core.wire import plain
from tidegate.trust.ceremony import begin_change
from tidegate.trust.keys import LEDGER, create_key, key_path
from tidegate.trust.ledger_policy import LedgerPolicy, NamedWitness
from tidegate.trust.note import NoteKey

Several = Annotated[list[str] | None, Parameter(name="--witness")]


def ledger(
    *,
    witness: Several = None,
    without: list[str] | None = None,
    quorum: int | None = None,
    demand: Change = None,
    renew: bool = False,
    output: Path | None = None,
    home: Path | None = None,
    json: bool = False,
) -> None:
    """Show what the signed targets say of the ledger; with --output, draw up a change of it for signing.

    Args:
        witness: A witness, as KEY=URL; or its KEY alone, if it fetches checkpoints by itself. Several times.
        without: The name of a witness that is one no more. Can be given several times.
        quorum: How many witnesses must have cosigned before a device takes a release.
        demand: Whether devices take no release without a proof that the ledger holds it; --no-demand ends that.
        renew: Begin a new ledger with a new key, made here: its key was stolen, or the log has lost its end.
        output: Where to write the bundle for the holders of targets keys.
        home: The control plane's directory.
        json: Print JSON.
    """
    place = Home(home or default_home())
    place.check()
    now = read_policy(place)
    asked = bool(witness or without or renew) or quorum is not None or demand is not None
    if output is None:
        if asked:
            raise BadInput("--output names the file for the bundle that holders are to sign")
        _show(now, json)
        return
    named = _witnesses(now, witness or [], without or [])
    try:
        after = LedgerPolicy(
            key=_key(place, now, renew).text(),
            demand=(now.demand if now else True) if demand is None else demand,
            witnesses=named,
            quorum=min(now.quorum if now else 0, len(named)) if quorum is None else quorum,
        )
    except ValueError as error:
        raise BadInput(str(error)) from None
    change = begin_change(place.repository, int(time.time()), "the ledger's policy", ledger=after)
    write_bundle(output, change, "targets holder")


def _show(now: LedgerPolicy | None, json: bool) -> None:
    if json:
        out_json({"ledger": plain(now) if now else None})
    elif now is None:
        out("The signed targets name no ledger; name this one: tidegate keys ledger --output ledger.bundle")
    else:
        out(now.text().rstrip())
        out("# Devices take no release without its proof." if now.demand else "# Devices demand no proof.")


def _key(place: Home, now: LedgerPolicy | None, renew: bool) -> NoteKey:
    """Give the key that is to be named; with `renew` the one that follows, made here once."""
    standing, following = key_path(place.keys, LEDGER), key_path(place.keys, f"{LEDGER}.next")
    if not renew:
        if now is not None:
            return now.note_key
        if not standing.exists():
            raise NotFound(f"{place.path} has no ledger key; --renew makes one")
        return NoteKey(first_origin(place), public_of(standing))
    if not following.exists():
        create_key(place.keys, f"{LEDGER}.next")
    origin = first_origin(place)
    number = _number(now.note_key.name, origin) if now else 1 if standing.exists() else 0
    return NoteKey(f"{origin}/{number + 1}" if number else origin, public_of(following))


def _number(name: str, origin: str) -> int:
    """Give a ledger's number among those of its control plane; the first bears none in its name."""
    tail = name.removeprefix(f"{origin}/")
    return int(tail) if tail.isdecimal() and len(tail) < 9 else 1


def _witnesses(now: LedgerPolicy | None, added: list[str], gone: list[str]) -> tuple[NamedWitness, ...]:
    found = {witness.note_key.name: witness for witness in now.witnesses} if now else {}
    for name in gone:
        if found.pop(name, None) is None:
            raise NotFound(f"there is no witness {name!r}; see tidegate keys ledger")
    for text in added:
        try:
            made = NamedWitness(*_key_and_url(text))
        except ValueError as error:
            raise BadInput(f"--witness must be KEY=URL: {error}") from None
        found[made.note_key.name] = replace(made, url=made.url.rstrip("/"))
    return tuple(found.values())


def _key_and_url(text: str) -> tuple[str, str]:
    """Part KEY=URL; the key's own base64 may end with an equals sign."""
    at = text.find("=http")
    return (text, "") if at < 0 else (text[:at], text[at + 1 :])
