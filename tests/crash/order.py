"""The recorded order of calls: what is published must be on disk first, and its name right after.

A file system may hide a missing fsync for years (ext4 writes names with the next fsync of anything), so the order
itself is checked, as the most careless file system that POSIX allows would take it:

1. what a rename puts in place has been synced whole: a file's data; in a directory every file, and every name;
2. after a directory was made, a file was moved, or a name that means something was removed, the next change or
   message comes only after an fsync of its directory.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .trace import MESSAGES, Call

VIEWS = ("status.json", ".status.json.new")
"""Nothing reads it back."""
TOLD = re.compile(r"/(current|good|note\.json|outbox/[^/.]+\.json|slots/[0-9a-f]+/\.manifest\.json)$")
"""Names whose removal means something; the rest of a slot is nothing once its manifest is gone."""
LOCKS = ("agent.lock", "guard.lock")
"""They hold no data."""
_FD = re.compile(r"^\d+<([^>]*)>")
_PATHS = re.compile(r'"([^"]*)"')
_AT = re.compile(r"(?:AT_FDCWD|\d+)<([^>]*)>, \"([^\"]*)\"")


class Order:
    """What is not on disk yet, as the calls go by; `wrong` has a sentence for each fault."""

    def __init__(self, home: Path) -> None:
        self.home = str(home)
        self.data: set[str] = set()
        self.names: dict[str, str] = {}
        """Directories whose names are not on disk, each with the last change that made it so."""
        self.due: dict[str, str] = {}
        """Directories whose fsync must be the next thing that happens."""
        self.wrong: list[str] = []

    def see(self, call: Call) -> None:
        if call.name in MESSAGES:
            return self._settled(f"a message ({call.name})") if "TCP" in call.text or "socket" in call.text else None
        if " = -1 " in call.text or self.home not in call.text or not call.changes(Path(self.home)):
            return None
        paths = [path for path in _where(call) if path.startswith(self.home)]
        if not paths or paths[-1].endswith(VIEWS + LOCKS):
            return None
        if call.name in ("fsync", "fdatasync"):
            self.data.discard(paths[0])
            self.names.pop(paths[0], None)
            self.due.pop(paths[0], None)
            return None
        together = str(Path(paths[-1]).parent) if call.name.startswith("unlink") else ""
        self._settled(f"{call.name} of {self._short(paths[-1])}", together)
        return self._change(call, paths)

    def _change(self, call: Call, paths: list[str]) -> None:
        name, path = call.name, paths[-1]
        if name in ("write", "pwrite64", "ftruncate", "truncate"):
            self.data.add(path)
        elif name == "openat":
            if "O_TRUNC" in call.text or "O_EXCL" in call.text:
                self.data.add(path)
            self._named(path, call.name)
        elif name.startswith("rename"):
            self._published(paths[0], path)
        elif name.startswith(("mkdir", "symlink", "link")):
            self._named(path, name, must=name.startswith("mkdir") and _in_place(path, self.home))
        elif name.startswith(("unlink", "rmdir")):
            self.data.discard(path)
            self._named(path, name, must=bool(TOLD.search(path)))

    def _named(self, path: str, what: str, *, must: bool = False) -> None:
        parent = str(Path(path).parent)
        self.names[parent] = f"{what} of {self._short(path)}"
        if must:
            self.due[parent] = self.names[parent]

    def _published(self, source: str, target: str) -> None:
        inside = [path for path in self.data if path == source or path.startswith(f"{source}/")]
        named = [path for path in self.names if path == source or path.startswith(f"{source}/")]
        for path in sorted(inside):
            what = f"the data of {self._short(path)}"
            self.wrong.append(f"{self._short(target)} is put in place before {what} is on disk")
        for path in sorted(named):
            self.wrong.append(f"{self._short(target)} is put in place before {self.names[path]} is on disk")
        self.data = {target + path.removeprefix(source) if path in inside else path for path in self.data}
        for path in named:
            self.names[target + path.removeprefix(source)] = self.names.pop(path)
        for path in {source, target}:
            parent = str(Path(path).parent)
            self.names[parent] = self.due[parent] = f"rename of {self._short(target)}"

    def _settled(self, before: str, together: str = "") -> None:
        for directory, what in list(self.due.items()):
            if not (directory == together and what.startswith("unlink")):  # several go with one fsync
                self.wrong.append(f"{what} is not on disk before {before}")
                del self.due[directory]

    def _short(self, path: str) -> str:
        return re.sub(r"[0-9a-f]{16,}", "*", path.removeprefix(self.home).lstrip("/")) or "."


def faults(calls: Sequence[Call], home: Path) -> list[str]:
    """Give what is wrong with the order of these calls, one sentence each; nothing if all is right."""
    order = Order(home)
    for call in calls:
        if call.main:
            order.see(call)
    order._settled("the end")
    for path in sorted(order.data):
        if not path.endswith(".part"):  # checked against its digest when it is read
            order.wrong.append(f"the data of {order._short(path)} is not on disk at the end")
    return order.wrong


def _in_place(path: str, home: str) -> bool:
    """Whether a name counts: one that is hidden, or below one that is, is not in place yet."""
    return not any(part.startswith(".") for part in Path(path.removeprefix(home)).parts)


def _where(call: Call) -> list[str]:
    """The paths that a call is about, whole; the one it changes last."""
    held = _FD.match(call.text)
    if held and not call.name.endswith(("at", "at2")):
        return [held[1]]
    if relative := _AT.findall(call.text):
        return [name if name.startswith("/") else f"{where}/{name}" for where, name in relative]
    found = _PATHS.findall(call.text)
    return found[1:] if call.name.startswith("symlink") else found
