"""An HTTP answer whose every byte must come before a deadline: head, chunk sizes and trailers, not the body alone."""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Callable


class Patience:
    """How long one connection's answers may take.

    Args:
        io_timeout_s: the longest wait for the next byte; the sockets have it as their timeout.
        deadline_s: the longest time from `begin` to the last byte.
    """

    def __init__(self, io_timeout_s: float, deadline_s: float) -> None:
        self.io_timeout_s, self.deadline_s = io_timeout_s, deadline_s
        self._until = 0.0

    def begin(self) -> float:
        """Start anew; gives the moment of the monotonic clock at which it ends."""
        self._until = time.monotonic() + self.deadline_s
        return self._until

    def wait(self, connection: socket.socket, read: Callable[[], int | None]) -> int | None:
        """Read once. Raises TimeoutError when the deadline passes, however lately a byte has come."""
        left_s = self._until - time.monotonic()
        if left_s >= self.io_timeout_s:
            return read()
        if left_s > 0:
            connection.settimeout(left_s)
            try:
                return read()
            except TimeoutError:
                pass
            finally:
                connection.settimeout(self.io_timeout_s)
        raise TimeoutError(f"the answer took more than {self.deadline_s:g} s")


class _Timed(io.RawIOBase):
    """The bytes of a socket, as long as patience lasts."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket, patience: Patience) -> None:
        self._raw, self._connection, self._patience = raw, connection, patience

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._patience.wait(self._connection, lambda: self._raw.readinto(buffer))

    def close(self) -> None:
        self._raw.close()
        super().close()


class TimedAnswer(http.client.HTTPResponse):
    """The standard library's answer, which by itself bounds each wait for a byte and never the whole."""

    def __init__(self, patience: Patience, sock: socket.socket, method: str | None = None) -> None:
        super().__init__(sock, method=method)
        self.fp = io.BufferedReader(_Timed(self.fp.detach(), sock, patience))
