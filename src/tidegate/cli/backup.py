"""`tidegate backup`: a control plane in one file, while it runs or not; verified, and restored into a new home."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from cyclopts import App

from tidegate.cli.backup_file import BackupFile, write_backup
from tidegate.cli.home import Home, default_home
from tidegate.cli.ledger import source_of
from tidegate.cli.ledger_home import open_ledger
from tidegate.cli.log_reading import log_of
from tidegate.cli.show import moment, out, out_json
from tidegate.control.batch_fold import apply_batch
from tidegate.control.plans import plans_due
from tidegate.control.state import ServerState
from tidegate.core.errors import BadInput, Untrusted
from tidegate.core.wire import encode, plain
from tidegate.core.words import counted
from tidegate.log.address import check_address
from tidegate.log.events import Act, Event, PlanPublished
from tidegate.log.port import Log
from tidegate.trust.checkpoint import open_checkpoint
from tidegate.trust.durable import make_directory, sync_dir, write_durably
from tidegate.trust.ledger import CHECKPOINT, WAY_OUT
from tidegate.trust.publisher import Publisher

app = App(name="backup", help="Back up a control plane, verify a backup, restore one.")
WHO = "tidegate backup restore"
EDITIONS_PER_S, EDITIONS_MORE = 4, 1000
"""A controller signs no more editions of the plans than this: so many numbers are left out after a restore."""


@app.default
def create(file: Path, /, *, home: Path | None = None, json: bool = False) -> None:
    """Write the whole control plane into one file: log, online keys, secrets, repository. It may run meanwhile.

    The file holds secrets: it is made with mode 0600; encrypt it before it leaves the machine. Offline keys and what
    can be made anew (checkpoints) are not in it.

    Args:
        file: The file to be made.
        home: The control plane's directory.
        json: Print JSON.
    """
    place = Home(home or default_home())
    place.check()
    if file.exists():
        raise BadInput(f"{file} is there already; name another file")
    with log_of(place) as batches:
        seal = write_backup(file, place.path, batches, int(time.time()))
    size = file.stat().st_size
    if json:
        out_json({"file": str(file), "events": seal.events, "files": len(seal.files), "bytes": size})
        return
    held = f"{counted(seal.events, 'event')}, {counted(len(seal.files), 'file')}"
    out(f"{file}: {held}, {size / 1e6:,.1f} MB, readable by you alone.")
    out(f"It holds secrets. Check it now and then: tidegate backup verify {file}")


@app.command
def verify(file: Path, /, *, json: bool = False) -> None:
    """Check that a backup is whole, and that its log can be folded. Exit code 1 if it is damaged.

    Args:
        file: The backup.
        json: Print JSON.
    """
    found = BackupFile(file)
    state = _folded(found)
    said = {
        "taken": moment(found.seal.at_s * 1000),
        "events": found.seal.events,
        "devices": len(state.devices),
        "releases": len(state.releases),
        "rollouts": len(state.rollouts),
        "active": sorted(state.active.values()),
    }
    if json:
        out_json(said)
        return
    out(f"{file} is whole. Taken {said['taken']}: {_held(said)},")
    more = f"{counted(said['releases'], 'release')}, {counted(said['rollouts'], 'rollout')}"
    out(f"{more}, of which under way: {len(state.active)}.")


def _folded(found: BackupFile) -> ServerState:
    state, count = ServerState(), 0
    try:
        for batch in found.batches():
            apply_batch(state, batch)
            count += batch.count
    except (KeyError, IndexError, AttributeError) as error:
        raise Untrusted(f"the log of {found.path} does not fold: {error!r}") from error
    if count != found.seal.events:
        has = counted(count, "event")
        raise Untrusted(f"the log of {found.path} has {has}, and its seal says {found.seal.events:,}")
    return state


@app.command
def restore(
    file: Path,
    /,
    *,
    home: Path | None = None,
    log: str = "",
    log_password_file: Path | None = None,
    published: str = "",
    json: bool = False,
) -> None:
    """Make a control plane anew from a backup, in a directory that is not there yet.

    What happened after the backup is not known to it. So rollouts that were under way are ended, on record: leases
    given after the backup are missing. Devices that enrolled after it enrol again.

    Args:
        file: The backup.
        home: The directory to be made.
        log: Where the log goes if not into a file: postgresql://... or nats://..., and nothing may be there.
        log_password_file: A file that holds the log's password alone.
        published: The ledger as devices and mirrors have it now (directory or address), so that it is not forked.
        json: Print JSON.
    """
    place = Home(home or default_home())
    if place.path.exists() and (not place.path.is_dir() or any(place.path.iterdir())):
        raise BadInput(f"{place.path} is there already; restore into a directory that is not")
    if log:
        check_address(log)
    found = BackupFile(file)
    _folded(found)
    work = place.path.with_name(f".{place.path.name}.restoring")
    shutil.rmtree(work, ignore_errors=True)
    try:
        said = _restore(found, Home(work), log, log_password_file)
        said["ledger_seen"] = _remember(Home(work), published) if published else 0
        if place.path.exists():
            place.path.rmdir()
        os.rename(work, place.path)
        sync_dir(place.path.parent)
    except OSError as error:
        raise BadInput(f"{place.path} cannot be made: {error.strerror or error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if json:
        out_json({"home": str(place.path), **said})
        return
    out(f"{place.path}: {_held(said)}, as of {said['taken']}.")
    for name in said["ended"]:
        out(f"Ended, since leases after the backup are not known: {name}")
    out(f"Plans go on with edition {said['edition']:,}, beyond what devices can have seen.")
    if said["ledger_seen"]:
        seen = counted(said["ledger_seen"], "entry", "entries")
        out(f"The ledger was seen with {seen}, and this log does not give all of them:")
        out(f"serving would fork it. {WAY_OUT[0].upper()}{WAY_OUT[1:]}")
        return
    if not published:
        out("If the ledger had grown since, two histories would be seen: restore with --published to be sure.")
    out(f"Next: tidegate serve --home {place.path}")


def _held(said: dict[str, Any]) -> str:
    return f"{counted(said['events'], 'event')}, {counted(said['devices'], 'device')}"


def _restore(found: BackupFile, place: Home, url: str, password_file: Path | None) -> dict[str, Any]:
    make_directory(place.path, 0o700)
    for name, data, mode in found.home_files():
        path = place.path / name
        make_directory(path.parent)
        write_durably(path, data, mode)
    if url:
        secret = str(password_file.resolve()) if password_file else None
        write_durably(place.log_address, encode({"url": url, **({"password_file": secret} if secret else {})}))
    log = place.open_log(url, password_file)
    try:
        if log.last:
            raise BadInput(f"the log at {url} has {counted(log.last, 'event')} already; restore into an empty one")
        return _refill(found, place, log)
    finally:
        log.close()


def _remember(place: Home, published: str) -> int:
    """Keep the newest checkpoint that others have seen where the server looks before it signs.

    Gives its size if the log that was restored does not give it, else 0.
    """
    ledger = open_ledger(place)
    if ledger is None:
        return 0
    note = source_of(published)(CHECKPOINT)
    seen = open_checkpoint(note, ledger.key)
    log = place.open_log()
    try:
        for _ in ledger.begin(log, whole=True):
            pass
        held = ledger.holds(seen)
    finally:
        log.close()
    if not held:
        write_durably(place.path / "ledger.checkpoint", note)
    return 0 if held else seen.size


def _refill(found: BackupFile, place: Home, log: Log) -> dict[str, Any]:
    state = ServerState()
    for batch in found.batches():
        log.append(batch.events)
        apply_batch(state, batch)
    now_s = max(int(time.time()), state.last_ms // 1000)
    taken = moment(found.seal.at_s * 1000)
    why = f"restored from a backup of {taken}; what came after it is not known"
    ended = sorted(state.active.values())
    events: list[Event] = [
        Act(at_ms=now_s * 1000, what="rollout_aborted", who=WHO, why=why, body={"rollout": name}) for name in ended
    ]
    events.append(
        Act(at_ms=now_s * 1000, what="restored", who=WHO, why=why, body={"events": found.seal.events, "taken": taken})
    )
    _take(log, state, events)
    publisher = Publisher(place.repository, place.keys)
    publisher.leave_out(EDITIONS_MORE + EDITIONS_PER_S * max(0, now_s - found.seal.at_s))
    plans, _ = plans_due(state, now_s)
    version = publisher.next_version
    _take(
        log,
        state,
        [
            PlanPublished(at_ms=now_s * 1000, component=c, rollout=p.rollout, version=version, plan=plain(p))
            for c, p in plans.items()
        ],
    )
    edition = publisher.publish({component: encode(plan) for component, plan in plans.items()}, now_s)
    return {
        "taken": taken,
        "events": found.seal.events,
        "devices": len(state.devices),
        "ended": ended,
        "edition": edition,
    }


def _take(log: Log, state: ServerState, events: list[Event]) -> None:
    log.append(events)
    for event in events:
        state.apply(event)
