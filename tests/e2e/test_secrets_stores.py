"""The passwords of stores (PostgreSQL, NATS): in their file, and in no log, argument, error, backup or address."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from tests.e2e.secrets_story import Story, Watch, check_files, check_told
from tests.e2e.stage import wait_for
from tests.stores import LOOPBACK, PostgresqlServer, free_ports, make_store, wait_until_open

from tidegate.core.errors import BadInput
from tidegate.log.address import check_address

pytestmark = [pytest.mark.room("log"), pytest.mark.room("cli"), pytest.mark.timeout(600)]
UrlOf = Callable[[str], str]
OWN = ("keys/*.pem", "device-secrets.json", "operator.token", "collector.token")
MAY_HOLD = [f"{place}/{name}" for place in ("home", "again") for name in OWN]
MAY_HOLD += ["offline/*.pem", "own/*", "tidegate.backup"]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://tidegate:hunter2hunter2@h/db",
        "postgresql://h/db?user=x&password=hunter2hunter2",
        "postgresql://h/db?user=x&p%61ssword=hunter2hunter2",
        "postgresql://h/db?PASSWORD=hunter2hunter2",
        "postgresql://h/db?sslpassword=hunter2hunter2",
        "nats://tidegate:hunter2hunter2@h:4222/log",
        "nats://h:4222/log?token=hunter2hunter2",
        "nats://tidegate:hunter2hunter2@h:4222",
        "//tidegate:hunter2hunter2@h/db",
        "mysql://tidegate:hunter2hunter2@h/db",
        "tidegate:hunter2hunter2@h/db",
    ],
)
def test_an_address_with_a_password_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_address(url)
    assert "hunter2" not in str(refused.value)


@contextmanager
def _postgresql() -> Iterator[tuple[UrlOf, str]]:
    server = make_store("postgresql")
    assert isinstance(server, PostgresqlServer)
    try:
        yield lambda name: server.url(Path(name)), server.password_file.read_text()
    finally:
        server.close()


@contextmanager
def _nats() -> Iterator[tuple[UrlOf, str]]:
    """One node that asks for a user's password."""
    pytest.importorskip("nats", reason="nats-py is not installed: tidegate[nats]")
    if shutil.which("nats-server") is None:
        pytest.skip("NATS is not installed: apt install nats-server")
    place, (port,) = Path(tempfile.mkdtemp(prefix="tidegate-nats-")), free_ports(1)
    password = secrets.token_hex(12)
    (place / "conf").write_text(f'authorization {{ user: "tidegate", password: "{password}" }}\n')
    words = ["nats-server", "-c", str(place / "conf"), "-a", LOOPBACK, "-p", str(port), "-js", "-sd", str(place / "js")]
    with (place / "log").open("ab") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        wait_until_open(LOOPBACK, port, process, place / "log")
        yield lambda name: f"nats://tidegate@{LOOPBACK}:{port}/{name}?replicas=1&partitions=1", password
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("store", [_postgresql, _nats], ids=["postgresql", "nats"])
def test_a_stores_password_stays_in_its_file(
    store: Callable[[], AbstractContextManager[tuple[UrlOf, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/self/environ").exists():
        pytest.skip("no /proc here: the processes' arguments cannot be seen")
    (tmp_path / "run").mkdir(mode=0o700)
    story, watch = Story(tmp_path / "run"), Watch(tmp_path / "run")
    monkeypatch.setenv("TIDEGATE_HOME", str(story.home))
    monkeypatch.setenv("TIDEGATE_SESSION", str(story.own / "session.json"))
    with store() as (url_of, password):
        try:
            _play(story, url_of, password)
        finally:
            story.end()
            watch.end()
    story.told |= watch.seen
    assert any(b"serve" in said for said in watch.seen.values()), "the watch slept"
    for log in story.place.glob("*.log"):
        story.told[log.name] = log.read_bytes()
        assert log.stat().st_size, log
    check_told(story)
    holding = check_files(story, MAY_HOLD)
    assert story.own / "store" in holding and story.home / "operator.token" in holding


def _play(story: Story, url_of: UrlOf, password: str) -> None:
    story.keep_secret("the store's password", password)
    story.keep_secret("a wrong password", "not the store's password at all")
    for name, text in (("store", password), ("other", "not the store's password at all")):
        (story.own / name).touch(0o600)
        (story.own / name).write_text(text)
    url, offline = url_of("first"), story.place / "offline"
    words = ("init", "--component", "edr-rules", "--offline-keys", offline)
    at = url.index("@")
    for wrong in (f"{url[:at]}:{password}{url[at:]}", f"{url}&password={password}", f"//x:{password}@h/y"):
        story.command(*words, "--log", wrong, code=2)
    story.command(*words, "--log", url, "--log-password-file", story.own / "store")
    for name, wrong in (("absent", story.own / "absent"), ("refused", story.own / "other")):
        failed = story.begin(name, "tidegate", "serve", "--log", url, "--log-password-file", wrong)
        assert failed.wait(120) == 1
        said = (story.place / f"{name}.log").read_text()
        assert said.startswith("tidegate: ") and said.count("\n") == 1, said
    ends = ("--devices", "127.0.0.1:0", "--operators", "127.0.0.1:0")
    server = story.begin("server", "tidegate", "serve", "--log-level", "debug", *ends)
    wait_for(lambda: (story.home / "server.json").exists() or server.poll() is not None, 120)
    story.keep_secret("operator.token", (story.home / "operator.token").read_text().strip())
    story.command("token", "create", "--uses", 1, "--file", story.own / "token")
    story.keep_secret("enrolment token", (story.own / "token").read_text().strip().rsplit(".", 1)[1])
    for looks in ("status", "status --json", "token list", "device list"):
        story.command(*looks.split())
    story.command("backup", story.place / "tidegate.backup")
    story.command("backup", "verify", story.place / "tidegate.backup")
    second, again = url_of("second"), story.place / "again"
    restore = ("backup", "restore", story.place / "tidegate.backup", "--home", again, "--log", second)
    story.command(*restore, "--log-password-file", story.own / "other", code=1)
    story.command(*restore, "--log-password-file", story.own / "store")
    known = json.loads((again / "log.json").read_text())
    assert known["password_file"] == str(story.own / "store") and password not in json.dumps(known)
