"""A peer's sources, out of a clone of its public repository."""

from __future__ import annotations

import os
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

from bench.peers._port import Skip


def sources(name: str, commit: str, cache: Path) -> Path:
    """Unpack one commit of $TIDEGATE_PEER_SOURCES/NAME into the cache. Raises Skip where there is no such clone."""
    said = os.environ.get("TIDEGATE_PEER_SOURCES", "")
    clone = Path(said) / name
    if not said or not clone.exists():
        where = f"{said} has no clone named {name}" if said else "TIDEGATE_PEER_SOURCES is not set"
        raise Skip(f"{name} is built from a clone of its public repository: {where} (see bench/peers/__init__.py)")
    packed = subprocess.run(["git", "-C", clone, "archive", commit], capture_output=True, check=False)
    if packed.returncode:
        raise Skip(f"the clone {clone} has no {commit}: {packed.stderr.decode().strip()[:200]}")
    place = cache / f"{name}-{commit}-src"
    place.mkdir(exist_ok=True)
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(place, filter="data")
    return place
