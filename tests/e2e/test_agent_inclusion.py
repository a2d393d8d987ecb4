"""A device whose owner demands it takes no release without a proof that the ledger holds it."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.server import Plant
from tuf.api.metadata import Targets

from tidegate.agent.inclusion import Inclusion
from tidegate.cli.ledger_home import open_ledger
from tidegate.control import acts
from tidegate.core.errors import BadInput, Untrusted
from tidegate.core.model import Candidate
from tidegate.core.wire import canonical
from tidegate.trust.ledger import LedgerWriter
from tidegate.trust.metadata import parse
from tidegate.trust.note import COSIGNATURE, NoteSigner
from tidegate.trust.release import read_terms
from tidegate.trust.witness import cosign

from .agent_device import CALM, HEALTHY, Device
from .agent_server import COMPONENT, World

SIGNER = NoteSigner("tidegate.local/test", Ed25519PrivateKey.generate())
WITNESS = NoteSigner("witness", Ed25519PrivateKey.generate(), COSIGNATURE)


def entry(candidate: Candidate, **changes: Any) -> bytes:
    said = {"kind": "release", "component": COMPONENT, "digest": candidate.sha256, "seq": candidate.seq}
    return canonical({**said, "v": 1, **changes})


def log(world: World, *entries: bytes, signer: NoteSigner = SIGNER) -> LedgerWriter:
    place = world.directory / f"ledger-{len(list(world.directory.iterdir()))}"
    writer = LedgerWriter(place / "served", place / "memory", signer, [b"{}", *entries])
    writer.publish()
    return writer


def lay(world: World, candidate: Candidate, text: bytes, proof: bytes) -> None:
    place = world.repo / "ledger" / "releases"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{candidate.sha256}.json").write_bytes(text)
    (place / f"{candidate.sha256}.tlog-proof").write_bytes(proof)


def demand(device: Device, **changes: Any) -> None:
    """Let the device's owner pin the ledger's key."""
    settings = replace(device.home.load_settings(), ledger_key=SIGNER.key.text(), **changes)
    device.home.save_settings(settings)
    device.restart()


def offered(world: World, seq: int = 1) -> Candidate:
    candidate = world.release(seq, {"rules": f"good {seq}"}, probes=(HEALTHY, CALM))
    world.publish(candidate)
    return candidate


def refuses(device: Device, says: str) -> None:
    device.run(lambda: says in device.status()["sentence"] if device.home.status_file.exists() else False, begin=True)
    assert device.installed() is None and not device.world.announced


def test_a_release_in_the_ledger_is_taken(world: World, device: Device) -> None:
    demand(device)
    candidate = offered(world)
    lay(world, candidate, entry(candidate), log(world, entry(candidate)).proof(1))
    device.run(device.reported("confirmed"), begin=True)


def test_a_release_without_a_proof_is_refused_until_it_comes(world: World, device: Device) -> None:
    demand(device)
    candidate = offered(world)
    refuses(device, "there is no proof that it stands in the ledger")
    lay(world, candidate, entry(candidate), log(world, entry(candidate)).proof(1))
    device.run(device.reported("confirmed"))


@pytest.mark.parametrize("kind", ["another release's", "another entry", "forged", "edited", "torn", "other key", "act"])
def test_a_proof_that_proves_something_else_is_refused(world: World, device: Device, kind: str) -> None:
    demand(device)
    candidate = offered(world)
    other = replace(candidate, sha256="ab" * 32, seq=9)
    mine, theirs = entry(candidate), entry(other)
    writer = log(world, mine, theirs, entry(candidate, kind="act"))
    text, proof, says = mine, writer.proof(1), "is not proved"
    if kind == "another release's":
        text, proof, says = theirs, writer.proof(2), "is of something else"
    elif kind == "another entry":
        proof = writer.proof(2)
    elif kind == "forged":
        text = mine  # an entry that the ledger never held, with the proof of one that it holds
        proof = log(world, theirs).proof(1)
    elif kind == "edited":
        text = entry(candidate, order_salt="chosen by the server")
    elif kind == "torn":
        proof = proof[: len(proof) // 2]
    elif kind == "other key":
        fork = NoteSigner(SIGNER.key.name, Ed25519PrivateKey.generate())
        proof = log(world, mine, signer=fork).proof(1)
    else:
        text, proof, says = entry(candidate, kind="act"), writer.proof(3), "is of something else"
    lay(world, candidate, text, proof)
    refuses(device, says)


def test_witnesses_can_be_demanded_as_well(world: World, device: Device) -> None:
    demand(device, witnesses=(WITNESS.key.text(),), witness_quorum=1)
    candidate = offered(world)
    proof = log(world, entry(candidate)).proof(1)
    lay(world, candidate, entry(candidate), proof)
    refuses(device, "witnesses that are asked for")
    head, _, note = proof.partition(b"\n\n")
    lay(world, candidate, entry(candidate), head + b"\n\n" + cosign(note, WITNESS, world.now()))
    device.run(device.reported("confirmed"))


def test_without_the_demand_nothing_is_asked_for(world: World, device: Device) -> None:
    device.install()
    assert not [path for path in world.asked if "ledger" in path]
    shutil.rmtree(world.repo / "ledger", ignore_errors=True)


def test_a_wrong_key_is_refused_when_the_agent_starts(device: Device) -> None:
    value = json.loads(device.home.settings_file.read_text())
    device.home.settings_file.write_text(json.dumps({**value, "ledger_key": "nonsense"}))
    with pytest.raises(BadInput, match="no Ed25519 verifier key"):
        device.restart()
    device.home.settings_file.write_text(json.dumps({**value, "witness_quorum": 2}))
    with pytest.raises(BadInput, match="quorum of witnesses"):
        device.restart()


def test_the_real_ledger_proves_its_releases(tmp_path: Path) -> None:
    """The files that a control plane lays beside its repository are what a device asks for."""
    plant = Plant(tmp_path)
    draft = plant.draft(1)
    signed = parse(Targets, plant.sign(draft), "releases").signed.targets
    terms = read_terms(next(iter(signed.values())))
    ledger = open_ledger(plant.home)
    assert ledger is not None
    list(ledger.begin(plant.log))
    by = acts.Who("ada")
    events, _ = acts.log_release(
        plant.controller.state, 1, by, digest=draft.digest, manifest=draft.manifest, terms=terms
    )
    ledger.take(plant.log, plant.log.append(events), events)
    ledger.publish()
    inclusion = Inclusion(lambda path, most: (plant.home.repository / path).read_bytes(), ledger.key.text())
    candidate = Candidate("releases/x/1.json", draft.digest, len(draft.manifest_bytes), 1)
    inclusion.check(draft.manifest.component, candidate, None, int(time.time()))
    with pytest.raises(Untrusted, match="there is no proof"):
        inclusion.check(draft.manifest.component, replace(candidate, sha256="ab" * 32), None, int(time.time()))
    plant.log.close()
