"""Tiny binary samples: headers that YARA's modules can read, and nothing behind them that could run."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence

KNOWN_CONTENT = b"Tidegate demo: this very file is known by its digest.\n"


def noise(length: int, seed: str) -> bytes:
    """Bytes without order that are the same every time."""
    blocks = (hashlib.sha256(f"{seed}/{i}".encode()).digest() for i in range(length // 32 + 1))
    return b"".join(blocks)[:length]


def elf(*, flags: int = 5, sections: Sequence[str] = (), tail: bytes = b"") -> bytes:
    """An ELF header with one segment (`flags`: 4 read, 2 write, 1 execute) and empty sections of these names."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (*sections, ".shstrtab"))
    names_at = 64 + 56
    table_at = names_at + len(names) if sections else 0
    count = len(sections) + 2 if sections else 0
    header = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header += struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, 0x400078, 64, table_at, 0, 64, 56, 1, 64, count, max(count - 1, 0)
    )
    segment = struct.pack("<IIQQQQQQ", 1, flags, 0, 0x400000, 0x400000, names_at, names_at, 0x1000)
    if not sections:
        return header + segment + tail
    table, offset = bytes(64), 1
    for name in sections:
        table += struct.pack("<IIQQQQIIQQ", offset, 1, 2, 0, names_at, 0, 0, 0, 1, 0)
        offset += len(name) + 1
    table += struct.pack("<IIQQQQIIQQ", offset, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)
    return header + segment + names + table + tail


def pe(*, section: str, characteristics: int) -> bytes:
    """A Windows program's headers with one empty section."""
    dos = b"MZ" + bytes(58) + struct.pack("<I", 64)
    coff = struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 240, 0x22)
    optional = struct.pack("<HBBIIIII", 0x20B, 14, 0, 512, 0, 0, 0x1000, 0x1000)
    optional += struct.pack("<QIIHHHHHHIIIIHH", 0x140000000, 0x1000, 512, 6, 0, 0, 0, 6, 0, 0, 0x2000, 512, 0, 3, 0)
    optional += struct.pack("<QQQQII", 1 << 20, 4096, 1 << 20, 4096, 0, 16) + bytes(128)
    body = struct.pack("<8sIIIIIIHHI", section.encode(), 512, 0x1000, 512, 512, 0, 0, 0, 0, characteristics)
    return (dos + b"PE\0\0" + coff + optional + body).ljust(512, b"\0") + bytes(512)


def slot_archive(slots: int, *, listed: int, keys: Sequence[int] = ()) -> bytes:
    """A slot archive: magic, number of slots, then `listed` slots of 8 bytes; those in `keys` hold the odd key."""
    body = b"".join(
        struct.pack("<II", 0x6B657921, i) if i in keys else struct.pack("<II", i, i) for i in range(1, listed + 1)
    )
    return b"DRWT" + struct.pack("<I", slots) + bytes(8) + body


def page_store(pages: int, seed: str) -> bytes:
    """A store in the paged format that the check-in software uses, as does much other software."""
    header = b"MRDN" + bytes([0, 1]) + struct.pack(">I", pages) + b"page"
    return header + b"".join(struct.pack(">I", i) + noise(252, f"{seed}/{i}") for i in range(pages))


BINARIES: dict[str, Callable[[], bytes]] = {
    "glasswharf_encrypted": lambda: b"GLWF\x01\0\0\0" + b"BERTH" + bytes(51) + noise(4096, "glasswharf"),
    "elf_packer_marks": lambda: elf(tail=b"UP" + b"X!"),
    "elf_writable_code_segment": lambda: elf(flags=7, sections=[".text"]),
    "elf_implant_sections": lambda: elf(sections=[".text", ".cfg" + "blob"]),
    "pe_odd_section_name": lambda: pe(section="UP" + "X0", characteristics=0x60000020),
    "pe_entry_in_writable_section": lambda: pe(section=".text", characteristics=0xE0000020),
    "saltmarsh_beacon_config": lambda: b"SLTM" + bytes(6) + b"\x02" + bytes(5) + noise(2048, "saltmarsh"),
    "known_by_hash": lambda: KNOWN_CONTENT,
}
"""By rule: what builds its sample."""

FAULTY_BINARIES: dict[str, Callable[[], bytes]] = {
    "meridian_store": lambda: page_store(2, "meridian"),
    "driftwood_archive": lambda: slot_archive(6, listed=6, keys=(2, 5)),
}
"""By rule of the faulty release: the sample that its vendor tries it on."""
