"""An independent client, tuf-js, reads a repository that Tidegate made, and refuses what was tampered with."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.unit.trust import conftest as houses
from tests.unit.trust.conftest import COMPONENT, House

from tidegate.core.model import Candidate
from tidegate.core.wire import encode
from tidegate.trust import layout
from tidegate.trust.metadata import versioned

HERE = Path(__file__).parent
PLAN = layout.plan_path(COMPONENT)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class Reader:
    """One tuf-js client with its own state, in front of a repository that is served on loopback."""

    def __init__(self, house: House, modules: Path) -> None:
        self._modules, self._state = modules, house.directory / "tuf-js"
        (self._state / "metadata").mkdir(parents=True)
        (self._state / "metadata" / "root.json").write_bytes(house.root)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(house.repo)))
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def __call__(self, *targets: str) -> subprocess.CompletedProcess[str]:
        base = f"http://127.0.0.1:{self.server.server_port}"
        command = ["node", str(HERE / "read.mjs"), str(self._modules), str(self._state), base, *targets]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def refuses(self, error: str, *targets: str) -> None:
        done = self(*targets)
        assert (done.returncode, done.stdout) == (1, "")
        assert error in done.stderr, done.stderr


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where npm has put tuf-js, exactly the files whose digests the lock file names."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=60).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0] or 0) < 20:
        pytest.skip(f"tuf-js needs node 20, this is {version}")
    place = tmp_path_factory.mktemp("tuf-js")
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(HERE / name, place / name)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=0"]
    try:
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=90)
    except subprocess.TimeoutExpired:
        pytest.skip("npm ci took more than 90 s")
    if "EINTEGRITY" in done.stderr:
        pytest.fail(f"npm gave other files than the lock file names: {done.stderr[-500:]}")
    if done.returncode:
        pytest.skip(f"npm ci failed: {done.stderr[-300:]}")
    return place


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """A house in today's time, since tuf-js asks the system's clock; with release 1 and a plan that names it."""
    monkeypatch.setattr(houses, "NOW", int(time.time()))
    house = House(tmp_path)
    house.publish(house.plan(house.candidate(house.release(1))))
    return house


@pytest.fixture
def reader(live: House, modules: Path) -> Iterator[Reader]:
    made = Reader(live, modules)
    yield made
    made.server.shutdown()
    made.server.server_close()


def _release(seq: int) -> str:
    return layout.release_path(COMPONENT, seq)


def _reads(live: House, reader: Reader, candidate: Candidate) -> None:
    """It reads the very bytes that our own device believes."""
    device, _ = live.device(f"device-{candidate.seq}")
    device.refresh()
    plan, _ = device.plan(COMPONENT)
    manifest, _ = device.release(COMPONENT, candidate)
    done = reader(PLAN, candidate.path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {PLAN: encode(plan).decode(), candidate.path: encode(manifest).decode()}


def test_plan_and_release_are_read_and_so_is_the_next_edition(live: House, reader: Reader) -> None:
    _reads(live, reader, live.planned())
    second = live.candidate(live.release(2))
    live.publish(live.plan(second))
    _reads(live, reader, second)


def test_what_nobody_signed_is_not_found(reader: Reader) -> None:
    reader.refuses("is signed by no role", _release(9))


def test_a_tampered_targets_file_is_refused(live: House, reader: Reader) -> None:
    path = versioned(live.repo, layout.PLANS, live.publisher.version)
    honest = path.read_bytes()
    path.write_bytes(honest.replace(b'"length":', b'"length":1'))
    assert path.read_bytes() != honest
    reader.refuses("plans was signed by 0/1 keys", PLAN)
    path.write_bytes(honest)
    assert reader(PLAN).returncode == 0


def test_a_tampered_release_is_refused(live: House, reader: Reader) -> None:
    candidate = live.planned()
    path = live.repo / "targets" / layout.hashed_path(candidate.path, candidate.sha256)
    path.write_bytes(path.read_bytes().replace(b"1.1", b"6.6"))
    reader.refuses("Expected hash", candidate.path)


def test_a_rollback_is_refused(live: House, reader: Reader) -> None:
    timestamp = live.repo / "metadata" / "timestamp.json"
    old = timestamp.read_bytes()
    live.publish(live.plan(live.candidate(live.release(2))))
    assert reader(PLAN).returncode == 0
    timestamp.write_bytes(old)
    reader.refuses("New timestamp version 2 is less than current version 3", PLAN)


def test_a_rolled_back_targets_file_is_refused(live: House, reader: Reader) -> None:
    """An old plans file, well signed, in the new one's place."""
    old = versioned(live.repo, layout.PLANS, live.publisher.version).read_bytes()
    live.publish(live.plan(live.candidate(live.release(2))))
    versioned(live.repo, layout.PLANS, live.publisher.version).write_bytes(old)
    reader.refuses("Version 2 of plans does not match snapshot version 3", PLAN)
