"""A device of the demo: a check-in desk with its own files, which the scanner protects or, with bad rules, breaks."""

from __future__ import annotations

from pathlib import Path

from tidegate.cli.demo_content.binaries import elf, noise, page_store, slot_archive
from tidegate.cli.demo_content.samples import PLANTED

VARIANTS = "AABACABA"
"""By number modulo 8. A: `checkin.db` in the paged format (harmed by the false positive); B: the older text format and
an archive (its scanner dies); C: the older format, no archive (unharmed). Five, two and one of eight."""

CHECKIN = """\
#!/bin/sh
# The check-in desk: serves while its database is there.
db="$(dirname "$0")/checkin.db"
if [ ! -r "$db" ]; then
    echo "checkin: $db is missing, no passenger can be checked in" >&2
    exit 1
fi
echo "serving"
"""


def variant(number: int) -> str:
    """Give a device's variant, `A`, `B` or `C`, by its number."""
    return VARIANTS[number % len(VARIANTS)]


def build_world(device_dir: Path, number: int) -> dict[str, str]:
    """Make a device's own files, the same for the same number.

    Args:
        device_dir: where the device lives; `system/` and `quarantine/` are made in it.
        number: the device's number in the demo, from 0.

    Returns:
        The device's settings for the yara driver.
    """
    system, kind = device_dir.absolute() / "system", variant(number)
    for name, data in _files(kind, number).items():
        path = system / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (system / "checkin").chmod(0o755)
    quarantine = device_dir.absolute() / "quarantine"
    quarantine.mkdir(exist_ok=True)
    return {
        "watch": str(system),
        "quarantine": str(quarantine),
        "planted": "inbox/planted.txt",
        "needs": "checkin.db,checkin",
        "cpu_s": "1",
        "memory_mb": "512",
        "interval_s": "0.2",
        "start_s": "15",
    }


def _files(kind: str, number: int) -> dict[str, bytes]:
    flights = "".join(f"TG{number:03d}{i} gate {i % 9 + 1} seats {120 + i}\n" for i in range(12))
    files = {
        "checkin": CHECKIN.encode(),
        "checkin.db": page_store(16, f"desk {number}") if kind == "A" else f"checkin db 1\n{flights}".encode(),
        "etc/desk.conf": f"desk = {number}\nprinter = tag-{number % 4}\nlanguage = en\n".encode(),
        "etc/crontab": b"17 3 * * * root /usr/sbin/logrotate /etc/logrotate.conf\n",
        "bin/printer-driver": elf(sections=[".text", ".rodata"], tail=noise(8192, f"printer {number % 4}")),
        "log/desk.log": "".join(f"desk {number}: boarding pass {i} printed\n" for i in range(40)).encode(),
        "inbox/planted.txt": PLANTED.encode(),
    }
    if kind == "B":
        # The faulty rule compares each slot with each: minutes of CPU.
        files["archive.dat"] = slot_archive(80_000, listed=80_000)
    return files
