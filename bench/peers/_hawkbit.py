"""Eclipse hawkBit, built from a clone of its public repository: one JVM, and PostgreSQL on the same core."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.intake import _free_port
from bench.peers._drive import rate
from bench.peers._port import Skip, answers, end, request, start, tree_cpu_s, wait_for
from bench.peers._postgres import Postgres
from bench.peers._sources import sources

VERSION = "0.9.0"
"""Of June 2025. Later ones (1.0.4, 1.1.0) ask for libraries that Maven Central did not have everywhere."""
UNUSED = ("hawkbit-mcp", "hawkbit-sdk", "hawkbit-simple-ui", "hawkbit-ui")
BUILD_S = 1800
TOKEN = "bench"
SERVER = ":hawkbit-update-server"
ADMIN = "Basic " + base64.b64encode(b"admin:admin").decode()
DDI = "hawkbit.server.ddi.security.authentication.gatewaytoken"
WARM, WARM_S = 60_000, 90.0
"""Polls before anything is measured, and the longest time for them: the JVM compiles what is used often."""


class HawkBit:
    """A hawkBit whose devices have a gateway token; some have an update to report on, the others nothing new."""

    name = f"hawkBit {VERSION}"
    once = False

    def __init__(self, place: Path, cache: Path) -> None:
        self._jar = built(cache)
        self._place, self._devices, self._given = place, 0, 0
        self.port = 0
        self._stack = contextlib.ExitStack()
        self._postgres = Postgres("hawkbit")
        self._process: subprocess.Popen[bytes] | None = None

    def stand(self, devices: int) -> None:
        """Start once, and grow: it takes minutes to start, and to compile what is used often."""
        fresh = self._process is None
        if fresh:
            self._start()
        self._fill(devices)
        if fresh:
            rate(self.port, [self.poll(n % devices) for n in range(WARM)], self.cpu_s, WARM_S)

    def _start(self) -> None:
        self._stack.callback(self._postgres.stop)
        self._postgres.start()
        self.port = _free_port()
        log = self._place / "hawkbit.log"
        said = {
            "server.port": self.port,
            "spring.profiles.active": "postgresql",
            "spring.datasource.url": f"jdbc:postgresql://127.0.0.1:{self._postgres.port}/hawkbit",
            "spring.datasource.username": "peer",
            "hawkbit.dmf.rabbitmq.enabled": "false",
            "management.health.rabbit.enabled": "false",
            "hawkbit.server.security.dos.filter.enabled": "false",
            f"{DDI}.enabled": "true",
            f"{DDI}.key": TOKEN,
            "org.eclipse.hawkbit.artifact.repository.path": self._place / "artifacts",
        }
        words = ["java", "-Xmx1g", "-jar", self._jar, *(f"--{name}={value}" for name, value in said.items())]
        self._process = start(words, log)
        self._stack.callback(lambda: end(self._process))
        wait_for("hawkBit", lambda: answers(self.port, "/actuator/health", (200, 401)), self._process, log)

    def end(self) -> None:
        self._stack.close()

    def _fill(self, devices: int) -> None:
        """Make one device by the API, and all others as copies of its row: that many calls would take an hour."""
        if not self._devices:
            one = {"controllerId": "pattern", "name": "pattern", "securityToken": "t"}
            self._call("POST", "/rest/v1/targets", [one])
        found = self._postgres.sql("SELECT column_name FROM information_schema.columns WHERE table_name = 'sp_target'")
        columns = ", ".join(name for (name,) in found if name not in ("id", "controller_id", "name"))
        self._postgres.sql(
            f"INSERT INTO sp_target (controller_id, name, {columns}) SELECT 'device-' || n, 'device-' || n, {columns}"
            f" FROM sp_target, generate_series({self._devices}, {devices - 1}) n WHERE controller_id = 'pattern'"
        )
        self._devices = devices
        self._postgres.sql("ANALYZE")

    def _call(self, method: str, path: str, body: Any) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        head = {"authorization": ADMIN, "content-type": "application/json", "accept": "application/json"}
        connection.request(method, path, json.dumps(body), head)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status >= 300:
            raise Skip(f"hawkBit answered {answer.status} to {method} {path}: {said[:300].decode(errors='replace')}")
        return json.loads(said) if said else None

    def poll(self, device: int) -> Sequence[bytes]:
        head = {"authorization": f"GatewayToken {TOKEN}", "accept": "application/json"}
        return (request("GET", f"/DEFAULT/controller/v1/device-{device}", b"", **head),)

    def reports(self, first: int, count: int) -> list[bytes]:
        self._given += 1
        said = {"name": "rules", "version": str(self._given), "type": "os"}
        [module] = self._call("POST", "/rest/v1/softwaremodules", [said])
        made = [{**said, "modules": [{"id": module["id"]}]}]
        [given] = self._call("POST", "/rest/v1/distributionsets", made)
        for at in range(first, first + count, 1000):
            some = [{"id": f"device-{n}"} for n in range(at, min(at + 1000, first + count))]
            self._call("POST", f"/rest/v1/distributionsets/{given['id']}/assignedTargets", some)
        actions = dict(
            self._postgres.sql(
                "SELECT t.controller_id, a.id FROM sp_action a JOIN sp_target t ON t.id = a.target ORDER BY a.id"
            )
        )
        body = json.dumps({"status": {"execution": "closed", "result": {"finished": "success"}, "details": ["done"]}})
        head = {"authorization": f"GatewayToken {TOKEN}", "content_type": "application/json"}
        return [
            request(
                "POST",
                f"/DEFAULT/controller/v1/device-{n}/deploymentBase/{actions[f'device-{n}']}/feedback",
                body.encode(),
                **head,
            )
            for n in range(first, first + count)
        ]

    def kept(self) -> int:
        return int(self._postgres.sql("SELECT count(*) FROM sp_action WHERE NOT active")[0][0])

    def cpu_s(self) -> float:
        assert self._process is not None
        return tree_cpu_s([self._process.pid, self._postgres.pid])


def built(cache: Path) -> Path:
    """Give hawkBit's jar, and build it where there is none. Raises Skip."""
    jar = cache / f"hawkbit-{VERSION}.jar"
    if jar.exists():
        return jar
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise Skip(f"hawkBit needs {program}, which is not installed: apt install default-jdk-headless maven")
    place = sources("hawkbit", VERSION, cache)
    for pom in place.rglob("pom.xml"):  # what the server does not need, and what cannot be had everywhere
        text = pom.read_text()
        for module in UNUSED:
            text = text.replace(f"<module>{module}</module>", "")
        pom.write_text(text)
    words = [
        "mvn",
        "-q",
        "-B",
        "package",
        "-DskipTests",
        f"-Drevision={VERSION}",
        "-pl",
        ":hawkbit-update-server",
        "-am",
    ]
    began = time.monotonic()
    try:
        done = subprocess.run(words, cwd=place, capture_output=True, timeout=BUILD_S, check=False, env=os.environ)
    except subprocess.TimeoutExpired:
        raise Skip(f"hawkBit could not be built within {BUILD_S} s") from None
    made = list(place.glob("hawkbit-monolith/hawkbit-update-server/target/hawkbit-update-server-*.jar"))
    if done.returncode or not made:
        said = next((line for line in done.stdout.decode().splitlines() if "ERROR" in line), "")
        raise Skip(f"hawkBit {VERSION} could not be built ({time.monotonic() - began:.0f} s): {said[:300]}")
    shutil.copy(made[0], jar)
    shutil.rmtree(place)
    return jar
