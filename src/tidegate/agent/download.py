"""A payload on its way to the device: in slices, so that nothing else waits for it, and resumed after a cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from tidegate.agent.transport import HttpRefused
from tidegate.core.errors import Untrusted
from tidegate.core.model import Payload
from tidegate.trust.durable import make_directory, room_for
from tidegate.trust.errors import DiskFull, Unreachable
from tidegate.trust.layout import payload_path
from tidegate.trust.payload import verify_payload

Stream = Callable[[str, int], Iterator[bytes]]
LEAST_PACE = 1000
"""Bytes a second, on average: what comes more slowly is given up, so that no server can hold a device for ever."""
GRACE_S = 60.0


class Download:
    """One payload into one file, whose name is the payload's digest.

    Args:
        stream: (path, offset) -> pieces, an empty one if the answer begins at 0 after all; see transport.Link.stream.
        payload: from the manifest: digest and length are checked at the end, and no more is read than the length.
        directory: where partial files lie; what of this payload is there already is not fetched again.
        take: is told of each piece's length, and gives the seconds to wait after it: see pace.Bucket.
    """

    def __init__(
        self, stream: Stream, payload: Payload, directory: Path, take: Callable[[int], float] = lambda length: 0.0
    ) -> None:
        make_directory(directory, mode=0o700)
        self._stream, self._payload, self._take = stream, payload, take
        self.wait_s = 0.0
        """How long to wait before the next `advance`, so as to keep to the owner's limit."""
        self.file = directory / f"{payload.sha256}.part"
        self._pieces: Iterator[bytes] | None = None
        self._out: BinaryIO | None = None
        self._length = 0
        self._spent_s = 0.0

    @property
    def progress(self) -> float:
        """The share that is here, 0 to 1."""
        return self._length / self._payload.length if self._payload.length else 1.0

    def advance(self, budget_s: float) -> bool:
        """Fetch for about so long.

        Returns:
            True once the file is whole and has the right digest.

        Raises:
            Unreachable, HttpRefused: from the server; what is here is kept, and the next call goes on from there.
            Untrusted: wrong content, or more of it than the manifest says, or too slow; it is removed.
            DiskFull: no room; the partial file is removed.
        """
        began = time.monotonic()
        try:
            with room_for("the payload"):
                done = self._read(began, budget_s)
        except BaseException as error:
            self.close()
            if isinstance(error, Untrusted | DiskFull) or (isinstance(error, HttpRefused) and error.status == 416):
                self.file.unlink(missing_ok=True)
            raise
        finally:
            self._spent_s += time.monotonic() - began
        return done

    def close(self) -> None:
        """Let go of file and connection."""
        if self._out is not None:
            self._out.close()
        close = getattr(self._pieces, "close", None)
        self._out, self._pieces = None, None
        if close:
            close()

    def _read(self, began: float, budget_s: float) -> bool:
        if self._pieces is None or self._out is None:
            self._open()
        assert self._pieces is not None and self._out is not None
        while self._length < self._payload.length:
            piece = next(self._pieces, None)
            if piece is None:
                raise Unreachable(f"the payload was cut off after {self._length} of {self._payload.length} bytes")
            if not piece:
                self._out.seek(0)
                self._out.truncate()
                self._length = 0
            self._length += len(piece)
            if self._length > self._payload.length:
                raise Untrusted(f"the payload is longer than the {self._payload.length} bytes that its manifest says")
            self._out.write(piece)
            spent_s = self._spent_s + time.monotonic() - began
            if spent_s > GRACE_S + self._length / LEAST_PACE:
                raise Untrusted(f"the payload comes at less than {LEAST_PACE} bytes a second; given up")
            self.wait_s = self._take(len(piece))
            if (self.wait_s or time.monotonic() - began > budget_s) and self._length < self._payload.length:
                return False
        self.close()
        verify_payload(self.file, self._payload)
        return True

    def _open(self) -> None:
        here = self.file.stat().st_size if self.file.exists() else 0
        self._length = here = here if here <= self._payload.length else 0
        self._out = self.file.open("r+b" if here else "wb")
        self._out.seek(here)
        whole = here == self._payload.length
        self._pieces = iter(()) if whole else self._stream(payload_path(self._payload.sha256), here)
