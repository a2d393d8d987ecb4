"""`tidegate ledger witness`: cosigns ledgers that continue what it saw before (C2SP tlog-witness)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tidegate.cli.home import Home
from tidegate.cli.serve_files import Bounds, make_doors
from tidegate.cli.serve_ports import make_server, run_loop, until_told
from tidegate.cli.serve_tls import Tls, choose_tls
from tidegate.cli.show import out
from tidegate.core.errors import BadInput, Refused, Untrusted
from tidegate.trust.checkpoint import parse_checkpoint
from tidegate.trust.durable import make_directory, write_durably
from tidegate.trust.keys import create_key, key_path
from tidegate.trust.note import COSIGNATURE, ED25519, NoteKey, NoteSigner, load_note_signer, parse_key, parse_note
from tidegate.trust.witness import Witness
from tidegate.trust.witness_call import MOST_CALL, SIZE_TYPE, cosignature_lines, origin_hash, read_call

Answer = tuple[int, str, bytes]
PLAIN = "text/plain; charset=utf-8"


class WitnessApp:
    """The witness's HTTP: `POST /add-checkpoint`, and `GET /<origin hash>/checkpoint` for monitors.

    One ledger's checkpoints are taken one after the other, and each is durable before its signature is given out.
    """

    def __init__(
        self, directory: Path, signer: NoteSigner, ledgers: Sequence[NoteKey], now: Callable[[], float] = time.time
    ) -> None:
        """Take up what was seen before. Raises Untrusted if that cannot be read any more."""
        make_directory(directory, 0o700)
        self._directory, self._signer, self._now = directory, signer, now
        self._witnesses = {key.name: Witness(directory / origin_hash(key.name), key, signer) for key in ledgers}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        if path == "/add-checkpoint":
            body = await _body(receive)
            status, kind, data = self.add(body) if method == "POST" else (405, PLAIN, b"POST a checkpoint here\n")
        elif method == "GET":
            status, kind, data = self.newest(path)
        else:
            status, kind, data = 405, PLAIN, b"only GET\n"
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(data)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    def newest(self, path: str) -> Answer:
        """Give the newest checkpoint that was cosigned for a ledger, by the hash of its name."""
        known = {f"/{origin_hash(origin)}/checkpoint": origin_hash(origin) for origin in self._witnesses}
        place = self._directory / f"{known.get(path, '-')}.cosigned"
        return (200, PLAIN, place.read_bytes()) if place.exists() else (404, PLAIN, b"nothing was cosigned\n")

    def add(self, body: bytes | None) -> Answer:
        """Take a checkpoint that continues the last one, remember it, and give the cosignature."""
        try:
            if body is None:
                raise BadInput(f"a request has at most {MOST_CALL} bytes")
            call = read_call(body)
            note = parse_note(call.note)
            found = parse_checkpoint(note.text)
        except (BadInput, Untrusted) as error:
            return 400, PLAIN, f"{error}\n".encode()
        witness = self._witnesses.get(found.origin)
        if witness is None:
            return 404, PLAIN, b"this witness does not know a ledger of this name\n"
        if not witness.trusts(call.note):
            return 403, PLAIN, b"the checkpoint is not signed by the key that this witness knows for the ledger\n"
        if call.old > found.size:
            return 400, PLAIN, b"the old size is greater than the checkpoint's\n"
        if call.old != witness.seen.size:
            return 409, SIZE_TYPE, f"{witness.seen.size}\n".encode()
        try:
            cosigned = witness.add(call.note, call.proof, int(self._now()))
        except Untrusted as error:
            return 422, PLAIN, f"{error}\n".encode()
        write_durably(self._directory / f"{origin_hash(found.origin)}.cosigned", cosigned)
        return 200, PLAIN, cosignature_lines(cosigned, self._signer.key)


async def _body(receive: Any) -> bytes | None:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if sum(map(len, parts)) > MOST_CALL:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def witness(
    *,
    directory: Path,
    name: str,
    ledger: list[str],
    listen: str = "127.0.0.1:8480",
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    without_tls: bool = False,
) -> None:
    """Be a witness: cosign each checkpoint that continues the one before, and refuse forks and cuts. Until Ctrl-C.

    It is run by somebody else than the control plane's people, who enter its key and address with tidegate keys ledger.

    Args:
        directory: Where its key and its memory lie; made at the first start. Never set it back to an older copy.
        name: The witness's name, as in witness.example.org/1; the same at every start.
        ledger: A ledger's public key, NAME+ID+BASE64. Can be given several times.
        listen: Where to listen, HOST:PORT.
        tls_cert: Certificate chain (PEM).
        tls_key: Its private key.
        without_tls: Listen beyond this machine without TLS, because something in front ends it.
    """
    keys = [parse_key(text) for text in ledger]
    if any(key.kind != ED25519 for key in keys) or len({key.name for key in keys}) < len(keys):
        raise BadInput("--ledger takes ledgers' keys, each of another ledger, and no witness's key")
    host, _, port = listen.rpartition(":")
    if not port.isdecimal() or int(port) > 65_535:
        raise BadInput(f"--listen must be HOST:PORT, not {listen!r}")
    end = (host.strip("[]") or "127.0.0.1", int(port))
    tls = choose_tls(Home(directory), (tls_cert, tls_key), without_tls, [end])
    make_directory(directory, 0o700)
    with _alone(directory):
        if not key_path(directory, "witness").exists():
            create_key(directory, "witness")
        signer = load_note_signer(key_path(directory, "witness"), name, COSIGNATURE)
        app = WitnessApp(directory, signer, keys)
        with contextlib.suppress(KeyboardInterrupt):
            run_loop(_serve(app, end, tls, signer.key))


async def _serve(app: WitnessApp, end: tuple[str, int], tls: Tls, key: NoteKey) -> None:
    def opened(port: int) -> None:
        out(f"Witness key: {key.text()}")
        out(f"Witness:     {tls.url_for_others(end[0], port)}")
        out("The ledger's people enter it: tidegate keys ledger --witness KEY=URL --quorum 1 --output ledger.bundle")

    door = replace(make_doors("collector", Bounds())["devices"], most_bytes=0)
    await until_told(make_server(app, end, tls, door), opened)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold a witness's memory for one process: two could each sign one side of a fork."""
    with (directory / "lock").open("wb") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # no flock on this system; the service manager keeps it single there
            pass
        except OSError as error:
            raise Refused(f"a witness runs on {directory} already") from error
        yield
