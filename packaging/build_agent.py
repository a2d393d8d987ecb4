"""Builds the agent as one file, dist/tidegate-agent.pyz: `python3 dev.py package [--yara] [--output FILE]`.

Everything comes from the environment that the lock file made; the same sources give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "tidegate"
ROOMS = ("agent", "core", "drivers", "trust")
NEEDS = ("tuf", "securesystemslib", "cryptography", "cffi")
LEFT_OUT = (".pyi", ".pyc", ".h", ".c", ".md", ".txt", ".typed", "RECORD", "INSTALLER", "REQUESTED")
MOMENT = (1980, 1, 1, 0, 0, 0)
SHEBANG = b"#!/usr/bin/env python3\n"


def own_files() -> dict[str, bytes]:
    """The agent's rooms, the units, and the driver names that importlib.metadata finds."""
    found = {"tidegate/__init__.py": (SOURCE / "__init__.py").read_bytes()}
    for room in ROOMS:
        paths = [path for path in (SOURCE / room).rglob("*") if path.is_file() and path.suffix in (".py", ".sh")]
        found |= {f"tidegate/{path.relative_to(SOURCE).as_posix()}": path.read_bytes() for path in paths}
    for unit in sorted((ROOT / "packaging" / "systemd").glob("*.service")):
        found[f"systemd/{unit.name}"] = unit.read_bytes()
    drivers = [e for e in distribution("tidegate").entry_points if e.group == "tidegate.drivers"]
    lines = ["[tidegate.drivers]", *sorted(f"{entry.name} = {entry.value}" for entry in drivers)]
    version = distribution("tidegate").version
    about = f"tidegate_agent-{version}.dist-info"
    found[f"{about}/METADATA"] = f"Metadata-Version: 2.1\nName: tidegate-agent\nVersion: {version}\n".encode()
    found[f"{about}/entry_points.txt"] = ("\n".join(lines) + "\n").encode()
    return found


def library_files(name: str) -> dict[str, bytes]:
    """What a library installs, but for what nobody needs at run time."""
    found = {}
    for file in distribution(name).files or ():
        path, named = Path(str(file.locate())), file.as_posix()
        if path.is_file() and not named.startswith("..") and not named.endswith(LEFT_OUT) and "/tests/" not in named:
            found[named] = path.read_bytes()
    return found


def pack(files: dict[str, bytes]) -> bytes:
    """Give the whole file: a line that finds Python, and a zip with everything in a fixed order and of a fixed time."""
    build = hashlib.sha256()
    for name in sorted(files):
        build.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    packed = {
        "build": build.hexdigest()[:16],
        "python": list(sys.version_info[:2]),
        "platform": sys.platform,
        "files": sorted(files),
    }
    main = (ROOT / "packaging" / "onefile" / "__main__.py").read_bytes()
    whole = io.BytesIO()
    whole.write(SHEBANG)
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in [("__main__.py", main), ("PACKED.json", json.dumps(packed).encode()), *sorted(files.items())]:
            info = zipfile.ZipInfo(name, MOMENT)
            info.external_attr, info.compress_type, info.create_system = 0o644 << 16, zipfile.ZIP_DEFLATED, 3
            archive.writestr(info, data)
    return whole.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py package", description=__doc__)
    parser.add_argument("--yara", action="store_true", help="with YARA-X, for the yara driver")
    parser.add_argument("--output", type=Path, default=ROOT / "dist" / "tidegate-agent.pyz")
    said = parser.parse_args()
    files = own_files()
    for name in (*NEEDS, *(["yara-x"] if said.yara else [])):
        files |= library_files(name)
    data = pack(files)
    said.output.parent.mkdir(parents=True, exist_ok=True)
    partial = said.output.with_name(f".{said.output.name}.new")
    partial.write_bytes(data)
    partial.chmod(0o755)
    partial.replace(said.output)
    unpacked = sum(map(len, files.values()))
    print(f"{said.output}: {len(data) / 1e6:.1f} MB, {unpacked / 1e6:.1f} MB unpacked, for Python", end=" ")
    print(f"{sys.version_info[0]}.{sys.version_info[1]} on {sys.platform}; sha256 {hashlib.sha256(data).hexdigest()}")
    return 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
