"""`tidegate release`: create (packs and describes), sign (offline keys), list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclopts import App

from tidegate.cli.home import Home, default_home
from tidegate.cli.office import OfficeClient, part
from tidegate.cli.release_files import Draft, SpeedOptions, create_draft, read_speed, sign_draft
from tidegate.cli.show import moment, out, out_json, seconds_of, table
from tidegate.core.errors import BadInput
from tidegate.core.model import Health, Probe

app = App(name="release", help="Create, sign and list releases.")


@app.command
def create(
    payload: Path,
    /,
    *,
    component: str,
    version: str,
    seq: int,
    driver: str,
    out_dir: Path,
    soak_s: int = 300,
    probe: list[str] | None = None,
    replaces: list[str] | None = None,
    notes: str = "",
) -> None:
    """Pack a directory into a release: a payload and a manifest that names it by digest.

    Args:
        payload: The directory to pack.
        component: What it updates, as in edr-rules.
        version: The vendor's name for it.
        seq: Its sequence number; higher than that of every earlier release of the component.
        driver: What the payload means on a device: files, yara, command.
        out_dir: Where to write manifest.json and payload.tar.
        soak_s: How long a device must stay healthy before it confirms.
        probe: A health probe, NAME=COMMAND with its words; {watch} and other device settings are filled in.
        replaces: What a device may run before: a digest, any, absent. Default: any and absent.
        notes: What changes, for people.
    """
    probes = tuple(_probe(entry) for entry in probe or ())
    health = Health(soak_s=soak_s, probes=probes)
    draft = create_draft(
        payload,
        out_dir,
        component=component,
        version=version,
        seq=seq,
        driver=driver,
        health=health,
        replaces=tuple(replaces or ("any", "absent")),
        notes=notes,
    )
    packed = draft.manifest.payload
    out(f"Release {version} of {component}: {packed.files} files, {packed.length:,} bytes.")
    out(f"Digest {draft.digest}")
    out(f"Next: tidegate release sign {out_dir}")


def _probe(entry: str) -> Probe:
    name, sign, command = entry.partition("=")
    if not sign or not command.split():
        raise BadInput(f"--probe must be NAME=COMMAND, not {entry!r}")
    return Probe(name, tuple(command.split()))


@app.command
def sign(
    draft: Path,
    /,
    *,
    offline_keys: Path | None = None,
    trial: bool = False,
    speed: str = "0s:0.1%,1h:1%,4h:10%,24h:100%",
    ceiling: str = "100%",
    dwell: str = "1h",
    not_after: str = "7d",
    least_devices: int = 16,
    why: str = "",
    home: Path | None = None,
    json: bool = False,
) -> None:
    """Sign a release with the offline release keys, speed limit included, and log it with the control plane.

    Args:
        draft: What tidegate release create wrote.
        offline_keys: The directory with the release keys; default: <home>-offline-keys.
        trial: Trial values: everyone within seconds. Never for a real fleet.
        speed: The fastest that it may ever spread: AGE:SHARE steps.
        ceiling: The greatest share that it may reach without a promotion.
        dwell: The least time between two changes of one device.
        not_after: How long it may be rolled out.
        least_devices: As many devices may go from the start, whatever the steps say, so that a small fleet can begin.
        why: The reason, for the record.
        home: The control plane's directory.
        json: Print JSON.
    """
    place = Home(home or default_home())
    keys = offline_keys or place.path.with_name(place.path.name + "-offline-keys")
    options = SpeedOptions(
        steps=read_speed(speed),
        ceiling_2p32=read_speed(f"0s:{ceiling}")[0][1],
        dwell_s=seconds_of("--dwell", dwell),
        not_after_s=seconds_of("--not-after", not_after),
        least_devices=least_devices,
    )
    if trial:
        options = SpeedOptions.for_trial(options.not_after_s)
    office = OfficeClient(home)
    drafted = Draft.load(draft)
    done = submit(office, drafted, keys, options, why)
    if json:
        out_json(done)
        return
    out(f"Release {done['seq']} is signed and in the log, digest {done['digest']}.")
    out(f"Next: tidegate rollout start --component {drafted.manifest.component} --release {done['seq']} --max-harmed N")


def submit(office: OfficeClient, draft: Draft, offline_keys: Path, options: SpeedOptions, why: str) -> dict[str, Any]:
    """Sign a draft upon the control plane's newest list of releases and hand in what is signed."""
    component = draft.manifest.component
    fleet = int(office.get("/api/v1/status")["devices"])
    newest = office.get_bytes(f"/api/v1/components/{part(component)}/releases")
    signed = sign_draft(draft, newest, offline_keys, options, fleet)
    office.put(f"/api/v1/payloads/{draft.manifest.payload.sha256}", draft.payload)
    body = {"component": component, "releases": signed.decode(), "manifest": draft.manifest_bytes.decode()}
    return office.post("/api/v1/releases", body, why)


@app.command(name="list")
def listing(*, home: Path | None = None, json: bool = False) -> None:
    """List the releases in the log.

    Args:
        home: The control plane's directory.
        json: Print JSON.
    """
    found = OfficeClient(home).get("/api/v1/releases")
    if json:
        out_json(found)
        return
    rows = [
        (r["component"], r["seq"], r["version"], r["driver"], r["digest"][:16], moment(r["logged_ms"]))
        for r in found["releases"]
    ]
    columns = ("component", "seq", "version", "driver", "digest", "logged")
    table("Releases", columns, rows, empty="No release is in the log yet: tidegate release create")
