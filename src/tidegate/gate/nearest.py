"""The nearest place to look at where nothing names a line: where two files part, where a packed one breaks off."""

from __future__ import annotations

import tarfile
import zlib
from contextlib import suppress
from pathlib import Path

CVD_HEAD = 512
_PACKED = (".cvd", ".cld", ".cud")
_BINARY_BYTES = 4096
_PIECE = 1 << 16
_BLOCK = 512


def parting(before: Path, after: Path) -> tuple[int, int]:
    """Give (line, byte) at which a file goes on in another way than it did before; line 0 where it is no text.

    A file that was not there before parts at its first line.
    """
    new = after.read_bytes()
    old = before.read_bytes() if before.is_file() else b""
    at = next((n for n in range(0, min(len(old), len(new)), _PIECE) if old[n : n + _PIECE] != new[n : n + _PIECE]), -1)
    start = at if at >= 0 else min(len(old), len(new))
    pairs = zip(old[start : start + _PIECE], new[start : start + _PIECE], strict=False)
    byte = start + next((n for n, (one, other) in enumerate(pairs) if one != other), 0)
    if at >= 0 and old[byte : byte + 1] == new[byte : byte + 1]:
        byte = min(len(old), len(new))  # the one goes on where the other ends
    line = 0 if b"\0" in new[:_BINARY_BYTES] else min(new.count(b"\n", 0, byte) + 1, max(len(new.splitlines()), 1))
    return line, byte


def broken_at(path: Path) -> str:
    """Say where a packed database of ClamAV's breaks off; "" if it is none, or whole."""
    if path.suffix.lower() not in _PACKED or not path.is_file():
        return ""
    data = path.read_bytes()
    if not data.startswith(b"ClamAV-VDB:"):
        return f"{path.name} has no header of ClamAV's at byte 0"
    if len(data) < CVD_HEAD:
        return f"{path.name} ends at byte {len(data):,}, within its header of {CVD_HEAD} bytes"
    packed = data[CVD_HEAD:]
    unpacker = zlib.decompressobj(wbits=31) if packed.startswith(b"\x1f\x8b") else None
    plain, used = packed, len(packed)
    if unpacker is not None:
        plain, used = _unpacked(unpacker, packed)
        if unpacker.eof:
            used = len(packed)
    number, name, whole = _member(plain)
    if whole and (unpacker is None or unpacker.eof):
        return ""
    return f"{path.name} breaks off at byte {CVD_HEAD + used:,}, in file {number} of those packed in it ({name})"


def _unpacked(unpacker: zlib._Decompress, packed: bytes) -> tuple[bytes, int]:
    """Give what can be unpacked, and how many bytes of the packed that took."""
    plain, used = bytearray(), 0
    with suppress(zlib.error):
        for start in range(0, len(packed), _BLOCK):
            plain += unpacker.decompress(packed[start : start + _BLOCK])
            used = min(start + _BLOCK, len(packed))
            if unpacker.eof:
                break
    return bytes(plain), used


def _member(plain: bytes) -> tuple[int, str, bool]:
    """Give number and name of the last file that begins in an archive, and whether it ends there as well."""
    at, number, name = 0, 0, "none"
    while at + _BLOCK <= len(plain):
        block = plain[at : at + _BLOCK]
        if not any(block):
            return number, name, True
        try:
            member = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
        except tarfile.HeaderError:
            return number + 1, "no header", False
        number, name = number + 1, member.name
        at += _BLOCK + -(-member.size // _BLOCK) * _BLOCK
    return number, name, False
