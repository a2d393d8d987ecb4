"""The repository's files: small ones are read and sent at once, all else as Starlette does it."""

from __future__ import annotations

import os
import re
import stat
from collections import OrderedDict
from email.utils import formatdate
from hashlib import md5
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from tidegate.intake.http import Reply, problem, send, write_head
from tidegate.intake.pieces import PieceFiles

_PLAIN = re.compile(r"/repo(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+\Z")
"""Names that begin with no dot, so that no path leads out."""
_CONDITIONS = frozenset({b"range", b"if-range", b"if-none-match", b"if-modified-since"})
_SMALL, _KEPT = 256 * 1024, 64
_TYPES = {".json": b"application/json"}
Head = list[tuple[bytes, bytes]]


class RepositoryFiles:
    """Serves what lies below one directory. A file's content is kept while its time, size and place do not change."""

    def __init__(self, directory: Path) -> None:
        self._directory = os.fspath(directory)
        self._other = PieceFiles(directory=directory, check_dir=False)
        self._kept: OrderedDict[str, tuple[tuple[int, int, int], Head, Reply]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send_message: Send) -> None:
        """Answer a request below /repo (ASGI)."""
        found = self._small(scope)
        if found is None:
            await self._as_starlette(scope, receive, send_message)
            return
        head, reply = found
        await send_message({"type": "http.response.start", "status": 200, "headers": head})
        await send_message({"type": "http.response.body", "body": reply.body})

    def small(self, scope: Scope) -> Reply | None:
        """Answer for a small file that is there, asked for without conditions; all else goes the long way (None)."""
        found = self._small(scope)
        return found[1] if found else None

    def _small(self, scope: Scope) -> tuple[Head, Reply] | None:
        path: str = scope["path"]
        if scope["method"] != "GET" or not _PLAIN.match(path):
            return None
        if any(name in _CONDITIONS for name, _ in scope["headers"]):
            return None
        name = self._directory + path[5:]
        try:
            seen = os.stat(name, follow_symlinks=False)
            mark = (seen.st_mtime_ns, seen.st_size, seen.st_ino)
            known = self._kept.get(name)
            if known is not None and known[0] == mark:
                return known[1], known[2]
            if not stat.S_ISREG(seen.st_mode) or seen.st_size > _SMALL:
                return None
            with open(name, "rb") as file:
                seen = os.fstat(file.fileno())  # of what is read, whatever has been put in its place meanwhile
                body = file.read(_SMALL + 1)
        except OSError:
            return None
        if len(body) != seen.st_size:
            return None
        head = _head(name, seen)
        reply = Reply(200, body, written=write_head(head))
        self._kept[name] = ((seen.st_mtime_ns, seen.st_size, seen.st_ino), head, reply)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return head, reply

    async def _as_starlette(self, scope: Scope, receive: Receive, send_message: Send) -> None:
        inner = {**scope, "root_path": scope.get("root_path", "") + "/repo"}
        try:
            await self._other(inner, receive, send_message)
        except HTTPException as error:
            await send(send_message, problem(error.status_code, "Not found", "no such file in the repository"))


def _head(name: str, seen: os.stat_result) -> Head:
    """Give the headers that Starlette gives, so that a later conditional request fits."""
    tag = md5(f"{seen.st_mtime}-{seen.st_size}".encode(), usedforsecurity=False).hexdigest()
    return [
        (b"content-type", _TYPES.get(os.path.splitext(name)[1], b"application/octet-stream")),
        (b"accept-ranges", b"bytes"),
        (b"content-length", str(seen.st_size).encode()),
        (b"last-modified", formatdate(seen.st_mtime, usegmt=True).encode()),
        (b"etag", f'"{tag}"'.encode()),
    ]
