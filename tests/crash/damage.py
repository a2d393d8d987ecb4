"""Each file of a device's home damaged, one by one: emptied, cut in half, put back as it was earlier, or gone."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from .order import LOCKS, VIEWS

HARMS = ("emptied", "truncated", "older", "missing")
UNREAD = (*VIEWS, *LOCKS)


@dataclass(frozen=True, slots=True)
class Damage:
    """What happens to which file, named from the home."""

    file: str
    harm: str

    def __str__(self) -> str:
        return f"{self.file} {self.harm}"


def damages_of(home: Path, earlier: Path) -> list[Damage]:
    """Give every damage that changes something: `earlier` is the same home as it was before."""
    found: list[Damage] = []
    for path in sorted(home.rglob("*")):
        name = str(path.relative_to(home))
        if path.is_dir() or path.is_symlink() or name.endswith(UNREAD):
            continue
        old = earlier / name
        older = old.is_file() and old.read_bytes() != path.read_bytes()
        found += [Damage(name, harm) for harm in HARMS if harm != "older" or older]
    return found


def do(damage: Damage, home: Path, earlier: Path) -> None:
    path = home / damage.file
    data = path.read_bytes()
    if damage.harm == "emptied":
        path.write_bytes(b"")
    elif damage.harm == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage.harm == "missing":
        path.unlink()
    else:
        shutil.copy2(earlier / damage.file, path)
