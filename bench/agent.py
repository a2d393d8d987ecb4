"""The agent's weight over TLS: memory, processor time of a poll, start to decision, size; beside a bare Python's."""

from __future__ import annotations

import json
import os
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import distribution
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.e2e.agent_server import World

import tidegate
from bench.rows import Row
from tidegate.agent.config import Home
from tidegate.agent.enrol import enrol

STARTS, POLLS = 7, 60
POLL_S = 60.0
MEMORY_LIMIT_KB, IDLE_LIMIT, START_LIMIT_S = 40 * 1024, 0.001, 0.5
"""What the agent may take: resident, share of a core at one poll a minute, exec to first decision."""
BARE = (sys.executable, "-c", "import time; time.sleep(float(__import__('sys').argv[1]))")
AGENT = (sys.executable, "-m", "tidegate.agent")
NEEDS = ("tuf", "securesystemslib", "cryptography", "cffi", "urllib3")
ROOMS = ("agent", "core", "trust", "drivers")


@dataclass(frozen=True)
class Weight:
    """One agent's figures."""

    resident_kb: int
    poll_cpu_s: float
    start_s: float
    start_cpu_s: float


def _resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def _cpu_s(pid: int) -> float:
    """Processor time of all threads, in seconds, to the nanosecond where the kernel keeps it."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except OSError:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _timed(command: Sequence[str]) -> tuple[float, float]:
    """Run to the end; give wall and processor time in seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took_s = time.monotonic() - began
    return took_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@contextmanager
def device(place: Path) -> Iterator[tuple[World, Home]]:
    """Give a server and an enrolled device that polls once a minute; nothing is installed yet."""
    world = World(place / "server", lambda: int(time.time()))
    before = os.environ.get("SSL_CERT_FILE")
    try:
        os.environ["SSL_CERT_FILE"] = str(_speak_tls(world, place))
        enrol(place / "home", world.address.replace("http:", "https:"), world.token, poll_s=POLL_S)
        yield world, Home(place / "home")
    finally:
        os.environ.pop("SSL_CERT_FILE")
        if before:
            os.environ["SSL_CERT_FILE"] = before
        world.close()


def _speak_tls(world: World, place: Path) -> Path:
    """Put a certificate before the server; give the file with the authorities that a machine trusts, and with ours."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = made.add_extension(names, False).add_extension(x509.BasicConstraints(True, None), True)
    certificate = made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    own, trusted = place / "own.pem", place / "trusted.pem"
    own.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate)
    before = ssl.get_default_verify_paths().cafile  # an agent of a public address takes in all of these
    trusted.write_bytes((Path(before).read_bytes() if before else b"") + certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own)
    world.secure(context)
    return trusted


def weigh(command: Sequence[str], world: World, home: Home) -> tuple[Weight, Weight]:
    """Weigh an agent that is up to date, and a bare Python, their starts one after the other."""
    whole = [*command, "--home", str(home.path)]
    world.publish(world.release(1, {"rules": "good"}, soak_s=1))
    for _ in range(2):  # fetched and confirmed; and whatever a first start unpacks is unpacked
        subprocess.run([*whole, "--once"], check=True, capture_output=True, timeout=300)
    starts, bare = [], []
    for _ in range(STARTS):
        starts.append(_timed([*whole, "--once"]))
        bare.append(_timed([*BARE, "0"]))
    status = json.loads(home.status_file.read_text())
    assert "up to date" in status["sentence"], status
    resident, poll_cpu_s = _idle(whole, world, home)
    process = subprocess.Popen([*BARE, "30"])
    time.sleep(1.0)
    bare_kb = _resident_kb(process.pid)
    process.kill()
    process.wait()
    middle = statistics.median
    return (
        Weight(resident, poll_cpu_s, middle(t for t, _ in starts), middle(c for _, c in starts)),
        Weight(bare_kb, 0.0, middle(t for t, _ in bare), middle(c for _, c in bare)),
    )


def _idle(whole: Sequence[str], world: World, home: Home) -> tuple[int, float]:
    """Give resident memory after many polls, and the processor time of one."""
    settings = home.load_settings()
    home.save_settings(replace(settings, poll_s=0.1))
    process = subprocess.Popen(whole, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def polled() -> int:
        return sum(path == "metadata/timestamp.json" for path in world.asked)

    def wait(count: int) -> int:
        give_up, since = time.monotonic() + 120, polled()
        while polled() - since < count:
            assert process.poll() is None and time.monotonic() < give_up
            time.sleep(0.05)
        return polled()

    try:
        before = wait(10)
        cpu_s = _cpu_s(process.pid)
        polls = wait(POLLS) - before
        return _resident_kb(process.pid), (_cpu_s(process.pid) - cpu_s) / polls
    finally:
        process.kill()
        process.wait()
        home.save_settings(settings)


def size_bytes() -> int:
    """Give the bytes of all that the agent needs besides Python: its rooms, and the libraries that these import."""
    source = Path(tidegate.__file__).parent
    own = sum(path.stat().st_size for room in ROOMS for path in (source / room).rglob("*") if path.is_file())
    return own + sum(
        path.stat().st_size
        for name in NEEDS
        for file in distribution(name).files or ()
        if (path := Path(str(file.locate()))).is_file()
    )


def rows(full: bool = False, write: bool = False) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name, device(Path(name)) as (world, home):
        agent, bare = weigh(AGENT, world, home)
    python = sum(path.stat().st_size for path in Path(os.__file__).parent.glob("*.py"))
    share, mb, bare_start = agent.poll_cpu_s / POLL_S, 1024.0, "a bare Python's start"
    return [
        Row("agent idle, resident", agent.resident_kb / mb, "MB", "a bare Python", bare.resident_kb / mb),
        Row("agent idle, resident", agent.resident_kb / mb, "MB", "the limit", MEMORY_LIMIT_KB / mb),
        Row("agent idle at one poll a minute", 100 * share, "% of a core", "the limit", 100 * IDLE_LIMIT),
        Row("agent, one poll", agent.poll_cpu_s * 1e3, "ms of a core", bare_start, bare.start_cpu_s * 1e3),
        Row("agent, start to decision and end", agent.start_s * 1e3, "ms", bare_start, bare.start_s * 1e3),
        Row("agent, start to decision and end", agent.start_s * 1e3, "ms", "the limit", START_LIMIT_S * 1e3),
        Row("agent, the same", agent.start_cpu_s * 1e3, "ms of a core", bare_start, bare.start_cpu_s * 1e3),
        Row("agent installed, besides Python", size_bytes() / 1e6, "MB", "Python's own .py files", python / 1e6),
    ]
