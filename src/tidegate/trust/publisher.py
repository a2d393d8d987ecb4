"""The server's pen: plans, snapshot and timestamp under online keys, written so that no crash misleads a device."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from tidegate.core.errors import BadInput, NotFound
from tidegate.trust import layout
from tidegate.trust.durable import make_directory, sweep_temporary, sync_dir
from tidegate.trust.fence import Overtaken, Pen
from tidegate.trust.keys import online_signer
from tidegate.trust.metadata import latest_bytes, latest_versions, moment, parse, sign, target, versioned

KEEP_EDITIONS = 4
KEEP_S = 600
"""Files of older editions stay for readers who are in the middle of one, and for caches."""


class Publisher:
    """The only writer of plans, snapshot and timestamp of a repository.

    The three share one version number, the edition. Snapshot and plans are durable before a timestamp names them, so
    the next number after a crash follows from the files: an edition that some device may have seen is never signed
    again with other content. One Publisher per repository at a time; one that was paused while another took its place
    changes nothing more that devices can see, at whatever step it wakes up.

    Args:
        repo: the repository.
        online: the directory with the keys `plans`, `snapshot` and `timestamp`.
        pen: how files are put in place; tests cut the power here.

    Raises:
        NotFound: if there is no such repository or key.
        Untrusted: if the keys are not those that root and targets name.
    """

    def __init__(self, repo: Path, online: Path, *, pen: Pen | None = None) -> None:
        self._repo = repo
        self._pen = pen or Pen()
        self._online = online
        self._signers = _load_signers(repo, online)
        self._trunk = _trunk_versions(latest_versions(repo))
        make_directory(layout.targets_dir(repo) / "plans")
        for directory in (layout.metadata_dir(repo), layout.targets_dir(repo) / "plans"):
            sweep_temporary(directory)
            # A process that died between a rename and its sync left a name that a power cut could still take away.
            sync_dir(directory)
        self._recover()

    @property
    def version(self) -> int:
        """The plan version that devices can read now: the plans role's TUF version. 0 before the first."""
        return self._published

    @property
    def next_version(self) -> int:
        """The plan version that the next publication will have, so that it can be on record before it is written."""
        return self._edition + 1

    def catch_up(self) -> None:
        """Read the repository again, and go on behind the newest edition, whoever signed it."""
        self._recover()

    def leave_out(self, editions: int) -> None:
        """Use none of the next numbers: after a restore devices may have seen what this repository does not know."""
        self._edition += editions

    def publish(self, plans: Mapping[str, bytes], now: int) -> int:
        """Make this the whole set of plans; a component that is not named has none any more.

        Newly accepted releases and targets become visible as well.

        Args:
            plans: component -> plan file.
            now: unix seconds.

        Returns:
            The plan version, which is the fence. When it is returned all is durable.

        Raises:
            BadInput: if a component is not known or a plan is too large. Nothing has been written.
            Overtaken: if somebody else has signed an edition that this publisher did not. Devices see nothing of this.
        """
        known = latest_versions(self._repo)
        for component, data in plans.items():
            if layout.release_role(component) not in known:
                raise BadInput(f"component {component} is not in this repository; add it before it gets a plan")
            if len(data) > layout.METADATA_LIMIT:
                raise BadInput(f"the plan of {component} has {len(data)} bytes; at most {layout.METADATA_LIMIT}")
        described = {layout.plan_path(c): target(layout.plan_path(c), data) for c, data in plans.items()}
        for component, data in plans.items():
            path = self._target_file(described[layout.plan_path(component)])
            if not path.exists():
                self._pen.put(path, data)
        return self._sign_edition(described, known, now)

    def refresh(self, now: int) -> int | None:
        """Sign the same plans again if a signature has used up half of its life. Call it every few minutes.

        Returns the new plan version, or None if nothing was due.
        """
        ages_s = now - self._signed_at
        if self._published and 0 <= ages_s < min(layout.PLANS_LIFETIME_S, layout.TIMESTAMP_LIFETIME_S) // 2:
            return None
        return self._sign_edition(self._plans, latest_versions(self._repo), now)

    def _sign_edition(self, plans: Mapping[str, TargetFile], known: Mapping[str, int], now: int) -> int:
        if _trunk_versions(known) != self._trunk:  # root or targets may name other online keys now
            self._signers = _load_signers(self._repo, self._online)
            self._trunk = _trunk_versions(known)
        if known.get(layout.PLANS, 0) > self._edition:
            raise Overtaken(
                f"edition {known[layout.PLANS]} of the plans was signed by another controller; this one stops"
            )
        edition = self._edition + 1
        signed_plans = Targets(edition, None, moment(now, layout.PLANS_LIFETIME_S), dict(plans))
        roles = {role: version for role, version in known.items() if role not in (layout.ROOT, layout.SNAPSHOT)}
        roles[layout.PLANS] = edition
        meta = {f"{role}.json": MetaFile(version) for role, version in sorted(roles.items())}
        snapshot = Snapshot(edition, None, moment(now, layout.SNAPSHOT_LIFETIME_S), meta)
        timestamp = Timestamp(edition, None, moment(now, layout.TIMESTAMP_LIFETIME_S), MetaFile(edition))
        plans_bytes = sign(Metadata(signed_plans), [self._signers[layout.PLANS]])
        snapshot_bytes = sign(Metadata(snapshot), [self._signers[layout.SNAPSHOT]])
        timestamp_bytes = sign(Metadata(timestamp), [self._signers[layout.TIMESTAMP]])
        # The first of them takes the number: nobody else gets it any more.
        first = versioned(self._repo, layout.PLANS, edition)
        try:
            self._pen.put_new(first, plans_bytes)
        finally:  # counted even if the write fails, unless the number stands in no file
            if _may_stand(first):
                self._edition = edition
        self._pen.put_new(versioned(self._repo, layout.SNAPSHOT, edition), snapshot_bytes)
        self._pen.put_forward(self._timestamp_file, timestamp_bytes, edition, _edition_of)
        self._plans, self._published, self._signed_at = dict(plans), edition, now
        self._kept[edition] = (now, {self._target_file(plan) for plan in plans.values()})
        self._clean(now)
        return edition

    def _recover(self) -> None:
        """Find the highest edition on disk, and the plans of the one that the timestamp names."""
        latest = latest_versions(self._repo)
        self._plans: dict[str, TargetFile] = {}
        self._published = self._signed_at = 0
        if self._timestamp_file.exists():
            timestamp = self._standing_timestamp()
            self._published = timestamp.snapshot_meta.version
            self._plans = self._plans_of(self._published)
            self._signed_at = int(timestamp.expires.timestamp()) - layout.TIMESTAMP_LIFETIME_S
        self._edition = max(self._published, latest.get(layout.PLANS, 0), latest.get(layout.SNAPSHOT, 0))
        self._kept: dict[int, tuple[int, set[Path]]] = {}
        for path in layout.metadata_dir(self._repo).glob(f"*.{layout.PLANS}.json"):
            edition = int(path.name.split(".")[0])
            files = {self._target_file(plan) for plan in self._plans_of(edition).values()}
            self._kept[edition] = (self._signed_at, files)

    def _standing_timestamp(self) -> Timestamp:
        try:
            return parse(Timestamp, self._timestamp_file.read_bytes(), "the timestamp").signed
        except BadInput as error:  # editions are numbered by the other files too, so it can be done without
            way_out = f"remove {self._timestamp_file} and start again: the next one is signed at once"
            raise BadInput(f"{error}; {way_out}") from None

    def _clean(self, now: int) -> None:
        """Remove editions that nobody can be reading any more, and plan files that no kept edition names."""
        old = sorted(self._kept)[:-KEEP_EDITIONS]
        gone = [edition for edition in old if self._kept[edition][0] + KEEP_S < now]
        if not gone:
            return
        files: set[Path] = set()
        for edition in gone:
            files |= self._kept.pop(edition)[1]
            versioned(self._repo, layout.SNAPSHOT, edition).unlink(missing_ok=True)
            versioned(self._repo, layout.PLANS, edition).unlink(missing_ok=True)
        for path in files.difference(*(kept for _, kept in self._kept.values())):
            path.unlink(missing_ok=True)

    def _plans_of(self, edition: int) -> dict[str, TargetFile]:
        data = versioned(self._repo, layout.PLANS, edition).read_bytes()
        return parse(Targets, data, f"plans version {edition}").signed.targets

    def _target_file(self, plan: TargetFile) -> Path:
        return layout.targets_dir(self._repo) / layout.hashed_path(plan.path, plan.hashes["sha256"])

    @property
    def _timestamp_file(self) -> Path:
        return layout.metadata_dir(self._repo) / f"{layout.TIMESTAMP}.json"


def _may_stand(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _edition_of(timestamp: bytes) -> int:
    try:
        return parse(Timestamp, timestamp, "the timestamp").signed.version
    except BadInput:  # damaged: devices cannot have read it
        return 0


def _load_signers(repo: Path, online: Path) -> dict[str, CryptoSigner]:
    root = parse(Root, latest_bytes(repo, layout.ROOT), "the root metadata").signed
    targets = parse(Targets, latest_bytes(repo, layout.TARGETS), "the targets metadata").signed
    found: dict[str, CryptoSigner] = {}
    for role in (layout.PLANS, layout.SNAPSHOT, layout.TIMESTAMP):
        delegator = targets if role == layout.PLANS else root
        try:
            allowed = delegator.get_delegated_role(role).keyids
        except ValueError:
            raise NotFound(f"the repository at {repo} has no role {role}") from None
        found[role] = online_signer(online, role, allowed)
    return found


def _trunk_versions(known: Mapping[str, int]) -> tuple[int, int]:
    return known.get(layout.ROOT, 0), known.get(layout.TARGETS, 0)
