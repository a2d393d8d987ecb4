"""`tidegate release`: create (packs and describes), sign (offline keys), list."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from tidegate.cli.home import Home, default_home
from tidegate.cli.office import OfficeClient, part
from tidegate.cli.options import OnOff
from tidegate.cli.passphrase import open_keys, open_release_keys
from tidegate.cli.promote import promote
from tidegate.cli.release_check import check_content
from tidegate.cli.release_files import (
    LEAST_DEVICES,
    SIGNED,
    URGENT_SPEED,
    USUAL_SPEED,
    Draft,
    SpeedOptions,
    already_signed,
    create_draft,
    read_share,
    read_signed,
    read_speed,
    sign_draft,
)
from tidegate.cli.show import moment, out, out_json, seconds_of, table
from tidegate.core.errors import BadInput
from tidegate.core.model import Health, Manifest, Probe
from tidegate.trust.durable import read_bytes, write_durably
from tidegate.trust.layout import EMERGENCY, release_role
from tidegate.trust.release import continues, countersign, describe_list, is_emergency

app = App(name="release", help="Create, sign, promote and list releases.")
app.command(promote)
app.command("tidegate.cli.withdraw:withdraw", name="withdraw", help="Take a release back, with its release keys.")
for _path, _name, _help in (
    ("tidegate.cli.news:notes", "notes", "Write release notes: which rules are new, changed or gone."),
    ("tidegate.cli.news:review_release", "review", "Sign that you have read a release's notes, and whether it may go."),
    ("tidegate.cli.news:subscribe", "subscribe", "Send the notes of each coming release to a webhook."),
    ("tidegate.cli.news:unsubscribe", "unsubscribe", "Send a webhook nothing any more."),
    ("tidegate.cli.news:subscribers", "subscribers", "List who is told of releases."),
):
    app.command(_path, name=_name, help=_help)


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
    activate: str = "",
    deactivate: str = "",
    replaces: list[str] | None = None,
    notes: str = "",
    baseline: Path | None = None,
    check: OnOff = True,
) -> None:
    """Pack a directory into a release: a payload and a manifest that names it by digest.

    Args:
        payload: The directory to pack.
        component: What it updates, as in edr-rules.
        version: The vendor's name for it.
        seq: Its sequence number; higher than that of every earlier release of the component.
        driver: What the payload means on a device: files, yara, clamav, command.
        out_dir: Where to write manifest.json and payload.tar.
        soak_s: How long a device must stay healthy before it confirms.
        probe: A health probe, NAME=COMMAND with its words; {watch} and other device settings are filled in.
        activate: The command that starts it; {current}, {work} and device settings are filled in.
        deactivate: The command that stops it.
        replaces: What a device may run before: a digest, any, absent. Default: any and absent.
        notes: What changes, for people.
        baseline: What devices run now: the notes then say which rules are new, changed or gone.
        check: Have the driver look at the content first, as devices do: what it refuses is not packed.
    """
    if baseline is not None:
        from tidegate.cli.news import MOST_NOTES, notes_between  # the gate's parts, which other commands can do without

        made = notes_between(payload, baseline, driver).text("What changes")
        notes = f"{notes}\n\n{made}".strip()[:MOST_NOTES]
    probes = tuple(_probe(entry) for entry in probe or ())
    health = Health(soak_s=soak_s, probes=probes)
    unseen = "as you said"

    def look(content: Path, manifest: Manifest) -> None:
        nonlocal unseen
        unseen = check_content(content, manifest)

    draft = create_draft(
        payload,
        out_dir,
        component=component,
        version=version,
        seq=seq,
        driver=driver,
        health=health,
        replaces=tuple(replaces or ("any", "absent")),
        activate=_command("--activate", activate),
        deactivate=_command("--deactivate", deactivate),
        notes=notes,
        look=look if check else None,
    )
    packed = draft.manifest.payload
    out(f"Release {version} of {component}: {packed.files} file{'s' * (packed.files != 1)}, {packed.length:,} bytes.")
    out(f"Digest {draft.digest}")
    if unseen:
        out(f"Nobody has looked at the content yet: {unseen}. `tidegate gate run {out_dir}` does, where its driver is.")
    out(f"Next: tidegate release sign {out_dir}")


def _command(option: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise BadInput(f"{option} is no command: {error}") from None


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
    emergency: bool = False,
    speed: str = "",
    ceiling: str = "100%",
    dwell: str = "1h",
    not_after: str = "7d",
    least_devices: int = LEAST_DEVICES,
    fleet_devices: int = 0,
    key: list[Path] | None = None,
    newest: Path | None = None,
    passphrase_file: Path | None = None,
    passphrase_fd: int | None = None,
    submit_it: Annotated[OnOff, Parameter(name="--submit")] = True,
    why: str = "",
    home: Path | None = None,
    json: bool = False,
) -> None:
    """Sign a release with the offline release keys, speed limit included, and log it with the control plane.

    Args:
        draft: What tidegate release create wrote.
        offline_keys: The directory with the release keys; default: HOME-offline-keys.
        trial: Trial values: everyone within seconds. Never for a real fleet.
        emergency: It closes a hole that is being exploited: all release holders sign, and it may spread faster.
        speed: The fastest that it may ever spread: AGE:SHARE steps. Default 0s:0.1%,1h:1%,4h:10%,24h:100%; of an urgent
            release 0s:1%,15m:10%,1h:100%.
        ceiling: The greatest share that it may reach without a promotion.
        dwell: The least time between two changes of one device.
        not_after: How long it may be rolled out.
        least_devices: As many devices may go from the start, whatever the steps say, so that a small fleet can begin.
        fleet_devices: How many devices the fleet has, in your own count: with least-devices it makes the share that may
            go at once, and the server's word is not taken for what limits the server.
        key: A release key (PEM) instead of all that lie in the directory. Can be given several times.
        newest: The newest list of releases as a file, where no control plane can be reached; then with --no-submit.
        passphrase_file: Read the keys' passphrase from a file instead of asking for it.
        passphrase_fd: Read it from an open file descriptor.
        submit_it: Hand it in at once; with --no-submit it is only signed, for tidegate release submit.
        why: The reason, for the record.
        home: The control plane's directory.
        json: Print JSON.
    """
    if least_devices and not fleet_devices and not trial:
        raise BadInput("say how many devices the fleet has (--fleet-devices), or --least-devices 0")
    place = Home(home or default_home())
    keys = offline_keys or place.path.with_name(place.path.name + "-offline-keys")
    options = SpeedOptions(
        steps=read_speed(speed or (URGENT_SPEED if emergency else USUAL_SPEED)),
        ceiling_2p32=read_share("--ceiling", ceiling),
        dwell_s=seconds_of("--dwell", dwell),
        not_after_s=seconds_of("--not-after", not_after),
        least_devices=least_devices,
        fleet_devices=max(fleet_devices, 1),
    )
    if trial:
        options = SpeedOptions.for_trial(options.not_after_s)
    if newest and submit_it:
        raise BadInput("--newest is for signing without a control plane: add --no-submit, and submit it later")
    drafted = Draft.load(draft)
    component = drafted.manifest.component
    if newest:
        standing = read_bytes(newest, "the newest list of releases")
    else:
        role = EMERGENCY if emergency else release_role(component)
        standing = OfficeClient(home).get_bytes(f"/api/v1/roles/{part(role)}")
    before = already_signed(draft, drafted, standing)
    if not before:
        signers = open_release_keys(keys, key, passphrase_file, passphrase_fd)
        write_durably(draft / SIGNED, sign_draft(drafted, standing, keys, options, signers, emergency=emergency))
    if not json:
        _tell_terms(draft, drafted, before=before)
    if not submit_it:
        out(f"Signed: {draft / SIGNED}. Other holders: tidegate release countersign {draft} --key KEY.pem")
        out(f"Next: tidegate release submit {draft}")
        return
    _submit(OfficeClient(home), drafted, draft, why, json)


def _tell_terms(draft: Path, drafted: Draft, *, before: bool) -> None:
    """Say what the release keys have signed; a draft that was signed before keeps its terms, whatever is asked now."""
    if before:
        out(f"{draft} was signed before, and its terms stand; for other terms create the release anew:")
    for line in describe_list(read_signed(draft), drafted.digest):
        out(line)


@app.command(name="countersign")
def add_signature(
    draft: Path, /, *, key: list[Path], passphrase_file: Path | None = None, passphrase_fd: int | None = None
) -> None:
    """Say what another holder has signed, and add signatures to it, on a machine of your own. Needs no network.

    Args:
        draft: The directory that tidegate release sign has signed.
        key: A release key (PEM). Can be given several times.
        passphrase_file: Read the keys' passphrase from a file instead of asking for it.
        passphrase_fd: Read it from an open file descriptor.
    """
    drafted, signed = Draft.load(draft), read_signed(draft)
    if not continues(signed, signed, drafted.manifest, drafted.digest):
        raise BadInput(f"{draft / SIGNED} was signed for another release; sign the draft anew")
    manifest = drafted.manifest
    out(f"{manifest.component} {manifest.version}, seq {manifest.seq}, digest {drafted.digest}")
    for line in describe_list(signed, drafted.digest):
        out(line)
    write_durably(draft / SIGNED, countersign(signed, open_keys(key, passphrase_file, passphrase_fd)))
    out(f"Signed: {draft / SIGNED}. Next: tidegate release submit {draft}")


@app.command(name="submit")
def submit_signed(draft: Path, /, *, why: str = "", home: Path | None = None, json: bool = False) -> None:
    """Hand a signed release in to the control plane, which verifies and logs it. Safe to repeat.

    Args:
        draft: The directory that tidegate release sign has signed.
        why: The reason, for the record.
        home: The control plane's directory.
        json: Print JSON.
    """
    _submit(OfficeClient(home), Draft.load(draft), draft, why, json)


def _submit(office: OfficeClient, drafted: Draft, draft: Path, why: str, json: bool) -> None:
    done = submit(office, drafted, draft, why)
    if json:
        out_json(done)
        return
    out(f"Release {done['seq']} is signed and in the log, digest {done['digest']}.")
    out(f"Next: tidegate rollout start --component {drafted.manifest.component} --release {done['seq']} --max-harmed N")


def sign_with(office: OfficeClient, drafted: Draft, draft: Path, offline_keys: Path, options: SpeedOptions) -> None:
    """Sign a draft upon the control plane's newest list of releases, and keep what is signed beside it.

    What was signed before and is still to be handed in, or was handed in and not answered, is not signed again.
    """
    component = drafted.manifest.component
    newest = office.get_bytes(f"/api/v1/components/{part(component)}/releases")
    if not already_signed(draft, drafted, newest):
        write_durably(draft / SIGNED, sign_draft(drafted, newest, offline_keys, options))


def submit(office: OfficeClient, drafted: Draft, draft: Path, why: str) -> dict[str, Any]:
    """Hand in a payload and the signed release that names it; the server takes the same twice. Raises NotFound."""
    signed = read_signed(draft)
    office.put(f"/api/v1/payloads/{drafted.manifest.payload.sha256}", drafted.payload)
    component = drafted.manifest.component
    body: dict[str, Any] = {
        "component": component,
        "releases": signed.decode(),
        "manifest": drafted.manifest_bytes.decode(),
        "emergency": is_emergency(signed),
    }
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
        (r["component"], r["seq"], r["version"], r["driver"], r["digest"][:16], moment(r["logged_ms"]), standing_of(r))
        for r in found["releases"]
    ]
    columns = ("component", "seq", "version", "driver", "digest", "logged", "")
    table("Releases", columns, rows, empty="No release is in the log yet: tidegate release create")


def standing_of(release: dict[str, Any]) -> str:
    """Say what is special about a release."""
    if release["withdrawn"]:
        return "withdrawn"
    return "urgent" if release["emergency"] else ""
