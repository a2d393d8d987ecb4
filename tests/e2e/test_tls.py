"""TLS on real sockets: a control plane, an enrolment, a poll and an operator over it; and every certificate refused."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.agent_server import World as DeviceWorld
from tests.e2e.stage import wait_for
from tests.server import COMPONENT
from tests.typed import Run, one_line, typed

from tidegate.cli import serve_ports
from tidegate.cli.home import Home
from tidegate.cli.init import make_control_plane
from tidegate.cli.local_ca import LOCAL_NAMES, Made, create_ca, issue, see
from tidegate.cli.serve_tls import Tls, choose_tls

pytestmark = [pytest.mark.room("cli"), pytest.mark.room("agent"), pytest.mark.room("trust")]
NOW = datetime.now(UTC)


@pytest.fixture
def tidegate(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process; give exit code, output and the error's line."""
    monkeypatch.setenv("TIDEGATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TIDEGATE_SESSION", str(tmp_path / "session.json"))
    return typed(capsys)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path / "home")
    make_control_plane(found, tmp_path / "offline", [COMPONENT])
    return found


def agent_once(home: Path) -> str:
    """Let an agent read the plan once; give its sentence."""
    words = [sys.executable, "-m", "tidegate.agent", "--home", str(home), "--once"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    return str(json.loads((home / "status.json").read_text())["sentence"])


def files_below(place: Path) -> dict[str, bytes]:
    return {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}


# --- the whole way over TLS ------------------------------------------------------------------------------------------


@contextmanager
def served(home: Home) -> Iterator[dict[str, str]]:
    words = ["serve", "--home", str(home.path), "--devices", "127.0.0.1:0", "--operators", "127.0.0.1:0"]
    with (home.path.parent / "serve.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "tidegate", *words], stdout=log, stderr=log)
    try:
        wait_for(lambda: home.address.exists() or process.poll() is not None, 120)
        yield home.read_address()
    finally:
        process.kill()
        process.wait(120)


def test_enrolment_poll_and_operators_over_tls(home: Home, tidegate: Run, tmp_path: Path) -> None:
    assert tidegate("tls", "create-ca")[0] == 0
    assert tidegate("tls", "issue", "tidegate.example")[0] == 0
    secret, password = tmp_path / "token", tmp_path / "password"
    password.write_text("correct horse battery staple")
    password.chmod(0o600)
    with served(home) as address:
        for url in address.values():
            assert url.startswith("https://127.0.0.1:")
            host, port = "127.0.0.1", int(url.rsplit(":", 1)[1])
            shown = ssl.get_server_certificate((host, port), timeout=60)
            assert see(shown.encode(), "").fingerprint == see(home.certificate.read_bytes(), "").fingerprint
            with socket.create_connection((host, port), 60) as line:
                line.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"HTTP" not in line.recv(100), "plain HTTP is not answered"
        code, out, _ = tidegate("token", "create", "--uses", 2, "--file", secret)
        assert code == 0 and f"--ca {home.ca}" in out
        enrol = ("enrol", "--server", address["devices"], "--token-file", secret, "--agent-home")
        one_line(tidegate(*enrol, tmp_path / "none"), 1, "no authority that is trusted here")
        assert tidegate(*enrol, tmp_path / "a", "--ca", home.ca)[0] == 0
        assert json.loads((tmp_path / "a" / "agent.json").read_text())["ca"] == str(home.ca)
        assert "no component has a plan" in agent_once(tmp_path / "a").lower()
        tidegate("operator", "create", "ada", "--role", "admin", "--password-file", password)
        login = ("login", "ada", "--server", address["operators"], "--password-file", password)
        other = tmp_path / "other.pem"
        other.write_bytes(create_ca(NOW, 10).certificate)
        one_line(tidegate(*login, "--ca", other), 1, "was told no password: its certificate comes from no authority")
        assert tidegate(*login, "--ca", home.ca)[0] == 0
        assert tidegate("status")[0] == 0
        bearer = {"authorization": f"Bearer {home.operator_token.read_text().strip()}"}
        trust = ssl.create_default_context(cafile=home.ca)
        figures = httpx.get(address["operators"] + "/metrics", headers=bearer, verify=trust, timeout=60).text
        left_s = next(line for line in figures.splitlines() if line.startswith("tidegate_tls_certificate_expires"))
        assert 396 * 86_400 < float(left_s.split()[1]) <= 397 * 86_400
        plain = address["devices"].replace("https:", "http:")
        words = ("enrol", "--server", plain, "--token-file", secret, "--agent-home", tmp_path / "none")
        one_line(tidegate(*words), 1, "if it speaks TLS, its address begins with https://")


# --- what is refused, by devices and operators -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def ca() -> Made:
    return create_ca(NOW, 100)


def _asked_once(port: int, trust: ssl.SSLContext) -> ssl.SSLSocket:
    line = trust.wrap_socket(socket.create_connection(("127.0.0.1", port), 60), server_hostname="127.0.0.1")
    line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"204" in line.recv(1000)
    return line


def test_an_idle_line_over_tls_does_not_hold_up_the_end(tmp_path: Path, ca: Made, monkeypatch: Any) -> None:
    """A client that keeps its line open says no goodbye; the server would wait for it as long as its grace lasts."""
    monkeypatch.setattr(serve_ports, "GRACE_S", 100_000)
    monkeypatch.setattr("asyncio.constants.SSL_SHUTDOWN_TIMEOUT", 100_000)
    made = issue(ca, ["tidegate.example"], NOW, 10)
    (tmp_path / "server.pem").write_bytes(made.certificate)
    (tmp_path / "key.pem").write_bytes(made.key)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def play() -> None:
        tls = Tls(tmp_path / "server.pem", tmp_path / "key.pem")
        server = serve_ports.make_server(app, ("127.0.0.1", 0), tls)
        work = asyncio.create_task(server.listen())
        while not server.started:
            await asyncio.sleep(0.01)
        trust = ssl.create_default_context(cadata=ca.certificate.decode())
        line = await asyncio.to_thread(_asked_once, server.port, trust)
        with line:
            server.should_exit = True
            await asyncio.wait_for(work, 60)

    asyncio.run(play())


def _wrong_ca(ca: Made) -> Made:
    return issue(create_ca(NOW, 100), ["tidegate.example"], NOW, 10)


def _expired(ca: Made) -> Made:
    return issue(ca, ["tidegate.example"], NOW - timedelta(days=20), 10)


def _early(ca: Made) -> Made:
    return issue(ca, ["tidegate.example"], NOW + timedelta(days=20), 10)


def _wrong_host(ca: Made) -> Made:
    return issue(ca, ["tidegate.example"], NOW, 10, also=())


def _server_context(made: Made, place: Path) -> ssl.SSLContext:
    (place / "server.pem").write_bytes(made.certificate + made.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "server.pem")
    return context


REFUSED = [
    (_wrong_ca, "no authority that is trusted here"),
    (_expired, "has expired"),
    (_early, "is not valid yet"),
    (_wrong_host, "is for another"),
]


@pytest.mark.parametrize(("make", "words"), REFUSED, ids=["wrong CA", "expired", "not yet valid", "wrong host name"])
def test_a_certificate_that_does_not_hold_is_one_line_and_changes_nothing(
    make: Callable[[Made], Made], words: str, ca: Made, tidegate: Run, home: Home, tmp_path: Path
) -> None:
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(ca.certificate)
    world = DeviceWorld(tmp_path / "world", lambda: int(NOW.timestamp()))
    try:
        (tmp_path / "token").write_text(world.token)
        enrol = ("enrol", "--token-file", tmp_path / "token", "--ca", trusted, "--server")
        agent = tmp_path / "agent"
        assert tidegate(*enrol, world.address, "--agent-home", agent)[0] == 0
        heard = (len(world.asked), len(world.devices), len(world.seqs))
        world.secure(_server_context(make(ca), tmp_path))
        bad = world.address.replace("http:", "https:")

        one_line(tidegate(*enrol, bad, "--agent-home", tmp_path / "new"), 1, words)
        assert not (tmp_path / "new" / "agent.json").exists()
        before = files_below(agent)
        one_line(tidegate(*enrol, bad, "--agent-home", agent, "--again"), 1, words)
        assert files_below(agent) == before

        settings = json.loads((agent / "agent.json").read_text())
        (agent / "agent.json").write_text(json.dumps({**settings, "server": bad, "ca": str(trusted)}))
        before = files_below(agent)
        assert words in agent_once(agent)
        after = files_below(agent)
        assert {name for name in after if after[name] != before.get(name)} <= {
            "status.json",
            "agent.lock",
            "metadata/metadata/root_history/1.root.json",
        }, "its own root aside"

        home.address.write_text(json.dumps({"devices": bad, "operators": bad}))
        (tmp_path / "password").write_text("a password")
        (tmp_path / "password").chmod(0o600)
        login = ("login", "ada", "--server", bad, "--ca", trusted, "--password-file", tmp_path / "password")
        one_line(tidegate(*login), 1, words)
        assert not (tmp_path / "session.json").exists()
        os.mkdir(home.ca.parent)
        home.ca.write_bytes(ca.certificate)
        one_line(tidegate("status"), 1, words)
        assert (len(world.asked), len(world.devices), len(world.seqs)) == heard, "nothing was said to such a server"
    finally:
        world.close()


# --- what `serve` refuses --------------------------------------------------------------------------------------------


def test_a_server_beyond_this_machine_needs_a_certificate_that_holds(home: Home, tidegate: Run, tmp_path: Path) -> None:
    beyond = ("serve", "--devices", "0.0.0.0:0")
    one_line(tidegate(*beyond), 2, "tidegate tls create-ca")
    one_line(tidegate("tls", "issue", "tidegate.example"), 2, "tidegate tls create-ca")
    assert tidegate("tls", "create-ca")[0] == 0
    one_line(tidegate("tls", "create-ca"), 1, "holds a CA already")
    for bad in ("https://tidegate.example", "a b", "", "1.2.3", "x:8470"):
        one_line(tidegate("tls", "issue", bad), 2, "is no host name")
    assert not home.certificate.exists()
    assert tidegate("tls", "issue", "tidegate.example", "10.1.2.3")[0] == 0
    first, key = home.certificate.read_bytes(), home.certificate_key.read_bytes()
    assert set(see(first, "").names) == {"tidegate.example", "10.1.2.3", *LOCAL_NAMES}
    assert tidegate("tls", "issue", "tidegate.example")[0] == 0, "renewed"
    assert (home.certificate.read_bytes() != first, home.certificate_key.read_bytes()) == (True, key)
    for path, mode in ((home.ca_key, 0o600), (home.certificate_key, 0o600), (home.ca.parent, 0o700)):
        assert path.stat().st_mode & 0o777 == mode

    ca = Made(home.ca.read_bytes(), home.ca_key.read_bytes())
    files = {"old.pem": _expired(ca).certificate, "key.pem": _expired(ca).key, "none.pem": b"none"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    def given(certificate: str, key: str) -> tuple[object, ...]:
        return (*beyond, "--tls-cert", tmp_path / certificate, "--tls-key", tmp_path / key)

    one_line(tidegate(*given("none.pem", "key.pem")), 2, "no certificate")
    one_line(tidegate(*given("missing", "key.pem")), 2, "is not there")
    one_line(tidegate(*given("old.pem", "key.pem")), 2, "is not the unencrypted private key")
    home.certificate.write_bytes(_expired(ca).certificate)
    one_line(tidegate(*beyond), 2, "is not the unencrypted private key")
    home.certificate.write_bytes(issue(ca, ["tidegate.example"], NOW - timedelta(days=20), 10, key).certificate)
    one_line(tidegate(*beyond), 2, "expired")


def test_addresses_that_are_told_are_those_that_the_certificate_names(home: Home, tmp_path: Path) -> None:
    made = issue(create_ca(NOW, 100), ["*.example", "tidegate.example"], NOW, 10, also=())
    files = (tmp_path / "cert.pem", tmp_path / "key.pem")
    files[0].write_bytes(made.certificate)
    files[1].write_bytes(made.key)
    tls = choose_tls(home, files, False, [("0.0.0.0", 1)])
    assert tls.url_for_others("0.0.0.0", 8470) == "https://tidegate.example:8470"
    assert tls.url_here("::", 8471) == "https://[::1]:8471"
    assert tls.name_to_ask("127.0.0.1") == "tidegate.example"
    assert "runs out in 9 days" in tls.warning()
    assert choose_tls(home, (None, None), True, [("0.0.0.0", 1)]).url_here("127.0.0.1", 1) == "http://127.0.0.1:1"


def test_an_operator_on_the_servers_machine_checks_the_name_of_a_certificate_from_elsewhere(
    home: Home, tidegate: Run, tmp_path: Path
) -> None:
    """As with a certificate of a public authority: it names the host, and not 127.0.0.1."""
    ca = create_ca(NOW, 100)
    home.ca.parent.mkdir(mode=0o700)
    home.ca.write_bytes(ca.certificate)
    world = DeviceWorld(tmp_path / "world", lambda: int(NOW.timestamp()))
    try:
        world.secure(_server_context(issue(ca, ["tidegate.example"], NOW, 10, also=()), tmp_path))
        here = {"operators": world.address.replace("http:", "https:"), "devices": ""}
        home.address.write_text(json.dumps({**here, "operators_name": "tidegate.example"}))
        one_line(tidegate("status"), 2, "the server answered 404")  # trusted, and no operators' port
        home.address.write_text(json.dumps({**here, "operators_name": "other.example"}))
        one_line(tidegate("status"), 1, "is for another host name")
    finally:
        world.close()
