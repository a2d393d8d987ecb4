"""A whole repository with its keys, releases, publisher and devices, for the tests of trust."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp

from tidegate.core.assign import SHARE_ONE
from tidegate.core.model import Candidate, Health, Manifest, Plan, PlanState, ReleaseTerms, SpeedLimit
from tidegate.core.wire import encode
from tidegate.trust import layout
from tidegate.trust.client import TrustClient
from tidegate.trust.keys import key_path, load_signer, load_signers
from tidegate.trust.metadata import current_root, latest_bytes, latest_versions, moment, sign, target, versioned
from tidegate.trust.publisher import Publisher
from tidegate.trust.release import Accepted, accept_release, describe_payload, pack_payload, sign_release, store_payload
from tidegate.trust.repository import init_repository

NOW = 1_800_000_000
COMPONENT = "edr-rules"
ROLE = layout.release_role(COMPONENT)


class Wire:
    """What stands between a device and the repository: it counts requests, and `answers` can replace files."""

    def __init__(self, repo: Path) -> None:
        self.repo = repo
        self.asked: list[str] = []
        self.answers: dict[str, bytes | Exception | Callable[[int], bytes]] = {}

    def __call__(self, path: str, limit: int) -> bytes:
        self.asked.append(path)
        answer = self.answers.get(path)
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return answer(limit)
        return answer if answer is not None else (self.repo / path).read_bytes()


class House:
    """The repository in `repo`, offline keys in `offline`, online keys in `online`, and a clock that stands still."""

    component = COMPONENT
    role = ROLE

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.repo, self.offline, self.online = (directory / name for name in ("repo", "offline", "online"))
        self.now = NOW
        if not self.repo.exists():
            init_repository(self.repo, self.offline, self.online, [COMPONENT], NOW)
        self.root = current_root(self.repo)
        self.publisher = Publisher(self.repo, self.online)

    def manifest(self, seq: int, content: str = "rule x { condition: true }") -> Manifest:
        source = self.directory / f"content-{seq}"
        source.mkdir(exist_ok=True)
        (source / "rules.yar").write_text(f"// {seq}\n{content}\n")
        data = pack_payload(source)
        payload = describe_payload(data)
        store_payload(self.repo, data, payload)
        return Manifest(COMPONENT, f"1.{seq}", seq, "yara", payload, Health(2))

    def terms(self, seq: int) -> ReleaseTerms:
        return ReleaseTerms(seq, f"{seq:032x}", SpeedLimit(((0, SHARE_ONE),), NOW, NOW + 86_400))

    def sign(self, manifest: Manifest, *, keys: int = 2, **more: object) -> bytes:
        standing = latest_bytes(self.repo, ROLE)
        signers = load_signers(self.offline, "release")[:keys]
        return sign_release(standing, manifest, self.terms(manifest.seq), signers, self.now, **more)  # pyright: ignore

    def release(self, seq: int) -> Accepted:
        manifest = self.manifest(seq)
        return accept_release(self.repo, COMPONENT, self.sign(manifest), encode(manifest), self.now)

    def candidate(self, accepted: Accepted) -> Candidate:
        seq = accepted.manifest.seq
        return Candidate(layout.release_path(COMPONENT, seq), accepted.digest, len(encode(accepted.manifest)), seq)

    def plan(self, candidate: Candidate, **changes: object) -> Plan:
        made = Plan(
            "r1", COMPONENT, 1, PlanState.OPEN, candidate, ("any",), "f" * 16, False, "c" * 64, 5, 60, 0,
            self.now, self.now + 600,
        )  # fmt: skip
        return replace(made, **changes)  # pyright: ignore[reportArgumentType]

    def planned(self) -> Candidate:
        """What the plan in force names."""
        probe, _ = self.device("probe")
        probe.refresh()
        return probe.plan(COMPONENT)[0].candidate

    def believed(self, device: TrustClient) -> int:
        """The seq of the release that a device would take now."""
        return device.release(COMPONENT, device.plan(COMPONENT)[0].candidate)[0].seq

    def publish(self, plan: Plan) -> int:
        return self.publisher.publish({plan.component: encode(plan)}, self.now)

    def device(self, name: str = "device") -> tuple[TrustClient, Wire]:
        wire = Wire(self.repo)
        return TrustClient(self.directory / name, self.root, wire, lambda: self.now), wire


class Thief:
    """Whoever holds every online key: writes whatever editions it likes into the repository."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.loose: dict[str, TargetFile] = {}
        self.signers = {role: load_signer(key_path(house.online, role)) for role in ("plans", "snapshot", "timestamp")}

    def publish(
        self,
        plans: dict[str, bytes],
        roles: dict[str, int] | None = None,
        *,
        plans_by: str = "plans",
        lifetime_s: int = 3600,
    ) -> None:
        repo, now = self.house.repo, self.house.now
        known = latest_versions(repo)
        edition = known["plans"] + 1
        described = {path: target(path, data) for path, data in plans.items()} | self.loose
        for path, data in plans.items():
            directory, _, name = path.rpartition("/")
            place = repo / "targets" / directory
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{described[path].hashes['sha256']}.{name}").write_bytes(data)
        versions = (
            {r: v for r, v in known.items() if r not in ("root", "snapshot")} | {"plans": edition} | (roles or {})
        )
        meta = {f"{role}.json": MetaFile(version) for role, version in versions.items()}
        parts = {
            "plans": Metadata(Targets(edition, None, moment(now, 3600), described)),
            "snapshot": Metadata(Snapshot(edition, None, moment(now, 3600), meta)),
            "timestamp": Metadata(Timestamp(edition, None, moment(now, lifetime_s), MetaFile(edition))),
        }
        for role, metadata in parts.items():
            signer = self.signers[plans_by if role == "plans" else role]
            path = repo / "metadata" / "timestamp.json" if role == "timestamp" else versioned(repo, role, edition)
            path.write_bytes(sign(metadata, [signer]))


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both beginnings, made once and copied for each test."""
    bare, rolling = (tmp_path_factory.mktemp(name) / "house" for name in ("bare", "rolling"))
    House(bare)
    shutil.copytree(bare, rolling)
    house = House(rolling)
    house.publish(house.plan(house.candidate(house.release(1))))
    return {"bare": bare, "rolling": rolling}


@pytest.fixture
def house(tmp_path: Path, templates: dict[str, Path]) -> House:
    shutil.copytree(templates["bare"], tmp_path, dirs_exist_ok=True)
    return House(tmp_path)


@pytest.fixture
def rolling(tmp_path: Path, templates: dict[str, Path]) -> House:
    """With release 1, and a plan that names it."""
    shutil.copytree(templates["rolling"], tmp_path, dirs_exist_ok=True)
    return House(tmp_path)


@pytest.fixture
def thief(rolling: House) -> Thief:
    return Thief(rolling)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 kB, since a full disk cannot be had otherwise."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted by root")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
