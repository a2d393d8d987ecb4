"""The demo's stage: a real control plane and real agents, each a process of its own, that all go when it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tidegate.agent.enrol import enrol
from tidegate.cli.demo_content.world import build_world
from tidegate.cli.home import Home
from tidegate.cli.init import make_control_plane
from tidegate.cli.office import OfficeClient
from tidegate.core.errors import Refused

COMPONENT = "edr-rules"
SITES = ("ATL", "CDG", "NRT")
START_WITHIN_S = 20.0
END_WITHIN_S = 3.0
POLL_S = 0.4


@dataclass(frozen=True, slots=True)
class DemoDevice:
    """One device of the demo: its number, its directory, and the agent's process."""

    number: int
    path: Path
    device_id: str

    @property
    def agent_home(self) -> Path:
        """The agent's own directory."""
        return self.path / "agent"

    def installed(self) -> str | None:
        """Give the digest's first digits of what the pointer names now, or None."""
        current = self.agent_home / "components" / COMPONENT / "current"
        return current.resolve().name if current.exists() else None

    def serves(self) -> bool:
        """Ask the protected program itself whether it works."""
        done = subprocess.run(["sh", str(self.path / "system" / "checkin")], capture_output=True, check=False)
        return done.returncode == 0


class Stage:
    """Starts processes and ends them all, whatever happens: a context manager."""

    def __init__(self, keep: Path | None = None) -> None:
        """Take a temporary directory, or `keep`, which then stays."""
        self._keep = keep
        self.path = keep if keep is not None else Path(tempfile.mkdtemp(prefix="tidegate-demo-"))
        self.path.mkdir(parents=True, exist_ok=True)
        self.home = Home(self.path / "control-plane")
        self.offline = self.path / "offline-keys"
        self.devices: list[DemoDevice] = []
        self.agents: dict[int, subprocess.Popen[bytes]] = {}
        self.server: subprocess.Popen[bytes] | None = None
        self._ports = ("127.0.0.1:0", "127.0.0.1:0")

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def start_server(self) -> OfficeClient:
        """Start the control plane, made anew if there is none; it keeps its ports when started again."""
        if not self.home.operator_token.exists():
            make_control_plane(self.home, self.offline, [COMPONENT])
        self.home.address.unlink(missing_ok=True)
        words = ["serve", "--home", str(self.home.path), "--devices", self._ports[0], "--operators", self._ports[1]]
        self.server = self._spawn([sys.executable, "-m", "tidegate", *words], self.path / "server.log")
        deadline = time.monotonic() + START_WITHIN_S
        while not self.home.address.exists():
            if self.server.poll() is not None or time.monotonic() > deadline:
                said = (self.path / "server.log").read_text()[-500:]
                raise Refused(f"the control plane did not start: {said}")
            time.sleep(0.02)
        address = self.home.read_address()
        self._ports = (address["devices"].split("//")[1], address["operators"].split("//")[1])
        return OfficeClient(self.home.path)

    def kill_server(self) -> None:
        """Kill the control plane at once (SIGKILL), as a power cut would."""
        if self.server is not None:
            self.server.kill()
            self.server.wait()

    def stop_server(self) -> None:
        """Let the control plane end in order."""
        if self.server is not None:
            self.server.terminate()
            self.server.wait(START_WITHIN_S)

    def enrol_devices(self, count: int, office: OfficeClient) -> None:
        """Make devices with files of their own and enrol them, a token a site."""
        tokens: dict[str, str] = {}
        for site in SITES:
            body: dict[str, Any] = {"labels": {"site": site, "service": "check-in"}, "uses": count, "expires_s": 600}
            tokens[site] = office.post("/api/v1/tokens", body, "demo")["token"]
        for number in range(count):
            path = self.path / f"device-{number:02d}"
            settings = build_world(path, number)
            identity = enrol(
                path / "agent",
                office.devices_url,
                tokens[SITES[number % len(SITES)]],
                facts={"demo": "yes"},
                components=[COMPONENT],
                settings={COMPONENT: settings},
                poll_s=POLL_S,
            )
            self.devices.append(DemoDevice(number, path, identity.device_id))

    def start_agents(self) -> None:
        """Start every agent that does not run."""
        for device in self.devices:
            self.start_agent(device)

    def start_agent(self, device: DemoDevice) -> None:
        """Start one agent: a process, and a session of its own for it and what it protects."""
        words = [sys.executable, "-m", "tidegate.agent", "--home", str(device.agent_home)]
        self.agents[device.number] = self._spawn(words, device.path / "agent.log")

    def _spawn(self, words: list[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as file:
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)

    def end(self) -> None:
        """End every process that was started here, with all that they started, and remove the directory."""
        started = [*self.agents.values(), *([self.server] if self.server else [])]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in started:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, number)
            deadline = time.monotonic() + END_WITHIN_S
            for process in started:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(deadline - time.monotonic(), 0.01))
        if self._keep is None:
            shutil.rmtree(self.path, ignore_errors=True)
