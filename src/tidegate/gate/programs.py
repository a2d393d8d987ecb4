"""Programs of other systems that do nothing: for Windows (plain, signed, managed), Linux and Android.

They are made, always the same bytes. Layouts: Microsoft's PE format, ECMA-335 II.24 and II.25 (managed), RFC 5652 with
Microsoft's Authenticode (signed), the System V ELF and Android's DEX formats.
"""

from __future__ import annotations

import hashlib
import struct
import zlib

_STUB = b"This program cannot be run in DOS mode.\r\r\n$"
_CODE = bytes.fromhex("554889e54883ec20c745fc00000000eb0a8b45fc83c0018945fc837dfc097ef0b8000000004883c4205dc3")
_PE, _OPTIONAL, _DATA, _DATA_ADDRESS = 0x80, 24, 1024, 0x2000
_SECURITY, _CLI = 4, 14
_SHA256, _RSA, _SPC = "2.16.840.1.101.3.4.2.1", "1.2.840.113549.1.1.1", "1.3.6.1.4.1.311.2.1"
_SEQUENCE, _SET, _INTEGER, _BITS, _OCTETS, _NULL, _OID, _UTF8, _TIME = 0x30, 0x31, 2, 3, 4, 5, 6, 12, 23


def windows_program(machine: int = 0x14C, characteristics: int = 0x102, subsystem: int = 3) -> bytes:
    """Write a Windows program of two sections that does nothing."""
    wide = machine != 0x14C
    optional = struct.pack("<HBBIIIII", 0x20B if wide else 0x10B, 14, 0, 512, 512, 0, 0x1000, 0x1000)
    optional += struct.pack("<Q", 0x140000000) if wide else struct.pack("<II", _DATA_ADDRESS, 0x400000)
    optional += struct.pack("<IIHHHHHHIIIIHH", 0x1000, 512, 6, 0, 0, 0, 6, 0, 0, 0x3000, 512, 0, subsystem, 0x160)
    optional += struct.pack("<QQQQ" if wide else "<IIII", 1 << 20, 4096, 1 << 20, 4096) + struct.pack("<II", 0, 16)
    optional += bytes(16 * 8)
    head = b"MZ" + struct.pack("<13H", 0x90, 3, 0, 4, 0, 0xFFFF, 0, 0xB8, 0, 0, 0, 0x40, 0) + bytes(32)
    head += struct.pack("<I", _PE) + bytes.fromhex("0e1fba0e00b409cd21b8014ccd21") + _STUB
    head = head.ljust(_PE, b"\0") + b"PE\0\0"
    head += struct.pack("<HHIIIHH", machine, 2, 0x5F000000, 0, 0, len(optional), characteristics) + optional
    sections = ((b".text", 0x1000, 512, 0x60000020), (b".rdata", _DATA_ADDRESS, _DATA, 0x40000040))
    for name, address, place, flags in sections:
        head += struct.pack("<8sIIIIIIHHI", name, 512, address, 512, place, 0, 0, 0, 0, flags)
    return head.ljust(512, b"\0") + _CODE.ljust(512, b"\xcc") + b"High water at noon.\r\n".ljust(512, b"\0")


def _directory(program: bytes | bytearray, number: int) -> int:
    """Give where a PE program's header has a data directory."""
    wide = struct.unpack_from("<H", program, _PE + _OPTIONAL)[0] == 0x20B
    return _PE + _OPTIONAL + (112 if wide else 96) + 8 * number


def managed_program() -> bytes:
    """Write a Windows program for the common language runtime: its header, and metadata that names one module."""
    tables = struct.pack("<IBBBBQQI5H", 0, 2, 0, 0, 1, 1, 0, 1, 0, 1, 1, 0, 0) + bytes(2)
    streams = {b"#~\0\0": tables, b"#Strings\0\0\0\0": b"\0Tides\0\0", b"#US\0": bytes(4), b"#GUID\0\0\0": bytes(16),
               b"#Blob\0\0\0": bytes(4)}  # fmt: skip
    version = b"v4.0.30319\0\0"
    head = b"BSJB" + struct.pack("<HHII", 1, 1, 0, len(version)) + version + struct.pack("<HH", 0, len(streams))
    at, body = len(head) + sum(8 + len(name) for name in streams), b""
    for name, data in streams.items():
        head += struct.pack("<II", at + len(body), len(data)) + name
        body += data
    header = struct.pack("<IHHIIII", 72, 2, 5, _DATA_ADDRESS + 72, len(head + body), 1, 0).ljust(72, b"\0")
    program = bytearray(windows_program())
    program[_DATA : _DATA + len(header + head + body)] = header + head + body
    struct.pack_into("<II", program, _directory(program, _CLI), _DATA_ADDRESS, 72)
    return bytes(program)


