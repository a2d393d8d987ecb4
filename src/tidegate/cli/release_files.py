"""A release on disk before it is logged: packed, described, and signed with offline keys."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import Signer

from tidegate.cli.show import seconds_of
from tidegate.core.assign import SALT_BYTES, SHARE_ONE
from tidegate.core.errors import BadInput, NotFound
from tidegate.core.model import Health, Manifest, ReleaseTerms, SpeedLimit
from tidegate.core.wire import decode, encode
from tidegate.trust.durable import make_directory, write_durably
from tidegate.trust.keys import load_signers
from tidegate.trust.payload import describe_payload, pack_payload, verify_payload
from tidegate.trust.release import continues, sign_release

USUAL_SPEED, URGENT_SPEED = "0s:0.1%,1h:1%,4h:10%,24h:100%", "0s:1%,15m:10%,1h:100%"
LEAST_DEVICES = 16
MANIFEST, PAYLOAD, SIGNED = "manifest.json", "payload.tar", "releases.json"


@dataclass(frozen=True, slots=True)
class Draft:
    """A release that is packed and described, but not signed."""

    manifest: Manifest
    manifest_bytes: bytes
    payload: bytes

    @property
    def digest(self) -> str:
        """The release's digest: SHA-256 of its manifest."""
        return hashlib.sha256(self.manifest_bytes).hexdigest()

    @classmethod
    def load(cls, directory: Path) -> Draft:
        """Read what `create_draft` wrote; the payload must be the one that the manifest names.

        Raises:
            NotFound, BadInput, Untrusted.
        """
        try:
            data = (directory / MANIFEST).read_bytes()
        except OSError as error:
            raise NotFound(f"{directory} holds no release; make one: tidegate release create") from error
        manifest = decode(Manifest, data, str(directory / MANIFEST))
        if encode(manifest) != data:
            raise BadInput(f"{directory / MANIFEST} is not as it was written; create the release anew")
        verify_payload(directory / PAYLOAD, manifest.payload)
        return cls(manifest, data, (directory / PAYLOAD).read_bytes())


def create_draft(
    source: Path,
    directory: Path,
    *,
    component: str,
    version: str,
    seq: int,
    driver: str,
    health: Health,
    replaces: tuple[str, ...] = ("any", "absent"),
    activate: tuple[str, ...] = (),
    deactivate: tuple[str, ...] = (),
    notes: str = "",
    look: Callable[[Path, Manifest], None] | None = None,
) -> Draft:
    """Pack a directory and describe it. Raises BadInput for what cannot be a release; then nothing is written.

    `look`: may refuse the content, too.
    """
    payload = pack_payload(source)
    try:
        manifest = Manifest(
            component=component,
            version=version,
            seq=seq,
            driver=driver,
            payload=describe_payload(payload),
            health=health,
            replaces=replaces,
            activate=activate,
            deactivate=deactivate,
            notes=notes,
        )
    except ValueError as error:
        raise BadInput(str(error)) from error
    if look is not None:
        look(source, manifest)
    draft = Draft(manifest, encode(manifest), payload)
    make_directory(directory)
    write_durably(directory / PAYLOAD, draft.payload)
    write_durably(directory / MANIFEST, draft.manifest_bytes)
    return draft


@dataclass(frozen=True, slots=True)
class SpeedOptions:
    """The speed limit as an operator says it."""

    steps: tuple[tuple[int, int], ...]
    ceiling_2p32: int
    dwell_s: int
    not_after_s: int
    least_devices: int
    fleet_devices: int = 1
    clock_slack_s: int = 120

    @classmethod
    def for_trial(cls, not_after_s: int) -> SpeedOptions:
        """Trial values: everyone within six seconds, so that a demonstration fits a minute."""
        steps = ((0, SHARE_ONE // 4), (3, SHARE_ONE // 2), (6, SHARE_ONE))
        return cls(steps, SHARE_ONE, 0, not_after_s, least_devices=0, clock_slack_s=0)


def read_speed(text: str) -> tuple[tuple[int, int], ...]:
    """Read AGE:SHARE steps, as in 0s:0.1%,1h:10%,24h:100%. Raises BadInput."""
    steps: list[tuple[int, int]] = []
    for entry in text.split(","):
        age, colon, share = entry.strip().partition(":")
        try:
            percent = float(share.removesuffix("%"))
        except ValueError:
            percent = -1.0
        if not colon or not share.endswith("%") or not 0 <= percent <= 100:
            raise BadInput(f"a speed limit has steps as in 1h:10%, not {entry.strip()!r}")
        steps.append((seconds_of("a step's age", age), round(percent / 100 * SHARE_ONE)))
    return tuple(steps)


def read_share(what: str, text: str) -> int:
    """Read a share as in 50%, in parts of 2**32. Raises BadInput."""
    try:
        return read_speed(f"0s:{text}")[0][1]
    except BadInput:
        raise BadInput(f"{what} must be a share as in 50%, not {text!r}") from None


def sign_draft(
    draft: Draft,
    newest: bytes,
    offline_keys: Path,
    options: SpeedOptions,
    signers: Sequence[Signer] = (),
    *,
    emergency: bool = False,
) -> bytes:
    """Sign a draft upon the component's newest list of releases; the order of exposure is drawn here.

    Args:
        draft: what to sign.
        newest: the newest `releases-<component>` metadata; of an urgent release the newest `emergency` metadata.
        offline_keys: the directory with the release keys, unless `signers` are given.
        options: the speed limit.
        signers: release keys that are open already.
        emergency: it is urgent, and all release holders sign.

    Raises:
        BadInput: for a speed limit that cannot be.
        NotFound: where there are no release keys.
        Refused: if its sequence number is not higher than all before.
    """
    now = int(time.time())
    try:
        speed = SpeedLimit(
            steps=options.steps,
            logged=now,
            not_after=now + options.not_after_s,
            ceiling_2p32=options.ceiling_2p32,
            dwell_s=options.dwell_s,
            clock_slack_s=options.clock_slack_s,
            least_devices=options.least_devices,
            fleet_devices=options.fleet_devices,
        )
    except ValueError as error:
        raise BadInput(str(error)) from error
    terms = ReleaseTerms(seq=draft.manifest.seq, order_salt=secrets.token_hex(SALT_BYTES), speed=speed)
    signers = signers or load_signers(offline_keys, "release")
    return sign_release(newest, draft.manifest, terms, signers, now, emergency=emergency)


def already_signed(directory: Path, draft: Draft, newest: bytes) -> bool:
    """Say whether what lies signed in a draft's directory is this very release, upon the newest list or in it already.

    A lost answer then costs no sequence number: the same bytes are handed in again.
    """
    path = directory / SIGNED
    if not path.exists():
        return False
    return continues(path.read_bytes(), newest, draft.manifest, draft.digest)


def read_signed(directory: Path) -> bytes:
    """Read what `tidegate release sign` has signed. Raises NotFound."""
    try:
        return (directory / SIGNED).read_bytes()
    except OSError as error:
        raise NotFound(f"{directory} is not signed yet; sign it: tidegate release sign {directory}") from error
