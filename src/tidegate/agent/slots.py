"""Releases on the device: versioned slots, and the pointers `current` and `good`. What is condemned: `marks.py`."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tidegate.agent import guard, seal
from tidegate.agent.marks import Marks
from tidegate.core.errors import BadInput, NotFound, Untrusted
from tidegate.core.model import Manifest
from tidegate.core.wire import decode, encode
from tidegate.trust.durable import make_directory, replace, room_for, sync_dir, write_durably
from tidegate.trust.errors import DiskFull

MANIFEST = ".manifest.json"
SPARE = 1 << 20
"""Bytes that must stay free beside a payload, for journal, outbox and pointers."""
_BLOCK = 4096


def slot_name(digest: str) -> str:
    return digest[:16]


class Slots:
    """One component's releases. A slot that has its final name is whole and on disk; it is never written again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.slots = directory / "slots"
        self.current_path = directory / "current"
        self.marks = Marks(directory)
        make_directory(self.slots, mode=0o755)

    def current(self) -> str | None:
        """Give the digest of the release that `current` names, or None if the component is absent."""
        return self._digest(guard.slot_of(self.directory, "current"))

    def good(self) -> str | None:
        """Give the digest of the last known good, or None if there is none."""
        return self._digest(guard.slot_of(self.directory, "good"))

    def has(self, digest: str) -> bool:
        return self._digest(slot_name(digest)) == digest

    def path(self, digest: str) -> Path:
        return self.slots / slot_name(digest)

    def manifest(self, digest: str) -> Manifest:
        """Read the manifest of a release in its slot.

        Raises:
            NotFound: if there is no such slot.
            BadInput: if its manifest is damaged.
        """
        try:
            data = (self.path(digest) / MANIFEST).read_bytes()
        except OSError as error:
            raise NotFound(f"release {digest[:16]} stands in no slot of {self.directory}") from error
        return decode(Manifest, data, f"manifest of {digest[:16]}")

    def fill(self, digest: str, manifest: Manifest, unpack: Callable[[Path], None]) -> None:
        """Write a slot: unpack into a directory aside, put the manifest in last, give it its name, sync.

        Args:
            digest: the release's; the manifest must have it.
            unpack: writes the verified payload, synced, into the directory that it is given, which does not exist yet.

        Raises:
            Untrusted: the manifest does not have this digest.
            BadInput: the payload uses the name of our own file.
            DiskFull: no room; what was written is removed again and nothing else has changed.
            TidegateError: what `unpack` raises; removed likewise.
        """
        with self._laid_aside(digest, manifest, unpack) as partial:
            if slot_name(digest) in self.pointed():  # what runs has lost its manifest
                self._put_right(digest, partial)
            else:
                if self.path(digest).exists():  # a slot without its manifest was never whole
                    shutil.rmtree(self.path(digest))
                replace(partial, self.path(digest))
                sync_dir(self.slots)

    def mend(self, digest: str, manifest: Manifest, unpack: Callable[[Path], None]) -> None:
        """Put a slot right whose files are damaged: each is replaced in one atomic step. As `fill` otherwise."""
        with self._laid_aside(digest, manifest, unpack) as partial:
            self._put_right(digest, partial)

    @contextmanager
    def _laid_aside(self, digest: str, manifest: Manifest, unpack: Callable[[Path], None]) -> Iterator[Path]:
        """Write a whole slot into a directory aside, on disk; what of it is still there at the end is removed."""
        data = encode(manifest)
        if hashlib.sha256(data).hexdigest() != digest:
            raise Untrusted(f"the manifest does not have the digest {digest[:16]}; the release must be made anew")
        partial = self.slots / f".{slot_name(digest)}.new"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            with room_for(f"release {digest[:16]}"):
                unpack(partial)
                for own in sorted(seal.OWN):
                    if (partial / own).exists():
                        raise BadInput(f"the payload has a file {own}, whose name is Tidegate's own")
                write_durably(partial / seal.SEAL, seal.describe(partial))
                write_durably(partial / MANIFEST, data)
                yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _put_right(self, digest: str, partial: Path) -> None:
        slot = self.path(digest)
        for path in sorted(found for found in partial.rglob("*") if found.is_file()):
            target = slot / path.relative_to(partial)
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            elif target.is_file() and not target.is_symlink() and seal.digest(path) == seal.digest(target):
                continue
            make_directory(target.parent)
            replace(path, target)
            for directory in (target.parent, path.parent):
                sync_dir(directory)

    def pointed(self) -> list[str]:
        """Give the names of the slots that the pointers name, what runs first."""
        named = (guard.slot_of(self.directory, pointer) for pointer in ("current", "good"))
        return list(dict.fromkeys(name for name in named if name))

    def broken(self, slot: str | None) -> str:
        """Say what is damaged in a slot, by its name; nothing if it is whole, or no slot."""
        if slot is None or not (self.slots / slot).is_dir():
            return ""
        if self._digest(slot) is None:
            return "its manifest is damaged"
        return seal.broken(self.slots / slot)

    def drop(self, digest: str) -> None:
        """Take a slot away that no pointer names; its manifest goes first."""
        with suppress(OSError):
            (self.path(digest) / MANIFEST).unlink()
            sync_dir(self.path(digest))
        shutil.rmtree(self.path(digest), ignore_errors=True)

    def need_room(self, length: int) -> None:
        """Refuse early what cannot fit. Raises DiskFull, with both numbers."""
        status = os.statvfs(self.directory)
        free = status.f_bavail * status.f_frsize
        if free < length + SPARE:
            need = f"the release needs {(length + SPARE) / 1e6:.1f} MB of disk and {free / 1e6:.1f} MB are free"
            raise DiskFull(f"{need} at {self.directory}; free some space, the device tries again by itself")

    def flip(self, digest: str | None) -> None:
        """Let `current` name a release, or none: atomic, and on disk when this returns."""
        with room_for("the pointer 'current'"), guard.locked(self.directory):
            guard.point(self.directory, "current", slot_name(digest) if digest else None)

    def point_back(self) -> None:
        """Let `current` name what `good` names, or nothing: by the slot's name, since even a damaged manifest is
        no reason to lose the last known good."""
        with room_for("the pointer 'current'"), guard.locked(self.directory):
            guard.point(self.directory, "current", guard.slot_of(self.directory, "good"))

    def arm(self, digest: str, **facts: Any) -> None:
        """Arm the guard for a release, before the pointer moves; a count that it has already is kept.

        `facts` are kept beside (lease and rollout), so that a damaged journal does not lose them.
        """
        with room_for("the guard's file"), guard.locked(self.directory):
            state = self.guard_state()
            if state.get("armed") is True and state.get("digest") == digest:
                return
            fresh = {"starts": 0, "starts_allowed": guard.STARTS_ALLOWED, "slot": slot_name(digest), "digest": digest}
            guard.write(self.directory / "guard.json", {**facts, **fresh, "armed": True})

    def disarm(self) -> None:
        with guard.locked(self.directory):
            state = self.guard_state()
            if state.get("armed") is not False:
                guard.write(self.directory / "guard.json", {**state, "armed": False})

    def guard_state(self) -> dict[str, Any]:
        return guard.read(self.directory / "guard.json") or {}

    def keep(self, digest: str) -> bool:
        """Make a proven release the last known good, unless the guard took it back meanwhile.

        Returns:
            False if `current` does not name it any more; nothing is changed then.
        """
        with room_for("the pointer 'good'"), guard.locked(self.directory):
            if self.current() != digest:
                return False
            if self.good() != digest:
                guard.point(self.directory, "good", slot_name(digest))
        self.disarm()
        return True

    def note(self) -> str:
        """Give the sentence that the guard left, or nothing."""
        path = self.directory / "note.json"
        note = guard.read(path)
        if note is None:
            return "the guard left a note that cannot be read" if path.exists() else ""
        return str(note.get("sentence", ""))[:1000]

    def note_about(self, digest: str) -> str:
        """Give the guard's sentence if it is about this release."""
        note = guard.read(self.directory / "note.json") or {}
        return self.note() if str(note.get("digest", "")) in (digest, slot_name(digest)) else ""

    def drop_note(self) -> None:
        (self.directory / "note.json").unlink(missing_ok=True)
        sync_dir(self.directory)

    def condemned(self, digest: str) -> bool:
        return self.marks.has(digest)

    def clean(self, keep: Iterable[str | None]) -> None:
        """Remove every slot but those of the pointers and of `keep`; what cannot be removed stays for the next time."""
        kept = {slot_name(digest) for digest in keep if digest}
        kept |= set(self.pointed())
        for slot in list(self.slots.iterdir()):
            if slot.name not in kept:
                with suppress(OSError):  # the manifest first: a slot without one counts as no slot
                    (slot / MANIFEST).unlink()
                    sync_dir(slot)  # or a power cut may keep the manifest and lose what it vouches for
                shutil.rmtree(slot, ignore_errors=True)

    def _digest(self, slot: str | None) -> str | None:
        if slot is None:
            return None
        try:
            digest = hashlib.sha256((self.slots / slot / MANIFEST).read_bytes()).hexdigest()
        except OSError:
            return None
        return digest if slot_name(digest) == slot else None
