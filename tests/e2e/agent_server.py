"""A small real server for the agent's tests: a signed repository over HTTP, enrolment, leases and reports."""

from __future__ import annotations

import json
import secrets
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tidegate.core.assign import SHARE_ONE
from tidegate.core.errors import Untrusted
from tidegate.core.model import Candidate, Health, Manifest, Plan, PlanState, Probe, ReleaseTerms, SpeedLimit
from tidegate.core.wire import encode
from tidegate.trust import layout
from tidegate.trust.credentials import DeviceSecrets
from tidegate.trust.keys import load_signers
from tidegate.trust.metadata import latest_bytes, root_digest
from tidegate.trust.publisher import Publisher
from tidegate.trust.release import accept_release, describe_payload, pack_payload, sign_release, store_payload
from tidegate.trust.repository import init_repository
from tidegate.trust.tokens import new_token

COMPONENT = "edr-rules"
Answer = tuple[int, Any]


class World:
    """Repository, keys and the answers of one server. `now` is its wall clock: a number, or a function of time."""

    def __init__(self, directory: Path, now: Callable[[], int], components: tuple[str, ...] = (COMPONENT,)) -> None:
        self.directory, self.now = directory, now
        self.repo, self.offline, self.online = (directory / name for name in ("repo", "offline", "online"))
        keys = (1, 1)
        root = init_repository(
            self.repo, self.offline, self.online, components, now(), root_keys=keys, target_keys=keys, release_keys=keys
        )
        self.publisher = Publisher(self.repo, self.online)
        self.root = root
        self.token = new_token(root_digest(root), secrets.token_bytes(40)).text()
        self.device_secrets = DeviceSecrets({1: secrets.token_bytes(32)})
        self.devices: dict[str, tuple[int, str]] = {}
        self.plans: dict[str, Plan] = {}
        self.arm = "treated"
        self.leases: dict[tuple[str, str], str] = {}
        self.on_announce: Callable[[dict[str, Any]], Answer | None] = lambda message: None
        self.on_report: Callable[[dict[str, Any]], Answer | None] = lambda report: None
        self.lose_answers = 0
        self.announced: list[dict[str, Any]] = []
        self.reports: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.seqs: list[int] = []
        self.headers: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def secure(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def release(
        self,
        seq: int,
        files: Mapping[str, str],
        *,
        driver: str = "files",
        activate: tuple[str, ...] = (),
        probes: tuple[tuple[str, ...], ...] = (),
        soak_s: int = 5,
        component: str = COMPONENT,
        replaces: tuple[str, ...] = ("any", "absent"),
        dwell_s: int = 0,
        after_restart: bool = False,
        programs: tuple[str, ...] = (),
    ) -> Candidate:
        """Make, sign and accept a release; devices see it with the next plan."""
        source = self.directory / f"content-{component}-{seq}"
        for name, text in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text(text)
            (source / name).chmod(0o755 if name in programs else 0o644)
        data = pack_payload(source)
        payload = describe_payload(data)
        store_payload(self.repo, data, payload)
        found = tuple(Probe(f"probe-{i}", command) for i, command in enumerate(probes))
        health = Health(soak_s, 1, after_restart, found)
        manifest = Manifest(component, f"1.{seq}", seq, driver, payload, health, replaces, activate)
        now = self.now()
        speed = SpeedLimit(((0, SHARE_ONE),), now - 10, now + 86_400, dwell_s=dwell_s, clock_slack_s=0)
        terms = ReleaseTerms(seq, f"{seq:032x}", speed)
        standing = latest_bytes(self.repo, layout.release_role(component))
        signed = sign_release(standing, manifest, terms, load_signers(self.offline, "release"), now)
        accepted = accept_release(self.repo, component, signed, encode(manifest), now)
        return Candidate(layout.release_path(component, seq), accepted.digest, len(encode(manifest)), seq)

    def publish(self, candidate: Candidate, *, component: str = COMPONENT, **changes: Any) -> int:
        """Put a plan in place, or change the one that stands."""
        now = self.now()
        plan = Plan(
            f"r{candidate.seq}", component, 1, PlanState.OPEN, candidate, ("any", "absent"), "f" * 16, False, "c" * 64,
            60, 60, 0, now, now + 600,
        )  # fmt: skip
        self.plans[component] = replace(plan, **changes)
        return self.publisher.publish({name: encode(plan) for name, plan in self.plans.items()}, now)

    def kinds(self) -> list[tuple[str, str]]:
        """The reports that arrived, each once: (lease, kind)."""
        return sorted({(report["lease_id"], report["kind"]) for report in self.reports})

    def enrol(self, message: dict[str, Any]) -> Answer:
        if message["token"] != self.token:
            return 401, {"title": "Not trusted", "detail": "this token is not known"}
        index, device_id = self.devices.setdefault(message["public_key"], (len(self.devices), secrets.token_hex(16)))
        credential = self.device_secrets.credential(1, index, device_id)
        return 200, {"device_id": device_id, "index": index, "credential": credential, "root": self.root.decode()}

    def announce(self, device_id: str, message: dict[str, Any]) -> Answer:
        self.announced.append(message)
        answer = self.on_announce(message)
        if answer:
            return answer
        key = device_id, message["rollout"]
        lease_id = self.leases.setdefault(key, f"{message['rollout']}:1:{len(self.leases)}")
        return 200, {"lease_id": lease_id, "arm": self.arm, "ring": 1, "ttl_s": 60, "observe_s": 60}

    def take(self, device_id: str, message: dict[str, Any]) -> Answer:
        for report in message["reports"]:
            answer = self.on_report(report)
            if answer:
                return answer
        self.reports.extend(message["reports"])
        return 200, {"durable_seq": max(report["seq"] for report in message["reports"])}


def _handler(world: World) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # head and body in one packet

        def log_message(self, format: str, *args: object) -> None:
            del format, args

        def do_GET(self) -> None:
            path = self.path.removeprefix("/repo/")
            world.asked.append(path)
            world.headers.append(dict(self.headers.items()))
            file = world.repo / path
            if ".." in path or not file.is_file():
                return self._answer(404, {"title": "Not found"})
            data = file.read_bytes()
            tag = f'"{hash(data):x}"'
            if self.headers.get("If-None-Match") == tag:
                self.send_response(304)
                return self.end_headers()
            offset = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if offset else 200)
            if offset:
                self.send_header("Content-Range", f"bytes {offset}-{len(data) - 1}/{len(data)}")
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(data) - offset))
            self.end_headers()
            self.wfile.write(data[offset:])
            return None

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            message = json.loads(body)
            if self.path == "/v1/enrol":
                return self._answer(*world.enrol(message))
            try:
                claim = world.device_secrets.verify(self.headers.get("Authorization", ""), self.path, body)
            except Untrusted as error:
                return self._answer(401, {"title": "Not trusted", "detail": str(error)})
            world.seqs.append(claim.seq)
            take = {"/v1/announce": world.announce, "/v1/reports": world.take}[self.path]
            answer = take(claim.device_id, message)
            if world.lose_answers:
                world.lose_answers -= 1
                self.close_connection = True
                return None
            return self._answer(*answer)

        def _answer(self, status: int, value: Any) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if status < 400 else "application/problem+json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
