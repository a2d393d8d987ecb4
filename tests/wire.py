"""A server that answers just what a test says, byte by byte: as badly as servers do, and as attackers would."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress

Talk = Callable[[bytes], list[bytes | float | None]]


class Wire:
    """Answers each request with what `talk` says: pieces of bytes, pauses in seconds, None to hang up."""

    def __init__(self) -> None:
        self.talk: Talk = lambda request: [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]
        self.requests: list[bytes] = []
        self.connections = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), closing(connection), closing(connection.makefile("rb")) as file:
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    if not (line := file.readline()):
                        return
                    head += line
                length = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
                body = file.read(int(length[0].split(b":")[1])) if length else b""
                self.requests.append(head + body)
                for piece in self.talk(head):
                    if piece is None:
                        return
                    if not isinstance(piece, bytes):
                        time.sleep(piece)
                        continue
                    connection.sendall(piece)

    def close(self) -> None:
        self._listening.close()


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
