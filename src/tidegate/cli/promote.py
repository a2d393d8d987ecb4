"""`tidegate release promote`: lifts a release above its signed ceiling, with the promotions key."""

from __future__ import annotations

import time
from pathlib import Path

from tidegate.cli.office import OfficeClient
from tidegate.cli.passphrase import open_keys
from tidegate.cli.release_files import MANIFEST, Draft, read_share
from tidegate.cli.show import out
from tidegate.core.errors import BadInput, NotFound
from tidegate.core.wire import plain
from tidegate.trust.keys import key_path
from tidegate.trust.layout import PROMOTIONS
from tidegate.trust.promotion import Promotion, sign_promotion


def promote(
    release: str,
    /,
    *,
    to: str,
    component: str = "",
    offline_keys: Path | None = None,
    passphrase_file: Path | None = None,
    passphrase_fd: int | None = None,
    why: str = "",
    home: Path | None = None,
) -> None:
    """Lift a release above the ceiling that was signed in it, with the promotions key. Its speed limit stays.

    Args:
        release: The draft's directory; or a sequence number, with --component.
        to: The new ceiling, as in 50%.
        component: Whose release it is.
        offline_keys: The directory with the promotions key; default: HOME-offline-keys.
        passphrase_file: Read the key's passphrase from a file instead of asking for it.
        passphrase_fd: Read it from an open file descriptor.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    office = OfficeClient(home)
    known = office.get("/api/v1/releases")["releases"]
    if Path(release, MANIFEST).exists():
        digest = Draft.load(Path(release)).digest
        found = [r for r in known if r["digest"] == digest]
    else:
        found = [r for r in known if str(r["seq"]) == release and r["component"] == component]
    if not found:
        raise NotFound(f"no release {release} of {component or 'that draft'} is in the log; see tidegate release list")
    one = found[0]
    ceiling = read_share("--to", to)
    try:
        promotion = Promotion(one["component"], one["seq"], one["digest"], ceiling, int(time.time()))
    except ValueError as error:
        raise BadInput(str(error)) from error
    keys = offline_keys or office.place.path.with_name(office.place.path.name + "-offline-keys")
    signers = open_keys([key_path(keys, PROMOTIONS)], passphrase_file, passphrase_fd)
    signed = sign_promotion(office.get_bytes(f"/api/v1/roles/{PROMOTIONS}"), promotion, signers, promotion.signed)
    office.post("/api/v1/promotions", {"promotion": plain(promotion), "promotions": signed.decode()}, why)
    out(
        f"Release {one['seq']} of {one['component']} may reach {to} of the devices, as fast as its speed limit lets it."
    )
