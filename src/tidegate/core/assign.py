"""A device's place in the order of exposure and its arm: the same code for one device and for 8.5 million."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:  # the agent imports this file and must not load NumPy
    import numpy as np
    import numpy.typing as npt

U64 = TypeVar("U64", "int", "npt.NDArray[np.uint64]")

SALT_BYTES = 16
SHARE_ONE = 1 << 32
"""A share of one, in parts of 2**32: metadata that is signed holds no floats."""
RANK_END = 1 << 64

_MASK = (1 << 64) - 1


def device_key(device_id: str) -> int:
    """Give a device's key: the first 8 bytes of SHA-256(device_id), big-endian.

    Args:
        device_id: 32 hexadecimal digits, given by the server; the 16 bytes behind them are hashed.

    Raises:
        ValueError: if it is not 32 hexadecimal digits.
    """
    raw = bytes.fromhex(device_id)
    if len(raw) != 16:
        raise ValueError(f"device_id must have 32 hexadecimal digits, not {device_id!r}")
    return int.from_bytes(hashlib.sha256(raw).digest()[:8], "big")


def mix64(x: U64) -> U64:
    """Scatter 64-bit words so that each input bit flips half of the output bits.

    Args:
        x: words in [0, 2**64): one int, or a uint64 array of shape (n,).

    Returns:
        Words of the same kind and shape.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014), with Stafford's
    thirteenth mixer.
    """
    word: Any = x  # the checker cannot follow one expression through both kinds
    word = word ^ (word >> 30)
    word = (word * 0xBF58476D1CE4E5B9) & _MASK
    word = word ^ (word >> 27)
    word = (word * 0x94D049BB133111EB) & _MASK
    return cast("U64", word ^ (word >> 31))


def hash64(salt: bytes, key: U64) -> U64:
    """Hash device keys under a salt: `mix64(mix64(key ^ s0) ^ s1)`, s0 and s1 the big-endian halves of the salt.

    Args:
        salt: 16 bytes.
        key: device keys: one int, or a uint64 array of shape (n,).

    Returns:
        Words in [0, 2**64), uniform over devices for a random salt; same kind and shape as `key`.

    Raises:
        ValueError: if the salt does not have 16 bytes.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt must have {SALT_BYTES} bytes, not {len(salt)}")
    high = int.from_bytes(salt[:8], "big")
    low = int.from_bytes(salt[8:], "big")
    word: Any = key
    return cast("U64", mix64(mix64(word ^ high) ^ low))


def rank(order_salt: bytes, key: U64) -> U64:
    """Place devices in the order of exposure: the lowest ranks go first.

    The salt is drawn when a release is signed, so that no online server can choose who goes first.
    Arguments, result and errors are those of `hash64`.
    """
    return hash64(order_salt, key)


def arm_order(arm_salt: bytes, key: U64) -> U64:
    """Order the members of one ring for their arms: the lowest are treated, the rest are placebo.

    An order and not a threshold, so that the number of treated devices in a ring is exact.
    Arguments, result and errors are those of `hash64`.
    """
    return hash64(arm_salt, key)


def ring_arm_salt(arm_secret: bytes, rollout: str, ring: int) -> bytes:
    """Derive the secret salt of one ring, which is shown when that ring closes and tells nothing of the others."""
    message = f"tidegate/arm/v1/{rollout}/{ring}".encode()
    return hmac.new(arm_secret, message, hashlib.sha256).digest()[:SALT_BYTES]


def arm_commit(arm_salt: bytes) -> str:
    """Give the commitment to a ring's arm salt that the plan carries: SHA-256 in hexadecimal."""
    return hashlib.sha256(b"tidegate/arm-commit/v1/" + arm_salt).hexdigest()


def within_share(rank_of_device: int, share_2p32: int) -> bool:
    """Say whether a rank lies within the first `share_2p32` parts of 2**32 of the order; exact at 0 and at one."""
    return rank_of_device < share_2p32 << 32


def rank_text(value: int) -> str:
    """Write a rank as 16 hexadecimal digits, since JSON numbers do not hold 64 bits everywhere."""
    return f"{value:016x}"
