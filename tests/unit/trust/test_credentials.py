"""Credentials: what the protocol page says, vectors for other languages, and every way to change a request.

`python tests/unit/trust/test_credentials.py` writes the vectors anew, from the independent reading below.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.errors import BadInput, NotFound, Refused, Untrusted
from tidegate.trust.credentials import (
    DeviceClaim,
    DeviceSecrets,
    authorization,
    create_secrets,
    credential_device,
    load_secrets,
)

VECTORS = Path(__file__).resolve().parents[3] / "docs" / "vectors" / "credentials.json"
MASTERS = {1: bytes(range(32)), 2: bytes(range(32, 64))}
SECRETS = DeviceSecrets(MASTERS)
DEVICE = "00112233445566778899aabbccddeeff"


def by_the_book(master: bytes, epoch: int, index: int, device: str, seq: int, path: str, body: bytes) -> dict[str, Any]:
    """The protocol's words, read a second time."""

    def mac(key: bytes, *parts: bytes) -> str:
        return hmac.new(key, b"".join(len(p).to_bytes(4, "big") + p for p in parts), hashlib.sha256).hexdigest()

    words = [str(epoch).encode(), str(index).encode(), device.encode()]
    key = mac(master, b"tidegate/device-key/v1", *words)
    tag = mac(bytes.fromhex(key), b"tidegate/report/v1", path.encode(), *words, str(seq).encode(), body)
    return {
        "master": master.hex(),
        "credential": f"{epoch}.{index}.{device}.{key}",
        "seq": seq,
        "path": path,
        "body": body.decode(),
        "authorization": f"Tidegate {epoch}.{index}.{device}.{seq}.{tag}",
    }


def vectors() -> dict[str, Any]:
    requests = [
        (1, 0, "0" * 32, 0, "/v1/announce", b""),
        (1, 7, DEVICE, 1, "/v1/announce", b'{"rollout":"r1","plan_version":3,"installed":null,"seq":1,"attempt":1}'),
        (2, 8_499_999, DEVICE, 10**15, "/v1/reports", '{"reports":[],"note":"ä"}'.encode()),
    ]
    return {
        "about": "Device credentials, docs/protocol.md. HMAC-SHA256; every part of a MAC's input stands behind its "
        "length (4 bytes, big-endian); numbers are decimal text; bodies are UTF-8.",
        "requests": [by_the_book(MASTERS[e], e, i, d, s, p, b) for e, i, d, s, p, b in requests],
    }


def test_the_published_vectors_are_those_of_the_independent_reading() -> None:
    assert json.loads(VECTORS.read_text(encoding="utf-8")) == vectors()


@pytest.mark.parametrize("vector", vectors()["requests"])
def test_the_code_agrees_with_the_vectors(vector: dict[str, Any]) -> None:
    epoch, index, device, _ = vector["credential"].split(".")
    assert SECRETS.credential(int(epoch), int(index), device) == vector["credential"]
    body = vector["body"].encode()
    assert authorization(vector["credential"], vector["seq"], vector["path"], body) == vector["authorization"]
    claim = SECRETS.verify(vector["authorization"], vector["path"], body)
    assert claim == DeviceClaim(int(epoch), int(index), device, vector["seq"])


@given(st.integers(0, 10**9), st.integers(0, 10**17), st.text(max_size=30), st.binary(max_size=200))
def test_a_request_that_was_signed_is_believed(index: int, seq: int, path: str, body: bytes) -> None:
    credential = SECRETS.credential(1, index, DEVICE)
    assert credential_device(credential) == (index, DEVICE)
    assert SECRETS.verify(authorization(credential, seq, path, body), path, body) == DeviceClaim(1, index, DEVICE, seq)


HEADER = authorization(SECRETS.credential(1, 7, DEVICE), 5, "/v1/reports", b"body")


@pytest.mark.parametrize(
    ("header", "path", "body"),
    [
        (HEADER, "/v1/reports", b"other"),
        (HEADER, "/v1/announce", b"body"),
        (HEADER, "/v1/report", b"sbody"),
        (HEADER.replace(".5.", ".6."), "/v1/reports", b"body"),
        (HEADER.replace("1.7.", "1.8."), "/v1/reports", b"body"),
        (HEADER.replace("1.7.", "2.7."), "/v1/reports", b"body"),
        (HEADER.replace("1.7.", "3.7."), "/v1/reports", b"body"),
        (HEADER.replace("1.7.", "01.7."), "/v1/reports", b"body"),
        (HEADER.replace("ff.5", "fe.5"), "/v1/reports", b"body"),
        (HEADER[:-1] + ("0" if HEADER[-1] != "0" else "1"), "/v1/reports", b"body"),
        (HEADER + "\n", "/v1/reports", b"body"),
        (HEADER.upper(), "/v1/reports", b"body"),
        ("", "/v1/reports", b"body"),
        ("Tidegate 1.7." + DEVICE + ".5.", "/v1/reports", b"body"),
    ],
)
def test_whatever_is_changed_is_refused(header: str, path: str, body: bytes) -> None:
    assert SECRETS.verify(HEADER, "/v1/reports", b"body")
    with pytest.raises(Untrusted):
        SECRETS.verify(header, path, body)


def test_one_device_cannot_speak_for_another() -> None:
    mine = SECRETS.credential(1, 7, DEVICE)
    forged = mine.replace("1.7.", "1.8.")
    with pytest.raises(Untrusted, match="not made with this device's credential"):
        SECRETS.verify(authorization(forged, 1, "/v1/reports", b""), "/v1/reports", b"")


def test_a_retired_epoch_is_named() -> None:
    with pytest.raises(Untrusted, match="epoch 1 are no longer accepted"):
        DeviceSecrets({2: MASTERS[2]}).verify(HEADER, "/v1/reports", b"body")


def test_secrets_do_not_show(tmp_path: Path) -> None:
    assert "00010203" not in repr(SECRETS) and SECRETS.newest_epoch == 2
    with pytest.raises(BadInput) as caught:
        authorization("1.7." + DEVICE + ".secret", 1, "/", b"")
    assert "secret" not in str(caught.value)


def test_the_secret_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "online" / "device-secrets.json"
    made = create_secrets(path, MASTERS[1])
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_secrets(path).credential(1, 7, DEVICE) == made.credential(1, 7, DEVICE)
    with pytest.raises(Refused):
        create_secrets(path, MASTERS[2])
    with pytest.raises(NotFound):
        load_secrets(tmp_path / "absent")
    for wrong in ("[]", '{"1": 5}', '{"1": "00"}', "{}"):
        path.write_text(wrong)
        with pytest.raises(BadInput):
            load_secrets(path)


@pytest.mark.parametrize(
    ("epoch", "index", "device"),
    [(3, 1, DEVICE), (1, -1, DEVICE), (1, 1, "short"), (1, 1, "G" * 32), (1, 1, "a" * 200), (1, 1, "\u00e9" * 32)],
)
def test_no_credential_is_given_for_what_is_no_device(epoch: int, index: int, device: str) -> None:
    with pytest.raises(BadInput):
        SECRETS.credential(epoch, index, device)


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(vectors(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
