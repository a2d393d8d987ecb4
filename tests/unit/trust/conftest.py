"""A whole repository with its keys, releases, publisher and devices, for the tests of trust."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tidegate.core.assign import SHARE_ONE
from tidegate.core.model import Candidate, Health, Manifest, Plan, PlanState, ReleaseTerms, SpeedLimit
from tidegate.core.wire import encode
from tidegate.trust import layout
from tidegate.trust.client import TrustClient
from tidegate.trust.keys import load_signers
from tidegate.trust.metadata import latest_bytes
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
        self.root = init_repository(self.repo, self.offline, self.online, [COMPONENT], NOW)
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

    def publish(self, plan: Plan) -> int:
        return self.publisher.publish({plan.component: encode(plan)}, self.now)

    def device(self, name: str = "device") -> tuple[TrustClient, Wire]:
        wire = Wire(self.repo)
        return TrustClient(self.directory / name, self.root, wire, lambda: self.now), wire


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def rolling(house: House) -> House:
    """With release 1, and a plan that names it."""
    house.publish(house.plan(house.candidate(house.release(1))))
    return house


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
