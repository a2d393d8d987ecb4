"""What a collector sends to the active controller, and what it gets back: many devices' requests in one message."""

from __future__ import annotations

import msgspec

MOST_FORWARDED = 512
FORWARD_PATH = "/internal/v1/forward"


class Forwarded(msgspec.Struct, frozen=True, array_like=True):
    """One device's request. Its MAC has been verified where `index` is not negative."""

    path: str
    authorization: str
    body: bytes
    address: str = ""
    index: int = -1
    device_id: str = ""
    seq: int = 0
    epoch: int = 0


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """What the device is to be told."""

    status: int
    body: bytes
    content_type: bytes
    headers: dict[str, str]


encoder = msgspec.msgpack.Encoder()
forwarded = msgspec.msgpack.Decoder(list[Forwarded])
answered = msgspec.msgpack.Decoder(list[Answered])
