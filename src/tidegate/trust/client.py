"""The device's side of trust: what the signed files say now, and nothing that is old, mixed up or unsigned."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tuf.api.metadata import Root, Targets
from tuf.ngclient import TargetFile

from tidegate.core.errors import BadInput, NotFound, Untrusted
from tidegate.core.model import Candidate, Manifest, Plan, ReleaseTerms
from tidegate.core.speed import CLOCK_TOLERANCE_S
from tidegate.core.wire import decode
from tidegate.trust import layout
from tidegate.trust.durable import make_directory, sweep_temporary, sync_dir, write_durably
from tidegate.trust.emergency import STOP, Stop
from tidegate.trust.emergency_client import Statements
from tidegate.trust.floor import load_floor, store_floor
from tidegate.trust.ledger_policy import LedgerPolicy, policy_of
from tidegate.trust.metadata import moment, parse, verify
from tidegate.trust.pardon import PARDON
from tidegate.trust.promotion import read_promotion
from tidegate.trust.release import read_terms
from tidegate.trust.signed_time import SignedTime
from tidegate.trust.updater import DurableUpdater, Fetch, Fetcher, typed
from tidegate.trust.withdrawal import sentence_of

__all__ = ["Fetch", "TrustClient"]

CACHED_FILES = 32
HIGH_WATER_STEP_S = 60  # the mark is raised in steps, far below the clock's tolerance, to spare the disk

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class TrustClient:
    """The signed state of one repository, as one device may believe it. One instance per directory at a time.

    Args:
        directory: the client's own; made if missing.
        root_bytes: the root metadata that was pinned at enrolment; the same at every start.
        fetch: (path below the repository, most bytes) -> the file; FileNotFoundError if there is none, OSError if it
            cannot be reached. It may well give back more than allowed: that is refused here.
        clock: gives the wall clock in unix seconds.
        passed: gives seconds that nobody can set back, so that a clock that stands still is noticed; see SignedTime.

    Raises:
        Untrusted: if the device's own record of versions seen is damaged.
    """

    def __init__(
        self, directory: Path, root_bytes: bytes, fetch: Fetch, clock: Callable[[], int],
        passed: Callable[[], float] | None = None,
    ) -> None:  # fmt: skip
        self._metadata = directory / "metadata"
        self._cache = directory / "targets"
        for path in (self._metadata, self._cache):
            make_directory(path)
        for path in (directory, self._metadata, self._cache):
            sweep_temporary(path)
            sync_dir(path)
        self._directory = directory
        self._root_bytes = root_bytes
        self._fetcher = Fetcher(fetch)
        self.stops = Statements(STOP, directory / "stops", layout.stop_path, self._fetcher, self._trunk)
        self.pardons = Statements(PARDON, directory / "pardons", layout.pardon_path, self._fetcher, self._trunk)
        self._floor = load_floor(directory)
        self._time = SignedTime(clock, passed)
        self._time.saw(self._floor.high_water_s)
        self._updater: DurableUpdater | None = None
        self._root: Root | None = None
        self._version = 0

    @property
    def high_water_s(self) -> int:
        """What time it must be at least (unix seconds): the latest signed one, durable, and what has passed since."""
        return self._time.least_s

    def now(self) -> int:
        """Give the time by which anything signed is judged here. Raises ClockWrong."""
        return self._time.now()

    def refresh(self) -> bool:
        """Ask whether there is anything new, verify it and keep it durably; two requests when there is nothing.

        After an error all that was known before still stands, until it expires.

        Returns:
            True if there is a plan version other than the one known before.

        Raises:
            Unreachable: if a file cannot be had.
            ClockWrong: if this machine's clock lies before a time that was signed.
            Untrusted: if what is served does not hold.
            DiskFull: if it cannot be kept.
        """
        with typed(self._time.wall()):
            updater = DurableUpdater(self._metadata, self._root_bytes, self._fetcher, self._time.wall())
            # The root first: it alone can lift a floor that stolen keys have raised, the clock's too.
            try:
                updater.load_root()
            finally:
                self._root = updater.root
            floor = self._floor.under(updater.authority)
            if self._floor.authority not in ("", updater.authority):
                updater.forget_online()
                self._time.forget()
            updater.judge_by(self._time.now())
            updater.load_rest()
            plans = updater.delegated(layout.PLANS)
        floor.check(updater.root.version, updater.versions)
        floor = replace(floor, root=updater.root.version, versions=updater.versions)
        if floor != self._floor:
            self._floor = store_floor(self._directory, floor)
        self._updater = updater
        changed, self._version = plans.version != self._version, plans.version
        return changed

    def components(self) -> tuple[str, ...]:
        """Give the components with a plan and releases by offline keys, sorted. Raises Untrusted: refresh first."""
        plans, updater = self._fresh()
        named = (component for path in plans if (component := layout.plan_component(path)) is not None)
        return tuple(sorted(each for each in named if updater.delegates(layout.release_role(each))))

    def plan(self, component: str) -> tuple[Plan, int]:
        """Give a component's plan and the plan version; fetches the plan's file if it is new.

        Raises:
            NotFound: if the component has no plan.
            ClockWrong: as `refresh`.
            Untrusted: if nothing fresh is known, or the plan has expired, lives too long or is another component's.
            Unreachable: if its file cannot be had.
        """
        plans, updater = self._fresh()
        described = plans.get(layout.plan_path(component))
        if described is None:
            raise NotFound(f"component {component} has no plan")
        if not updater.may_sign(layout.PLANS, described.path):
            raise Untrusted(f"the plans role may not sign {described.path}")
        try:
            plan = decode(Plan, self._target(described), "the plan")
        except BadInput as error:
            raise Untrusted(f"the plan of {component} does not hold: {error}") from None
        now = self.now()
        if plan.component != component:
            raise Untrusted(f"the plan of {component} speaks of {plan.component}; nothing advances")
        if plan.issued > now + CLOCK_TOLERANCE_S:
            raise Untrusted(f"the plan of {component} was issued {plan.issued - now} s in the future; check the clock")
        if plan.expires <= now:
            raise Untrusted(f"the plan of {component} has expired; nothing advances until there is a fresh one")
        self._time.saw(plan.issued)
        if plan.issued >= self._floor.high_water_s + HIGH_WATER_STEP_S:
            self._floor = store_floor(self._directory, replace(self._floor, high_water_s=plan.issued))
        return plan, self._version

    def release(self, component: str, candidate: Candidate) -> tuple[Manifest, ReleaseTerms]:
        """Give the release that a plan names, as the release keys signed it.

        The plan is signed by an online key, so it is not believed: the release role is asked, and all must agree.

        Raises:
            Untrusted: if path, sha256, length or seq are not what the release role says, or it is not there.
            Unreachable: if a file cannot be had.
            ClockWrong: as `refresh`.
        """
        _, updater = self._fresh()
        roles = {
            layout.release_path(component, candidate.seq): layout.release_role(component),
            layout.emergency_path(component, candidate.seq): layout.EMERGENCY,
        }
        path, role = candidate.path, roles.get(candidate.path, "")
        if not updater.may_sign(role, path):
            raise Untrusted(f"the plan of {component} names {candidate.path}, which is no release of its own")
        now = self.now()
        with typed(now):
            releases = updater.delegated(role)
        if releases.is_expired(moment(now)):
            raise Untrusted(f"the list of releases of {component} has expired; it has to be signed again")
        described = releases.targets.get(path)
        if described is None:
            raise Untrusted(sentence_of(releases, path))
        if (described.hashes, described.length) != ({"sha256": candidate.sha256}, candidate.length):
            raise Untrusted(f"the plan names another {path} than the release keys signed")
        try:
            terms = read_terms(described)
            manifest = decode(Manifest, self._target(described), "the manifest")
        except BadInput as error:
            raise Untrusted(f"the release {path} does not hold: {error}") from None
        if (manifest.component, manifest.seq, terms.seq) != (component, candidate.seq, candidate.seq):
            raise Untrusted(f"the release {path} is {manifest.component} seq {manifest.seq} by its own word")
        return manifest, terms

    def ledger_policy(self) -> LedgerPolicy | None:
        """Give what the signed targets demand of a release's place in the ledger. Raises Untrusted if it is unclear."""
        _, updater = self._fresh()
        try:
            return policy_of(updater.trunk)
        except BadInput as error:
            raise Untrusted(f"what the signed targets say of the ledger cannot be read: {error}") from None

    def promoted(self, component: str, candidate: Candidate) -> int:
        """Give the ceiling that the promotions key has given this very release, in parts of 2**32; 0 for none.

        Whatever does not hold is no promotion: the ceiling that the release keys signed stands.

        Raises:
            Unreachable: if the list cannot be had.
        """
        path = layout.promotion_path(component, candidate.seq)
        try:
            _, updater = self._fresh()
            if not updater.may_sign(layout.PROMOTIONS, path):
                return 0
            with typed(self._time.wall()):
                listed = updater.delegated(layout.PROMOTIONS)
            if path not in listed.targets or listed.is_expired(moment(self.now())):
                return 0
            found = read_promotion(listed.targets[path])
        except (Untrusted, BadInput):
            return 0
        mine = (found.component, found.seq, found.digest) == (component, candidate.seq, candidate.sha256)
        return found.ceiling_2p32 if mine else 0

    def refresh_stop(self, component: str) -> None:
        """Ask whether the release holders have stopped something; raises as `Statements.refresh`.

        It works without a fresh timestamp, snapshot or plan: root and targets that were once believed are enough.
        """
        self.stops.refresh(component)

    def stop(self, component: str) -> Stop | None:
        """Give the newest emergency stop that this device has seen, if it still counts under the keys of today.

        The file may also be put there by hand: `stops/<component>.json` in this client's directory.
        """
        return self.stops.get(component)

    def _trunk(self) -> Targets:
        """Give the newest targets metadata that this device keeps, verified anew under the newest root it knows."""
        if self._root is None:
            updater = DurableUpdater(self._metadata, self._root_bytes, Fetcher(_nothing), self._time.wall())
            with typed(self._time.wall()):
                updater.load_root()
            self._root = updater.root
        data = self._metadata / f"{layout.TARGETS}.json"
        found = parse(Targets, data.read_bytes() if data.exists() else b"", "the targets metadata kept here")
        verify(self._root, layout.TARGETS, found, "the targets metadata kept here")
        return found.signed

    def _fresh(self) -> tuple[dict[str, TargetFile], DurableUpdater]:
        """Give the plans' targets and what they were verified with, if all of it still counts at this moment."""
        if self._updater is None:
            raise Untrusted("nothing is known of the signed state yet; refresh first")
        now = self.now()
        with typed(now):
            plans = self._updater.delegated(layout.PLANS)
        for signed in [*self._updater.trunk_roles(), plans]:
            if signed.is_expired(moment(now)):
                raise Untrusted(f"the signed {signed.type} metadata has expired; nothing advances until a refresh")
        return plans.targets, self._updater

    def _target(self, described: TargetFile) -> bytes:
        """Give a target's bytes, from the cache or from the repository; only what has the signed digest."""
        digest = described.hashes.get("sha256", "")
        fit = (
            set(described.hashes) == {"sha256"} and _DIGEST.match(digest) and described.length <= layout.METADATA_LIMIT
        )
        if not fit:
            raise Untrusted(f"{described.path} must be named by SHA-256 and have at most {layout.METADATA_LIMIT} bytes")
        cached = self._cache / digest
        with contextlib.suppress(OSError):
            data = cached.read_bytes()
            if hashlib.sha256(data).hexdigest() == digest:
                return data
        with typed(self._time.wall()):
            url = f"targets/{layout.hashed_path(described.path, digest)}"
            data = self._fetcher.download_bytes(url, described.length)
        if len(data) != described.length or hashlib.sha256(data).hexdigest() != digest:
            raise Untrusted(f"{url} is not the file that was signed")
        write_durably(cached, data)
        self._trim_cache()
        return data

    def _trim_cache(self) -> None:
        for path in sorted(self._cache.iterdir(), key=lambda path: os.stat(path).st_mtime_ns)[:-CACHED_FILES]:
            path.unlink(missing_ok=True)


def _nothing(path: str, limit: int) -> bytes:
    """The network of a device that asks nobody."""
    raise FileNotFoundError(path)
