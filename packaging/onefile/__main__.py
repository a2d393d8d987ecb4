"""Starts what this one file holds: unpacked once, durably, under its digest; what is not whole is unpacked anew.

Standard library only. The file is for the Python that PACKED names: it holds extensions that were built for it.
"""

import compileall
import json
import os
import shutil
import sys
import tempfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path

SIZES = "SIZES.json"
HALF_S = 3600
"""What was being unpacked so long ago was cut off."""
KEPT = 3
"""Unpacked copies: a component may still be started with the guard of the one before."""


class Stop(Exception):
    """Ends with one clear line."""


def root() -> Path:
    """Give the directory for unpacked copies: this user's own, or nothing in it could be believed."""
    for variable, below in (
        ("TIDEGATE_UNPACK", ""),
        ("CACHE_DIRECTORY", "agent"),
        ("XDG_CACHE_HOME", "tidegate-agent"),
    ):
        if os.environ.get(variable):
            return Path(os.environ[variable]) / below
    return Path.home() / ".cache" / "tidegate-agent"


def whole(place: Path) -> bool:
    """Whether each file is there in the length that it had when it was unpacked: a damaged disk is noticed."""
    try:
        lengths = json.loads((place / SIZES).read_bytes())
        return all(os.stat(os.path.join(place, name)).st_size == length for name, length in lengths.items())
    except (OSError, ValueError, AttributeError):
        return False


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unpack(archive: str, place: Path, files: list[str]) -> None:
    """Unpack so that `place` is whole from the moment at which it has its name, whenever the power goes."""
    half = Path(tempfile.mkdtemp(dir=place.parent, prefix=".half-"))
    try:
        with zipfile.ZipFile(archive) as packed:
            for name in files:
                packed.extract(name, half)
        compileall.compile_dir(half, quiet=2)
        lengths = {str(p.relative_to(half)): p.stat().st_size for p in half.rglob("*") if p.is_file()}
        (half / SIZES).write_text(json.dumps(lengths))
        if os.name != "nt":
            for directory, _, names in os.walk(half, topdown=False):
                for name in names:
                    sync(Path(directory, name))
                sync(Path(directory))
        if place.exists():
            shutil.rmtree(place)
        with suppress(OSError):  # another start was quicker
            half.rename(place)
        if os.name != "nt":
            sync(place.parent)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def ready() -> Path:
    """Give the directory with the unpacked copy. Raises Stop, OSError."""
    archive = __loader__.archive  # type: ignore[name-defined]
    packed = json.loads(__loader__.get_data(os.path.join(archive, "PACKED.json")))  # type: ignore[name-defined]
    if list(sys.version_info[:2]) != packed["python"] or sys.platform != packed["platform"]:
        wants = ".".join(map(str, packed["python"]))
        raise Stop(f"this file is for Python {wants} on {packed['platform']}; build it with the Python that it runs on")
    here = root()
    here.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = here.stat()
    if os.name != "nt" and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
        raise Stop(f"{here} can be written by others; set TIDEGATE_UNPACK to a directory of your own")
    place = here / packed["build"]
    if not whole(place):
        unpack(archive, place, packed["files"])
        if not whole(place):
            raise Stop(f"{archive} could not be unpacked into {here}")
    with suppress(OSError):
        os.utime(place)
        copies = sorted((p for p in here.iterdir() if p.name[0] != "."), key=lambda p: p.stat().st_mtime)
        halves = [p for p in here.glob(".half-*") if p.stat().st_mtime < time.time() - HALF_S]
        for old in [*copies[:-KEPT], *halves]:
            shutil.rmtree(old, ignore_errors=True)
    return place


def main() -> int:
    try:
        place = str(ready())
    except (Stop, OSError) as error:
        sys.stderr.write(f"tidegate-agent: {error}\n")
        return 2
    sys.path.insert(0, place)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (place, os.environ.get("PYTHONPATH"))))  # for its children
    for name in ("compileall", "zipfile", "tempfile"):  # what only unpacked need not stay
        sys.modules.pop(name, None)
        globals().pop(name, None)
    from tidegate.agent.onefile import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
