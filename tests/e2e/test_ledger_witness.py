"""Real witnesses beside a real server: it gets their signatures, and cannot fork or cut what they have seen."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from tests.e2e.stage import wait_for
from tests.server import Plant

from tidegate.cli.backup import create
from tidegate.cli.ledger_home import open_ledger
from tidegate.cli.main import run
from tidegate.trust.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from tidegate.trust.ledger import directory_fetch
from tidegate.trust.ledger_proof import parse_proof
from tidegate.trust.ledger_read import LedgerReader
from tidegate.trust.merkle import Tree, consistency_proof, leaf_hash
from tidegate.trust.note import NoteKey, parse_key, parse_note
from tidegate.trust.witness import cosigned_at
from tidegate.trust.witness_call import write_call

pytestmark = [pytest.mark.room("trust"), pytest.mark.room("control"), pytest.mark.timeout(600)]


class Site:
    """A control plane, its witnesses, and the processes that run; each command in this process."""

    def __init__(self, directory: Path) -> None:
        plant = Plant(directory)
        plant.log.close()
        self.plant, self.home, self.offline, self.directory = plant, plant.home, plant.offline, directory
        ledger = open_ledger(plant.home)
        assert ledger is not None
        self.key = ledger.key
        self.running: list[subprocess.Popen[bytes]] = []

    def begin(self, *words: str, log: str) -> subprocess.Popen[bytes]:
        with (self.directory / log).open("wb") as said:
            whole = [sys.executable, "-m", "tidegate", *words]
            self.running.append(subprocess.Popen(whole, stdout=said, stderr=said))
        return self.running[-1]

    def serve(self) -> subprocess.Popen[bytes]:
        self.home.address.unlink(missing_ok=True)
        ends = ("--devices", "127.0.0.1:0", "--operators", "127.0.0.1:0")
        process = self.begin("serve", "--home", str(self.home.path), *ends, log="serve.log")
        wait_for(lambda: self.home.address.exists() or process.poll() is not None, 120)
        return process

    def witness(self, name: str) -> tuple[NoteKey, str]:
        words = ("ledger", "witness", "--directory", str(self.directory / name), "--name", f"{name}.example")
        process = self.begin(*words, "--ledger", self.key.text(), "--listen", "127.0.0.1:0", log=f"{name}.log")

        def said() -> list[str]:
            assert process.poll() is None, self.said(f"{name}.log")
            return [line.split()[-1] for line in self.said(f"{name}.log").splitlines() if line.startswith("Witness")]

        wait_for(lambda: len(said()) == 2, 120)
        key, url = said()
        return parse_key(key), url

    def said(self, log: str) -> str:
        return (self.directory / log).read_text()

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        process.send_signal(signal.SIGTERM)
        return process.wait(120)

    def command(self, *words: object, code: int = 0) -> None:
        with pytest.raises(SystemExit) as ended:
            run([*map(str, words)])
        assert (ended.value.code or 0) == code

    def sign_and_import(self, bundle: Path, *more: str) -> None:
        for number in (1, 2):
            self.command("keys", "sign", bundle, "--key", self.offline / f"targets-{number}.pem")
        self.command("keys", "import", bundle, "--why", "test", *more, "--home", self.home.path)

    def ask(self, path: str) -> httpx.Response:
        address = json.loads(self.home.address.read_text())["operators"]
        bearer = {"authorization": f"Bearer {self.home.operator_token.read_text().strip()}"}
        return httpx.get(f"{address}{path}", headers=bearer, timeout=60)

    def status(self) -> dict[str, Any]:
        return dict(self.ask("/api/v1/status").json())

    @property
    def served(self) -> Path:
        return self.home.repository / "ledger"

    def size(self) -> int:
        return parse_checkpoint(parse_note((self.served / "checkpoint").read_bytes()).text).size


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path)
    yield found
    for process in found.running:
        process.kill()
        process.wait(60)


@contextlib.contextmanager
def unchanged(place: Path) -> Iterator[None]:
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    yield
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


class Pair(NamedTuple):
    """Two witnesses that the signed targets name, both demanded, and the server that runs."""

    first: NoteKey
    second: NoteKey
    server: subprocess.Popen[bytes]

    def cosigned(self, path: Path) -> bool:
        """Whether both have signed a checkpoint, or the one of a proof."""
        data = path.read_bytes() if path.exists() else b""
        note = parse_proof(data).note if path.suffix == ".tlog-proof" and data else data
        return bool(note) and None not in (cosigned_at(note, self.first), cosigned_at(note, self.second))


@pytest.fixture
def pair(site: Site, tmp_path: Path) -> Pair:
    (first, url_1), (second, url_2) = site.witness("w1"), site.witness("w2")
    bundle = tmp_path / "ledger.bundle"
    named = ("--witness", f"{first.text()}={url_1}", "--witness", f"{second.text()}={url_2}", "--quorum", 2)
    site.command("keys", "ledger", *named, "--output", bundle, "--home", site.home.path)
    found = Pair(first, second, site.serve())
    site.sign_and_import(bundle)
    wait_for(lambda: found.cosigned(site.served / "checkpoint"), 120)
    return found


def release(site: Site) -> Path:
    """Log a release; give where its proof lies."""
    draft = site.plant.draft(1)
    place = next(path.parent for path in site.directory.rglob("payload.tar"))
    more = ("--trial", "--offline-keys", site.offline, "--why", "x", "--home", site.home.path)
    site.command("release", "sign", place, *more)
    return site.served / "releases" / f"{draft.digest}.tlog-proof"


def test_witnesses_sign_what_continues(site: Site, pair: Pair, capsys: Any) -> None:
    proof = release(site)
    wait_for(lambda: pair.cosigned(proof), 120)
    site.command("ledger", "verify", "--home", site.home.path)
    witnesses = [word for key in pair[:2] for word in ("--witness", key.text())]
    site.command("ledger", "verify", "--source", site.served, "--key", site.key.text(), *witnesses)
    assert capsys.readouterr().out.count("Cosigned by w1.example, w2.example.") == 2
    wait_for(lambda: [w["behind"] for w in site.status()["witnesses"]] == [0, 0], 120)
    assert 'tidegate_ledger_witness_behind_entries{witness="w2.example"} 0.0' in site.ask("/metrics").text
    site.command("status", "--home", site.home.path)
    assert "cosigned by 2 of 2 witnesses" in capsys.readouterr().out


@pytest.mark.slow
def test_a_restored_control_plane_forks_no_ledger_and_can_begin_another(
    site: Site, pair: Pair, tmp_path: Path, capsys: Any
) -> None:
    """A backup is taken, more is published, which witnesses see, the machine is lost, and the backup restored."""
    proof = release(site)
    backup, published = tmp_path / "tidegate.backup", tmp_path / "published"
    create(backup, home=site.home.path)
    before = site.size()
    site.command("token", "create", "--uses", 1, "--home", site.home.path)
    wait_for(lambda: site.size() > before and pair.cosigned(site.served / "checkpoint"), 120)
    assert site.stop(pair.server) == 0
    shutil.copytree(site.served, published)

    def restored_is_refused(says: str, *more: object) -> None:
        shutil.rmtree(site.home.path)
        site.command("backup", "restore", backup, "--home", site.home.path, *more)
        with unchanged(site.served):
            assert site.serve().wait(120) == 1
        said = site.said("serve.log")
        assert says in said and "tidegate keys ledger --renew" in said and "Traceback" not in said

    restored_is_refused("has cosigned")
    capsys.readouterr()
    restored_is_refused("the log gives", "--published", published)
    assert "keys ledger --renew" in capsys.readouterr().out

    renewal = tmp_path / "renew.bundle"
    gone = ("--without", "w1.example", "--without", "w2.example")
    site.command("keys", "ledger", "--renew", *gone, "--output", renewal, "--home", site.home.path)
    site.sign_and_import(renewal, "--at-rest")
    server = site.serve()
    assert server.poll() is None, site.said("serve.log")
    wait_for(lambda: site.size() > 0 and proof.exists(), 120)
    site.command("ledger", "verify", "--home", site.home.path)
    assert "/2 holds" in capsys.readouterr().out
    renewed = parse_key((site.served / "key").read_text())
    assert renewed.name == f"{site.key.name}/2" and renewed.public != site.key.public
    files = ("--entry", proof.with_suffix(".json"), "--proof", proof)
    site.command("ledger", "verify", *files, "--key", renewed.text())
    aside = site.home.repository / "ledger-1"
    assert LedgerReader(directory_fetch(aside), site.key).verify()
    assert site.stop(server) == 0


@pytest.mark.slow
def test_a_witness_that_sees_a_fork_while_the_server_runs_ends_its_publishing(site: Site, tmp_path: Path) -> None:
    key, url = site.witness("w1")
    bundle = tmp_path / "ledger.bundle"
    site.command("keys", "ledger", "--witness", f"{key.text()}={url}", "--output", bundle, "--home", site.home.path)
    site.sign_and_import(bundle, "--at-rest")
    server = site.serve()
    wait_for(lambda: site.status()["witnesses"][0]["entries"] > 0, 120)
    ledger = open_ledger(site.home)
    assert ledger is not None

    def shows_another() -> bool:
        """Somebody with the ledger's key shows the witness another continuation of what it has seen."""
        entries = LedgerReader(directory_fetch(site.served), ledger.key).verify()
        tree = Tree(leaf_hash(entry) for entry in [*entries, b"what the log never held"])
        fork = Checkpoint(ledger.key.name, tree.size, tree.root())
        proof = consistency_proof(len(entries), tree.size, tree.node)
        call = write_call(len(entries), proof, sign_checkpoint(fork, ledger.signer))
        return httpx.post(f"{url}/add-checkpoint", content=call, timeout=60).status_code == 200

    wait_for(shows_another, 120)  # it may not have been shown the newest yet
    token = ("token", "create", "--uses", 1, "--home", site.home.path)
    site.command(*token)
    wait_for(lambda: "would fork" in site.status()["witnesses"][0]["trouble"], 120)
    assert "would fork" in site.status()["trouble"]
    before = site.size()
    site.command(*token)
    assert site.size() == before, "nothing more is published"
    site.stop(server)
