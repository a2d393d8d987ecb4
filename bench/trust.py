"""What trust costs on the path that grows with the fleet: a report's credential, an idle refresh, a new edition."""

# The library re-exports these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import hmac
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.unit.trust.conftest import House
from tuf.api.metadata import Metadata, Root

from bench.rows import Row
from tidegate.core.wire import encode
from tidegate.trust.credentials import DeviceSecrets, authorization
from tidegate.trust.fence import Pen
from tidegate.trust.keys import key_path, load_signer, load_signers
from tidegate.trust.publisher import Publisher

DEVICE = "0123456789abcdef0123456789abcdef"


def _us(do: Callable[[], object], times: int) -> float:
    """Give the least of five means, in microseconds of this process's CPU."""
    least = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(times):
            do()
        least = min(least, (time.process_time() - began) / times)
    return least * 1e6


def _report() -> Row:
    master, body = bytes(range(32)), b"x" * 300
    secrets = DeviceSecrets({1: master})
    header = authorization(secrets.credential(1, 7, DEVICE), 5, "/v1/reports", body)
    whole = _us(lambda: secrets.verify(header, "/v1/reports", body), 2000)
    return Row("a report's credential verified", whole, "us", "HMAC alone", _us(lambda: _mac(master, body), 2000))


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")


def _refresh(house: House) -> Row:
    device, _ = house.device()
    device.refresh()
    root = Metadata[Root].from_bytes(house.root)
    data = root.signed_bytes
    signature = load_signers(house.offline, "root")[0].sign(data)
    key = root.signed.keys[signature.keyid]
    verify = _us(lambda: key.verify_signature(signature, data), 50)
    return Row("a device's refresh that finds nothing new", _us(device.refresh, 20), "us", "one signature read", verify)


class _NoPen(Pen):
    """Writes nothing: what is measured is the signing."""

    def put(self, path: Path, data: bytes) -> None: ...

    def put_new(self, path: Path, data: bytes) -> None: ...

    def put_forward(self, path: Path, data: bytes, number: int, number_of: Callable[[bytes], int]) -> None: ...


def _edition(house: House) -> Row:
    """Without fsync; it holds three signatures."""
    publisher = Publisher(house.repo, house.online, pen=_NoPen())
    plan = encode(house.plan(house.candidate(house.release(2))))
    bare = load_signer(key_path(house.online, "plans"))
    sign = _us(lambda: bare.sign(plan), 50)
    edition = _us(lambda: publisher.publish({house.component: plan}, house.now), 20)
    return Row("a new edition of the repository signed", edition, "us", "one signature made", sign)


def rows(full: bool = False, write: bool = False) -> list[Row]:
    with tempfile.TemporaryDirectory() as held:
        house = House(Path(held))
        house.publish(house.plan(house.candidate(house.release(1))))
        return [_report(), _refresh(house), _edition(house)]
