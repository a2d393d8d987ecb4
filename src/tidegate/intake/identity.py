"""Who a request is from: its credential, verified without a look-up; how often it asks; from how many places."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.control.devices import Claim
from tidegate.control.identities import flag_copy
from tidegate.core.errors import Refused
from tidegate.intake.http import authorization

if TYPE_CHECKING:
    from starlette.types import Scope

    from tidegate.intake.app import IntakeApp


class TooOften(Refused):
    """The device has used up its share of requests: HTTP 429."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"this device asks too often; ask again in {wait_s} s")
        self.wait_s = wait_s


class Epochs:
    """The epoch of the credential that each device used last, since this process began: a byte for each device."""

    def __init__(self) -> None:
        self._epochs = bytearray()

    def heard(self, index: int, epoch: int) -> None:
        """Note the epoch of a verified message; those beyond 255 count as 255."""
        if index >= len(self._epochs):
            self._epochs.extend(bytes(index + 1 - len(self._epochs)))
        self._epochs[index] = min(epoch, 255)

    def __len__(self) -> int:
        return len(self._epochs)

    def counts(self) -> dict[int, int]:
        """Give how many devices were heard in each epoch."""
        return {epoch: n for epoch in range(1, 256) if (n := self._epochs.count(epoch))}


def claim_of(app: IntakeApp, scope: Scope, body: bytes) -> Claim:
    """Verify the MAC over path and body.

    Raises:
        Untrusted: if the header is missing or the MAC does not hold.
        TooOften: if this device has asked too often; only who has its credential uses up its share.
    """
    known: tuple[Claim, int] | None = scope.get("tidegate.claim")  # set by our own code alone: a collector verified it
    if known is None:
        verified = app.secrets.verify(authorization(scope), scope["path"], body)
        if wait_s := app.limits.devices.wait_s(verified.index):
            raise TooOften(wait_s)
        known = Claim(verified.index, verified.device_id, verified.seq), verified.epoch
    claim, epoch = known
    if claim.index < len(app.controller.state.devices):  # an older log's device may say any number
        app.epochs.heard(claim.index, epoch)
    return claim


def copy_seen(app: IntakeApp, scope: Scope, claim: Claim, boot_id: str) -> str:
    """Say by what this message shows that the credential is in use in two places, or nothing."""
    return app.copies.see(claim.index, claim.seq, authorization(scope)[-64:], boot_id)


async def flag(app: IntakeApp, claim: Claim, seen: str) -> None:
    """Put it on record that a credential is in use in two places; its messages are refused from then on."""
    await app.controller.ask(lambda state, now_ms: flag_copy(state, now_ms, claim.index, claim.device_id, seen))
