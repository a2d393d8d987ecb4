"""Who a request is from: its credential, verified without looking anything up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.control.devices import Claim
from tidegate.intake.http import header

if TYPE_CHECKING:
    from starlette.types import Scope

    from tidegate.intake.app import IntakeApp


def claim_of(app: IntakeApp, scope: Scope, body: bytes) -> Claim:
    """Verify the MAC over path and body.

    Raises:
        Untrusted: if the header is missing or the MAC does not hold.
    """
    verified = app.secrets.verify(header(scope, b"authorization"), scope["path"], body)
    return Claim(verified.index, verified.device_id, verified.seq)
