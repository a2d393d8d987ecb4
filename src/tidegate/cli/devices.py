"""`tidegate device`: list devices; why one has or has not been updated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclopts import App

from tidegate.cli.office import OfficeClient, part
from tidegate.cli.show import ago, moment, out, out_json, pairs_of, table
from tidegate.core.errors import BadInput
from tidegate.core.words import counted

app = App(name="device", help="List devices; ask why one has or has not been updated.")


@app.command(name="list")
def listing(
    *, label: list[str] | None = None, limit: int = 100, offset: int = 0, home: Path | None = None, json: bool = False
) -> None:
    """List devices.

    Args:
        label: Only those with NAME=VALUE. Can be given several times.
        limit: How many at most.
        offset: How many to pass over first.
        home: The control plane's directory.
        json: Print JSON.
    """
    pairs_of("--label", label or ())
    found = _pages(OfficeClient(home), label or [], limit, offset)
    if json:
        out_json(found)
        return
    rows = [
        (d["index"], d["device_id"], _pairs(d["labels"]), _installed(d), ago(d["last_heard_ms"]), _stands(d))
        for d in found["devices"]
    ]
    nobody = f"No device has {' and '.join(label)}." if label else "No device is enrolled yet."
    table("Devices", ("#", "device", "labels", "confirmed on", "last heard", ""), rows, empty=nobody)
    if found["total"] > len(rows):
        out(f"{len(rows)} of {found['total']:,}; go on with --offset {offset + len(rows)}")


def _stands(device: dict[str, Any]) -> str:
    """Say what an operator should see: that its word counts for nothing, or what it took back last."""
    if device["barred"]:
        return str(device["barred"])
    back = device["took_back"]
    return f"took back in {back['rollout']}{': ' if back['note'] else ''}{back['note']}" if back else ""


def _pages(office: OfficeClient, label: list[str], limit: int, offset: int) -> dict[str, Any]:
    """Ask for one page after the other, until there are so many devices or no more."""
    found = office.get("/api/v1/devices", label=label, limit=limit, offset=offset)
    devices: list[Any] = found["devices"]
    while devices and len(devices) < limit and offset + len(devices) < found["total"]:
        at = offset + len(devices)
        more = office.get("/api/v1/devices", label=label, limit=limit - len(devices), offset=at)["devices"]
        if not more:
            break
        devices += more
    return found


OTHER_KINDS = (".csv", ".tsv", ".json", ".xlsx", ".txt")


@app.command
def export(file: Path, /, *, label: list[str] | None = None, home: Path | None = None) -> None:
    """Write the inventory into a Parquet file, which DuckDB, pandas and spreadsheets read.

    Args:
        file: The file to be made.
        label: Only devices with NAME=VALUE. Can be given several times.
        home: The control plane's directory.
    """
    pairs_of("--label", label or ())
    if file.suffix.lower() in OTHER_KINDS:
        raise BadInput(f"{file}: what is written is Parquet; name it {file.with_suffix('.parquet').name}")
    office, part_file = OfficeClient(home), file.with_name(f".{file.name}.part")
    try:
        with file.open("xb"):  # reserves the name
            pass
    except FileExistsError:
        raise BadInput(f"{file} is there already; name another file") from None
    except OSError as error:
        raise BadInput(f"{file} cannot be written: {error.strerror or error}") from error
    try:
        with part_file.open("wb") as into:
            office.download("/api/v1/inventory.parquet", into, label=label or [])
        part_file.replace(file)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    finally:
        part_file.unlink(missing_ok=True)
    out(f"{file}: {file.stat().st_size / 1e6:,.1f} MB")


@app.command
def why(device: str, /, *, home: Path | None = None, json: bool = False) -> None:
    """Say why a device has or has not been updated.

    Args:
        device: Its id, the first digits of it, or its number.
        home: The control plane's directory.
        json: Print JSON.
    """
    found = OfficeClient(home).get(f"/api/v1/devices/{part(device)}/why")
    if json:
        out_json(found)
        return
    out(f"Device {found['device_id']} (number {found['index']}), {_pairs(found['labels']) or 'no labels'}")
    out(f"enrolled {moment(found['enrolled_ms'])}, last heard {ago(found['last_heard_ms'])}")
    for digest, component in sorted(found["condemned"].items()):
        out(f"condemned here: {component} {digest[:12]}")
    if not found["why"]:
        out("No rollout has been started yet: nothing has been offered to it.")
    for entry in found["why"]:
        out(f"- {entry['sentence']}")


@app.command
def retire(device: str, /, *, why: str, home: Path | None = None) -> None:
    """Take a harmed device out of its groups' caps, on record: it has been set right by hand, or will not come back.

    Args:
        device: Its id, the first digits of it, or its number.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    done = OfficeClient(home).post(f"/api/v1/devices/{part(device)}/retire", {}, why)
    out(f"Device number {done['retired']} no longer uses up its groups' caps.")


@app.command
def revoke(device: str, /, *, why: str, home: Path | None = None) -> None:
    """Let a device's credential count no more: it is stolen, sold or lost. It gets no lease and is not heard.

    A lease that it holds ends silent, which counts as harm until the device is retired.

    Args:
        device: Its id, the first digits of it, or its number.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    done = OfficeClient(home).post(f"/api/v1/devices/{part(device)}/revoke", {}, why)
    out(f"Device number {done['revoked']} is revoked. To take it back: tidegate device reinstate {done['revoked']}")


@app.command
def reinstate(device: str, /, *, why: str, home: Path | None = None) -> None:
    """Let a device speak again that was revoked, or whose credential had been seen in two places.

    Args:
        device: Its id, the first digits of it, or its number.
        why: The reason, for the record: which of the two is the device, and what became of the other.
        home: The control plane's directory.
    """
    done = OfficeClient(home).post(f"/api/v1/devices/{part(device)}/reinstate", {}, why)
    out(f"Device number {done['reinstated']} may speak again.")


@app.command
def quarantine(*devices: str, why: str, group: str = "", home: Path | None = None, json: bool = False) -> None:
    """Set aside what devices have reported and will report: they lie. It is evidence of nothing, and they get no lease.

    In the window a treated one counts as failed and a placebo one as fine, whatever they said: nothing advances because
    of it. A halt that rests on their reports no longer bars the release.

    Args:
        devices: Their ids, the first digits of them, or their numbers.
        why: What was seen, for the record.
        group: NAME=VALUE of a label, or token=ID: all devices of this group.
        home: The control plane's directory.
        json: Print JSON.
    """
    done = OfficeClient(home).post("/api/v1/devices/quarantine", {"group": group, "devices": list(devices)}, why)
    if json:
        out_json(done)
    else:
        many = counted(len(done["quarantined"]), "device")
        out(f"{many} quarantined. One by one back: tidegate device reinstate NUMBER")


def _pairs(labels: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))


def _installed(device: dict[str, Any]) -> str:
    return ", ".join(f"{name} {digest[:12]}" for name, digest in sorted(device["installed"].items())) or "-"
