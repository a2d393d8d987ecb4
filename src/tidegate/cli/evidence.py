"""`tidegate evidence`: verify attestations with no server, show them, hand them in, draw up a policy."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from cyclopts import App

from tidegate.cli.home import default_home
from tidegate.cli.office import OfficeClient, part
from tidegate.cli.passphrase import open_keys
from tidegate.cli.release_files import Draft
from tidegate.cli.show import moment, out, out_json, table
from tidegate.core.errors import BadInput, NotFound
from tidegate.trust.dsse import Envelope, parse_envelope
from tidegate.trust.durable import make_directory, read_bytes, write_durably
from tidegate.trust.evidence_policy import judge, read_policy
from tidegate.trust.keys import read_public
from tidegate.trust.statement import SHORT, Statement, Subject, parse_statement, product_health

app = App(name="evidence", help="Attestations of a release: verify, show, hand in; the policy that demands them.")
EVIDENCE = "evidence"


@app.command
def verify(
    release: str, /, *, policy: Path, component: str = "", evidence: Path | None = None, json: bool = False
) -> int:
    """Hold a release's attestations against a policy, with no server. Exit code 1 if something is missing.

    Args:
        release: A release's directory, or its digest (then with --evidence and --component).
        policy: The policy file (TOML or YAML).
        component: Whose release it is; default: as its manifest says.
        evidence: The directory with the attestations; default: RELEASE/evidence.
        json: Print JSON.
    """
    digest, named, place = _named(release)
    found = read_policy(read_bytes(policy, "the evidence policy"), policy.name)
    envelopes = read_evidence(evidence or place)
    if not (component or named):
        raise BadInput("say whose release it is: --component")
    judged = judge(found, component or named, digest, envelopes, time.time())
    if json:
        out_json({"release": digest, "met": judged.met, "missing": judged.missing, "counted": judged.counted})
    elif judged.met:
        out(f"{digest[:16]} has all that {policy} demands: {len(judged.counted)} attestations count.")
    else:
        out(f"{digest[:16]} lacks what {policy} demands:")
        for sentence in judged.missing:
            out(f"  {sentence}")
    return 0 if judged.met else 1


@app.command
def show(release: str, /, *, evidence: Path | None = None, home: Path | None = None, json: bool = False) -> None:
    """Show what attestations say of a release: from its directory, or from the control plane by digest.

    Args:
        release: A release's directory or its digest.
        evidence: The directory with the attestations; default: RELEASE/evidence.
        home: The control plane's directory.
        json: Print JSON: the statements as they were signed.
    """
    digest, _, place = _named(release)
    if evidence is None and not place.is_dir() and not Path(release).is_dir():
        texts = OfficeClient(home).get(f"/api/v1/releases/{part(digest)}/evidence")["evidence"]
        envelopes = [parse_envelope(each["text"].encode()) for each in texts]
    else:
        envelopes = read_evidence(evidence or place)
    found = [(each, parse_statement(each)) for each in envelopes]
    if json:
        out_json([{"envelope": each.digest, "keys": sorted(each.signatures), **_plain(said)} for each, said in found])
        return
    rows = [
        (said.short, said.result, ", ".join(sorted(said.checks)), moment(int(said.at_s * 1000)), _keys(each))
        for each, said in sorted(found, key=lambda pair: pair[1].at_s)
    ]
    columns = ("predicate", "result", "checks", "made", "signed by key")
    table(
        f"Evidence of {digest[:16]} (signatures not checked here)", columns, rows, empty="There is no evidence of it."
    )


def _plain(said: Statement) -> dict[str, Any]:
    subjects = [{"name": each.name, "sha256": each.sha256} for each in said.subjects]
    return {
        "predicateType": said.predicate_type,
        "result": said.result,
        "subject": subjects,
        "predicate": said.predicate,
    }


def _keys(envelope: Envelope) -> str:
    return ", ".join(key[:12] for key in sorted(envelope.signatures))


@app.command
def submit(release: Path, /, *, evidence: Path | None = None, why: str = "", home: Path | None = None) -> None:
    """Hand a release's attestations in to the control plane, which keeps them and puts them on record. Safe to repeat.

    Args:
        release: The release's directory.
        evidence: The directory with the attestations; default: RELEASE/evidence.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    digest, _, place = _named(str(release))
    envelopes = read_evidence(evidence or place)
    if not envelopes:
        raise NotFound(
            f"there is no evidence in {evidence or place}; make it: tidegate gate run {release} --key KEY.pem"
        )
    news = submit_evidence(OfficeClient(home), digest, envelopes, why)
    out(f"{len(envelopes)} attestations of {digest[:16]} are with the control plane, {news} of them new.")


