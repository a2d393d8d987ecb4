"""Large files, read piece by piece: whoever takes an hour over a payload holds a connection, and no file besides."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio.to_thread
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope


class _Pieces:
    """A file that is opened anew for each piece, and must be the same one each time."""

    def __init__(self, path: str, seen: os.stat_result) -> None:
        self._path, self._is, self._at = path, (seen.st_ino, seen.st_dev, seen.st_size), 0

    async def seek(self, at: int) -> None:
        self._at = at

    async def read(self, size: int) -> bytes:
        """Read on. Raises OSError if it is another file by now: half an answer can only be broken off."""
        found = await anyio.to_thread.run_sync(self._read, size)
        self._at += len(found)
        return found

    def _read(self, size: int) -> bytes:
        with open(self._path, "rb", buffering=0) as file:
            seen = os.fstat(file.fileno())
            if (seen.st_ino, seen.st_dev, seen.st_size) != self._is:
                raise OSError(f"{self._path} was changed while it was read")
            file.seek(self._at)
            return file.read(size)


class _PieceResponse(FileResponse):
    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator[Any]:
        assert self.stat_result is not None
        yield _Pieces(os.fspath(self.path), self.stat_result)


class PieceFiles(StaticFiles):
    """Starlette's files with ranges and conditions, read piece by piece."""

    def file_response(
        self, full_path: Any, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Answer for a file (called by Starlette)."""
        response = _PieceResponse(cast(str, full_path), status_code=status_code, stat_result=stat_result)
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response
