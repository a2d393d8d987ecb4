"""Golden vectors of who goes when and with which arm, made with hashlib and whole numbers, and nothing of ours.

`python -m tests.assign_vectors` writes docs/vectors/assign.json anew; tests/unit/test_core_assign.py holds the code
against it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[1] / "docs" / "vectors" / "assign.json"
WORD = 2**64
DEVICES = [
    "00" * 16,
    "ff" * 16,
    "000102030405060708090a0b0c0d0e0f",
    "00112233445566778899aabbccddeeff",
    "80" + "00" * 15,
]
SALTS = ["00" * 16, "ff" * 16, "0123456789abcdeffedcba9876543210", "8000000000000000" + "0000000000000001"]
SECRETS = [("00" * 32, "r1", 0), ("00" * 32, "r1", 1), ("00" * 32, "r1", 2), ("5a" * 32, "edr-rules-a1b2c3", 7)]


def scattered(word: int) -> int:
    """SplitMix64's finaliser, with division and remainder in place of shifts and masks."""
    word ^= word // 2**30
    word = word * 13787848793156543929 % WORD
    word ^= word // 2**27
    word = word * 10723151780598845931 % WORD
    return word ^ word // 2**31


def key_of(device_id: str) -> int:
    return int(hashlib.sha256(bytes.fromhex(device_id)).hexdigest()[:16], 16)


def hashed(salt: str, key: int) -> int:
    return scattered(scattered(key ^ int(salt[:16], 16)) ^ int(salt[16:], 16))


def vectors() -> dict[str, Any]:
    keys = {device_id: key_of(device_id) for device_id in DEVICES}
    words = [0, 1, 2, WORD // 2, WORD - 1, 0x9E3779B97F4A7C15, *keys.values()]
    rings = []
    for secret, rollout, ring in SECRETS:
        message = b"tidegate/arm/v1/" + rollout.encode() + b"/" + str(ring).encode()
        salt = hmac.digest(bytes.fromhex(secret), message, "sha256").hex()[:32]
        commit = hashlib.sha256(b"tidegate/arm-commit/v1/" + bytes.fromhex(salt)).hexdigest()
        order = sorted(DEVICES, key=lambda device_id, salt=salt: hashed(salt, keys[device_id]))
        rings.append(
            {
                "arm_secret": secret,
                "rollout": rollout,
                "ring": ring,
                "arm_salt": salt,
                "arm_commit": commit,
                "devices_in_arm_order": order,
            }
        )
    return {
        "about": "Who goes when, and with which arm: docs/protocol.md. Words of 64 bits are 16 hexadecimal digits.",
        "device_key": [{"device_id": device_id, "key": f"{key:016x}"} for device_id, key in keys.items()],
        "mix64": [{"word": f"{word:016x}", "mixed": f"{scattered(word):016x}"} for word in words],
        "hash64": [
            {"salt": salt, "key": f"{key:016x}", "hash": f"{hashed(salt, key):016x}"}
            for salt in SALTS
            for key in (0, WORD - 1, *keys.values())
        ],
        "rings": rings,
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=2) + "\n")