@app.command
def health(rollout: str, /, *, key: list[Path], output: Path, home: Path | None = None) -> None:
    """Sign how a release did in a rollout, with counts, sizes, window and verdict, as an attestation of its own.

    Args:
        rollout: Its name, or the component's for its newest rollout.
        key: An evidence key (PEM). Can be given several times.
        output: Where to write the attestation.
        home: The control plane's directory.
    """
    found = OfficeClient(home).get(f"/api/v1/rollouts/{part(rollout)}")
    release = found["release"]
    subject = Subject(f"{found['component']} {release['version']}", release["digest"])
    made = product_health(subject, found, at_s=time.time()).signed(open_keys(key, None, None))
    write_durably(output, made.data())
    out(f"{output}: {found['rollout']}, {found['phase']}, {found['confirmed']:,} of {found['devices']:,} confirmed.")


@app.command(name="policy")
def draw_policy(
    *,
    key: list[Path],
    output: Path | None = None,
    predicate: str = "vsa",
    fresh: str = "7d",
    check: list[str] | None = None,
    let_through: bool = False,
    home: Path | None = None,
) -> None:
    """Draw up a policy from public keys: a TOML file that a person can read and widen.

    Args:
        key: A public key file (NAME.pub.json). Can be given several times.
        output: Where to write it; default: the control plane's home, where it holds at once.
        predicate: What is demanded: vsa, test-result, product-health, review.
        fresh: How old it may be.
        check: A check of the gate that must have passed. Can be given several times.
        let_through: A named person may start a rollout without the evidence, on record.
        home: The control plane's directory.
    """
    named = {
        name: known.keyval["public"] for name, known in (read_public(read_bytes(p, "the public key")) for p in key)
    }
    if predicate not in SHORT:
        raise BadInput(f"--predicate must be one of {', '.join(SHORT)}, not {predicate!r}")
    checks = "".join(f'"{name}", ' for name in check or ()).removesuffix(", ")
    lines = [
        "# What a release must have before a rollout of it may start.",
        "version = 1",
        f"let_through = {str(let_through).lower()}",
        "",
        "[keys]",
        *(f'{name} = "{public}"' for name, public in named.items()),
        "",
        "[[require]]",
        f'predicate = "{predicate}"',
        "keys = [" + ", ".join(f'"{name}"' for name in named) + "]",
        f'fresh = "{fresh}"',
        *([f"checks = [{checks}]"] if checks else []),
    ]
    text = "\n".join(lines) + "\n"
    place = output or (home or default_home()) / "policy.toml"
    read_policy(text.encode(), place.name)
    write_durably(place, text.encode())
    out(f"{place}: a rollout needs {predicate} by {', '.join(named)}, at most {fresh} old.")


def _named(release: str) -> tuple[str, str, Path]:
    """Give (digest, component, where its evidence lies) of a release's directory or digest."""
    place = Path(release)
    if place.is_dir():
        draft = Draft.load(place)
        return draft.digest, draft.manifest.component, place / EVIDENCE
    if len(release) == 64 and all(c in "0123456789abcdef" for c in release):
        return release, "", place / EVIDENCE
    raise NotFound(f"{release} is neither a release's directory nor a digest (64 hexadecimal digits)")


def read_evidence(directory: Path) -> list[Envelope]:
    """Read all attestations of a directory. Raises BadInput for a file that is none."""
    return [parse_envelope(path.read_bytes(), str(path)) for path in sorted(directory.glob("*.json"))]


def write_evidence(directory: Path, envelopes: list[Envelope], names: list[str]) -> None:
    """Write attestations side by side, whole and durably."""
    make_directory(directory)
    for envelope, name in zip(envelopes, names, strict=True):
        write_durably(directory / f"{name}.json", envelope.data())


def submit_evidence(office: OfficeClient, digest: str, envelopes: list[Envelope], why: str) -> int:
    """Hand attestations in; give how many of them were news."""
    path = f"/api/v1/releases/{part(digest)}/evidence"
    return sum(bool(office.post(path, {"envelope": each.data().decode()}, why)["news"]) for each in envelopes)
