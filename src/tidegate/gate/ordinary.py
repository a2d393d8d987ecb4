"""Small benign files of the kinds that other systems have and this machine may lack: programs, documents, pictures.

They are made, always the same ones: a rule that takes every Windows program for something bad is seen where there is
none. They stand in for no recorded corpus; they add the kinds that it may not hold.
"""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from tidegate.gate.corpus import MB, Corpus, made_corpus
from tidegate.gate.programs import android_program, linux_program, managed_program, signed_program, windows_program

LARGE_MB = 128
"""A benign file that is larger than what a corpus usually holds."""
_WORDS = b"The tide comes in twice a day, and nobody is surprised by it.\r\n" * 12
_TEXTS = {
    "batch.bat": '@echo off\r\nset HERE=%~dp0\r\ncopy "%HERE%report.txt" "%USERPROFILE%" >nul\r\n',
    "shell.ps1": "param([string]$Path = '.')\r\nGet-ChildItem $Path | Sort-Object Length | Format-Table Name\r\n",
    "macro.vbs": 'Set fso = CreateObject("Scripting.FileSystemObject")\r\nWScript.Echo fso.Drives.Count\r\n',
    "page.js": "document.querySelectorAll('a').forEach(a => a.addEventListener('click', e => console.log(e)));\n",
    "tool.py": "import sys\n\nfor line in sys.stdin:\n    print(len(line))\n",
    "list.sh": '#!/bin/sh\nfor file in *.txt; do wc -l "$file"; done\n',
    "page.html": "<!doctype html>\n<html><head><title>Tides</title></head><body><p>High water at noon.</p></body>\n",
    "data.xml": '<?xml version="1.0" encoding="UTF-8"?>\n<tides><tide at="12:00" height="4.1"/></tides>\n',
    "data.json": '{"tides": [{"at": "12:00", "height": 4.1}]}\n',
    "data.csv": "at,height\n12:00,4.1\n18:10,0.7\n",
    "settings.ini": "[general]\nlanguage=en\n",
    "keys.reg": 'Windows Registry Editor Version 5.00\r\n\r\n[HKEY_CURRENT_USER\\Software\\Tides]\r\n"a"="b"\r\n',
    "mail.eml": "From: ada@example.org\r\nTo: bo@example.org\r\nSubject: the tide\r\n\r\nHigh water at noon.\r\n",
    "letter.rtf": "{\\rtf1\\ansi{\\fonttbl\\f0\\fswiss Helvetica;}\\f0\\pard High water at noon.\\par}",
    "document.pdf": "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    "2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n",
}
_SCRIPTS = (
    "Die Flut kommt zweimal täglich; Überraschungen gibt es nicht. À marée haute, çà et là.",
    "Прилив приходит дважды в день. Η παλίρροια έρχεται δύο φορές την ημέρα. גאות פעמיים ביום. المد مرتين في اليوم.",
    "潮は一日に二度満ちる。カモメのむれ。潮水每天涨两次。조수는 하루에 두 번 들어온다.",
    "น้ำขึ้นวันละสองครั้ง ज्वार दिन में दो बार आता है।",
)
_HEADS = {
    "mach-o": "cffaedfe07000001030000000200000001000000",
    "mach-o-fat": "cafebabe0000000101000007",
    "wasm": "0061736d01000000",
    "java.class": "cafebabe00000034000a",
    "compound.doc": "d0cf11e0a1b11ae1",
    "shortcut.lnk": "4c0000000114020000000000c000000000000046",
    "archive.cab": "4d53434600000000",
    "archive.7z": "377abcaf271c0004",
    "archive.rar": "526172211a070100",
    "base.sqlite": "53514c69746520666f726d6174203300",
    "hive": "72656766",
    "events.evtx": "456c6646696c6500",
    "picture.jpg": "ffd8ffe000104a46494600",
    "picture.gif": "47494638396101000100",
    "picture.bmp": "424d",
    "sound.wav": "524946460010000057415645666d7420",
    "sound.mp3": "49443303000000000000",
    "film.mp4": "000000186674797069736f6d",
    "font.ttf": "00010000000c0080",
    "network.pcap": "d4c3b2a102000400",
}
"""How files of a kind begin, in hexadecimal."""


def ordinary_corpus(directory: Path) -> Corpus:
    """Write the files below a directory, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    made = ordinary_files()
    for name, data in made.items():
        (directory / name).write_bytes(data)
    with (directory / "large.img").open("wb") as file:  # takes no room on the disk
        file.truncate(LARGE_MB * MB)
    return made_corpus("kinds of files", directory, "/ordinary", {**made, "large.img": b""}, LARGE_MB)


def ordinary_files() -> dict[str, bytes]:
    """Give each file's name and content."""
    made = {name: text.encode() for name, text in _TEXTS.items()}
    made |= {name: bytes.fromhex(head) + bytes(508) + _WORDS for name, head in _HEADS.items()}
    made |= {
        "empty": b"",
        "one-line.txt": b"High water at noon.\n",
        "letter-utf-16.txt": _WORDS.decode().encode("utf-16"),
    }
    made |= {
        "program.exe": windows_program(0x14C, 0x102),
        "program-64.exe": windows_program(0x8664, 0x22),
        "library.dll": windows_program(0x8664, 0x2022),
    }
    made |= {
        "driver.sys": windows_program(0xAA64, 0x22, subsystem=1),
        "program-signed.exe": signed_program(windows_program(0x8664, 0x22)),
        "program-managed.exe": managed_program(),
        "android.dex": android_program(),
        "library.so": linux_program(),
        "letter.txt.gz": gzip.compress(_WORDS, mtime=0),
        "letter-other-scripts.txt": "\n".join(_SCRIPTS).encode(),
    }
    made["letter.docx"] = _zip({"[Content_Types].xml": _TEXTS["data.xml"], "word/document.xml": _TEXTS["data.xml"]})
    made["program.jar"] = _zip({"META-INF/MANIFEST.MF": "Manifest-Version: 1.0\r\n", "Tides.class": "\xca\xfe"})
    made["picture.png"] = _png()
    return made


def _zip(entries: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in entries.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return buffer.getvalue()


def _png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")