def signed_program(program: bytes) -> bytes:
    """Put a signature behind a Windows program: in form alone, for there is no key behind it."""
    data = _signature(hashlib.sha256(program).digest())
    entry = struct.pack("<IHH", 8 + len(data), 0x200, 2) + data
    entry += bytes(-len(entry) % 8)
    out = bytearray(program + bytes(-len(program) % 8))
    struct.pack_into("<II", out, _directory(program, _SECURITY), len(out), len(entry))
    return bytes(out) + entry


def _signature(digest: bytes) -> bytes:
    def algorithm(name: str) -> bytes:
        return _der(_SEQUENCE, _oid(name), _der(_NULL))

    image = _der(_SEQUENCE, _der(_BITS, b"\0"), _der(0xA0, _der(0xA2, _der(0x80))))
    hashed = _der(_SEQUENCE, algorithm(_SHA256), _der(_OCTETS, digest))
    content = _der(_SEQUENCE, _der(_SEQUENCE, _oid(f"{_SPC}.15"), image), hashed)
    name = _der(_SEQUENCE, _der(_SET, _der(_SEQUENCE, _oid("2.5.4.3"), _der(_UTF8, b"Tides"))))
    numbers = _der(_SEQUENCE, _der(_INTEGER, b"\0\xc1" + bytes(126) + b"\1"), _der(_INTEGER, b"\1\0\1"))
    key = _der(_SEQUENCE, algorithm(_RSA), _der(_BITS, b"\0" + numbers))
    one, signs = _der(_INTEGER, b"\1"), algorithm("1.2.840.113549.1.1.11")
    valid = _der(_SEQUENCE, _der(_TIME, b"240101000000Z"), _der(_TIME, b"340101000000Z"))
    about = _der(_SEQUENCE, _der(0xA0, _der(_INTEGER, b"\2")), one, signs, name, valid, name, key)
    certificate = _der(_SEQUENCE, about, signs, _der(_BITS, bytes(129)))
    kind = _der(_SEQUENCE, _oid("1.2.840.113549.1.9.3"), _der(_SET, _oid(f"{_SPC}.4")))
    said = _der(_OCTETS, hashlib.sha256(content[2:]).digest())
    attributes = _der(0xA0, kind, _der(_SEQUENCE, _oid("1.2.840.113549.1.9.4"), _der(_SET, said)))
    signer = _der(_SEQUENCE, one, _der(_SEQUENCE, name, one), algorithm(_SHA256), attributes, algorithm(_RSA),
                  _der(_OCTETS, bytes(128)))  # fmt: skip
    inner = _der(_SEQUENCE, _oid(f"{_SPC}.4"), _der(0xA0, content))
    signed = _der(_SEQUENCE, one, _der(_SET, algorithm(_SHA256)), inner, _der(0xA0, certificate), _der(_SET, signer))
    return _der(_SEQUENCE, _oid("1.2.840.113549.1.7.2"), _der(0xA0, signed))


def _der(tag: int, *parts: bytes) -> bytes:
    """Write one value of ASN.1 in DER (X.690)."""
    body = b"".join(parts)
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8 or 1, "big")
    return bytes([tag]) + (size if len(body) < 0x80 else bytes([0x80 | len(size)]) + size) + body


def _oid(name: str) -> bytes:
    first, second, *rest = map(int, name.split("."))
    out = bytearray([40 * first + second])
    for number in rest:
        piece = [number & 0x7F]
        while number := number >> 7:
            piece.append(number & 0x7F | 0x80)
        out += bytes(reversed(piece))
    return _der(_OID, bytes(out))


def linux_program() -> bytes:
    """Write the headers of a Linux library of one segment."""
    head = struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0x1000, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 4096, 4096, 4096)
    return (b"\x7fELF" + bytes([2, 1, 1]).ljust(12, b"\0") + head + segment).ljust(512, b"\0") + _CODE


def android_program() -> bytes:
    """Write an Android program without a class: its header and its map."""
    entries = struct.pack("<IHHIIHHII", 2, 0, 0, 1, 0, 0x1000, 0, 1, 0x70)
    rest = struct.pack("<IIIIII", 0x70 + len(entries), 0x70, 0x12345678, 0, 0, 0x70) + bytes(48)
    rest += struct.pack("<II", len(entries), 0x70) + entries
    named = hashlib.sha1(rest, usedforsecurity=False).digest() + rest
    return b"dex\n035\0" + struct.pack("<I", zlib.adler32(named)) + named
