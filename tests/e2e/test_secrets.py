"""A whole run of a control plane and a device, and then a search for every secret in all that was told or written."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tests.e2e.secrets_beside import recover, subscribe, through_a_collector
from tests.e2e.secrets_story import RIGHT, WRONG, Story, Watch, check_files, check_told
from tests.e2e.stage import events_of, wait_for

from tidegate.cli.local_ca import create_ca
from tidegate.trust.credentials import authorization

pytestmark = [pytest.mark.room("cli"), pytest.mark.room("trust"), pytest.mark.timeout(600)]
PLAN = """
service: check-in
trigger: {vendor: V1}
owner: Ines
deputy: Luc
fallback: Paper lists at each desk.
rto: 6h
rpo: 1h
steps: [{kind: manual, do: Start in safe mode., minutes: 20, per_device: true, skill: keys}]
communication: [{to: passengers, how: notice, within: 30min}]
drill: {last: 2026-10-01}
"""
MAY_HOLD = ("home/keys/*.pem", "home/tls/*-key.pem", "home/device-secrets.json", "home/operator.token",
            "home/collector.token", "home/operators.json", "home/contingency/*.pem", "offline/*.pem", "holder/*.pem",
            "home/subscribers.json", "home/contingency/queues/*/*.json", "agent/identity.json", "own/*",
            "tidegate.backup")  # fmt: skip
"""The files that are there to hold a secret; `own` is the operator's directory: session, token, password."""


def _private_keys(story: Story) -> None:
    for path in story.place.rglob("*.pem"):
        data = path.read_bytes()
        if b"PRIVATE KEY" not in data:
            continue
        name = str(path.relative_to(story.place))
        story.keep_secret(f"{name}, the body", data.split(b"-----\n")[1].replace(b"\n", b"")[-40:])
        with contextlib.suppress(TypeError):  # encrypted
            private: Any = load_pem_private_key(data, None)
            if hasattr(private, "private_bytes_raw"):
                story.keep_secret(f"{name}, the seed", private.private_bytes_raw())


def _device(story: Story, when: str) -> dict[str, Any]:
    known = json.loads((story.place / "agent" / "identity.json").read_text())
    story.keep_secret(f"the device's key {when}", known["key"])
    story.keep_secret(f"the device's credential {when}", known["credential"].rsplit(".", 1)[1])
    return known


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _strings(one)
    elif isinstance(value, str) and len(value) >= 32:
        yield value


def _server_secrets(story: Story, when: str) -> None:
    for number, secret in enumerate(_strings(json.loads((story.home / "device-secrets.json").read_text()))):
        story.keep_secret(f"the devices' secret {number} {when}", secret)
    for name in ("operator.token", "collector.token"):
        story.keep_secret(name, (story.home / name).read_text().strip())


def _set_up(story: Story) -> dict[str, str]:
    story.process("init", "--component", "edr-rules", "--offline-keys", story.place / "offline")
    story.command("tls", "create-ca")
    story.command("tls", "issue", "tidegate.example")
    words = ("--devices", "127.0.0.1:0", "--operators", "127.0.0.1:0", "--log-level", "debug")
    server = story.begin("server", "tidegate", "serve", *words)
    wait_for(lambda: (story.home / "server.json").exists() or server.poll() is not None, 120)
    _server_secrets(story, "at first")
    return dict(json.loads((story.home / "server.json").read_text()))


def _people(story: Story, address: dict[str, str]) -> None:
    story.command("operator", "create", "ada", "--role", "admin", "--password-file", story.own / "right")
    story.command("login", "ada", "--password-file", story.own / "wrong", code=1)
    other = story.own / "other-ca.pem"
    other.write_bytes(create_ca(datetime.now(UTC), 10).certificate)
    story.command("login", "ada", "--password-file", story.own / "right", "--ca", other, code=1)
    story.process("login", "ada", "--password-file", story.own / "right")
    story.keep_secret("the session", json.loads((story.own / "session.json").read_text())["token"])
    for name, found in json.loads((story.home / "operators.json").read_text()).items():
        story.keep_secret(f"the hash of {name}'s password", found)


def _enrol(story: Story, address: dict[str, str]) -> str:
    for name in ("token", "spare"):
        story.command("token", "create", "--uses", 1, "--file", story.own / name)
        story.keep_secret(f"enrolment {name}", (story.own / name).read_text().strip().rsplit(".", 1)[1])
    words = ("enrol", "--server", address["devices"], "--ca", story.home / "tls" / "ca.pem", "--poll-s", 0.1)
    story.process(*words, "--token-file", story.own / "token", "--agent-home", story.place / "agent")
    story.command(*words, "--token-file", story.own / "token", "--agent-home", story.place / "again", code=1)
    cut = story.own / "cut"
    cut.touch(0o600)
    cut.write_text((story.own / "spare").read_text().strip()[:-1])
    story.command(*words, "--token-file", cut, "--agent-home", story.place / "again", code=2)
    _device(story, "at first")
    return (story.own / "spare").read_text().strip()


def _ask_wrongly(story: Story, address: dict[str, str], token: str) -> None:
    known = json.loads((story.place / "agent" / "identity.json").read_text())
    operator = (story.home / "operator.token").read_text().strip()
    trust = ssl.create_default_context(cafile=story.home / "tls" / "ca.pem")
    with httpx.Client(base_url=address["devices"], verify=trust, timeout=120) as client:
        for body in ({"token": [token]}, {"token": token + "0"}, {"token": token, "public_key": known["key"]}):
            story.ask(client, "POST", "/v1/enrol", 400, json=body)
        story.ask(client, "POST", "/v1/enrol", 400, content=f'{{"token": "{token}", "x": }}'.encode())
        forged = {"device_id": known["device_id"], "issued": 1, "proof": known["key"] * 2}
        story.ask(client, "POST", "/v1/renew", 400, json=forged)
        header = authorization(known["credential"], 1, "/v1/announce", b"{}")
        for wrong in (f"Tidegate {known['credential']}", header[:-1] + ("1" if header[-1] == "0" else "0"), "Bearer x"):
            story.ask(client, "POST", "/v1/announce", 400, content=b"{}", headers={"authorization": wrong})
        story.ask(client, "POST", "/v1/reports", 400, json={"reports": [known["credential"]]})
        for path in (f"/v1/{token}", f"/repo/{token}", f"/repo/payloads/{token}?{token}"):
            story.ask(client, "GET", path, 400)
    with httpx.Client(base_url=address["operators"], verify=trust, timeout=120) as client:
        bearer = {"authorization": f"Bearer {operator}"}
        for wrong in ({"authorization": f"Bearer {operator}x"}, {"authorization": operator}, {}):
            story.ask(client, "GET", "/api/v1/status", 400, headers=wrong)
        for body in ({"name": "ada", "password": WRONG}, {"name": WRONG, "password": RIGHT}):
            story.ask(client, "POST", "/api/v1/sessions", 400, json=body)
        story.ask(client, "POST", "/api/v1/sessions", 400, json={"name": "ada", "password": [RIGHT]})
        story.ask(client, "POST", "/api/v1/sessions", 400, content=f'{{"password": "{RIGHT}'.encode())
        for path in (f"/api/v1/{operator}", f"/{operator}"):
            story.ask(client, "GET", path, 400, headers=bearer)
        body = {"who": "ada", "why": "x", "name": "bob", "role": "king", "password": RIGHT}
        story.ask(client, "POST", "/api/v1/operators", 400, json=body, headers=bearer)
        for path in ("/metrics", "/api/v1/status", "/api/v1/devices", "/api/v1/operators", "/api/v1/tokens"):
            story.ask(client, "GET", path, 200, headers=bearer)


def _roll_out(story: Story) -> None:
    content = story.place / "content"
    content.mkdir()
    (content / "rules.txt").write_text("rules\n")
    draft = story.place / "draft"
    named = ("--component", "edr-rules", "--version", "1", "--seq", 1, "--driver", "files", "--soak-s", 1)
    story.command("release", "create", content, *named, "--probe", "well=test -d {current}", "--out-dir", draft)
    story.command("release", "sign", draft, "--trial", "--offline-keys", story.place / "offline")
    story.command("keys", "rotate", "devices", "--why", "a drill")
    _server_secrets(story, "later")
    limits = ("--max-harmed", 1, "--placebo-per-treated", 0, "--observe", "60s", "--allow-hold")
    story.command("rollout", "start", "--component", "edr-rules", "--release", 1, *limits)
    story.begin("agent", "tidegate.agent", "--home", story.place / "agent", "-v")
    first = story.secrets["the device's credential at first"].decode()
    wait_for(lambda: _device(story, "later")["credential"].rsplit(".", 1)[1] != first, 120)
    wait_for(lambda: '"confirmed": 1' in story.command("rollout", "list", "--json"), 120)


def _export(story: Story) -> None:
    holder, offline, out = story.place / "holder", story.place / "offline", story.place / "bundles"
    out.mkdir()
    story.command("keys", "create", "eve", "--directory", holder, "--passphrase-file", story.own / "phrase")
    story.command("keys", "create", "zoe", "--directory", holder, "--unencrypted")
    change = out / "change.bundle"
    story.command("keys", "rotate", "root", "--add", holder / "eve.pub.json", "--output", change)
    story.command("keys", "sign", change, "--key", offline / "root-1.pem")
    story.command("keys", "sign", change, "--key", holder / "eve.pem", "--passphrase-file", story.own / "wrong", code=2)
    story.command("keys", "sign", change, "--key", holder / "eve.pem", "--passphrase-file", story.own / "phrase")
    story.command("keys", "import", change, code=1)
    story.command("keys", "rotate", "online", "--output", out / "online.bundle")
    story.command("keys", "export", "root", "--output", out / "renew.bundle")
    story.command("evidence", "health", "edr-rules", "--key", holder / "zoe.pem", "--output", out / "health.json")
    story.command("timeline", "--device", "0", "--out-dir", out)
    stop = ("--component", "edr-rules", "--everything", "--reason", "x", "--key", offline / "release-1.pem")
    story.command("emergency", "stop", out / "stop.json", *stop)
    (story.place / "plans").mkdir()
    (story.place / "plans" / "check-in.yaml").write_text(PLAN)
    story.command("contingency", "pack", story.place / "plans", "--out", out / "plans.zip")
    looks = (
        "status",
        "device list",
        "device why 0",
        "operator list",
        "keys list",
        "keys devices",
        "token list",
        "tls show",
    )
    for words in looks:
        story.command(*words.split())
    story.command("agent", "status", "--home", story.place / "agent")
    story.command("backup", story.place / "tidegate.backup", "--json")
    for more in ((), ("--json",)):
        story.command("backup", "verify", story.place / "tidegate.backup", *more)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    if not Path("/proc/self/environ").exists():
        pytest.skip("no /proc here: the processes' arguments cannot be seen")
    place = tmp_path_factory.mktemp("secrets")
    found, watch = Story(place), Watch(place)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TIDEGATE_HOME", "TIDEGATE_SESSION"):
            patch.setenv(name, found._env[name])
        try:
            address = _set_up(found)
            _people(found, address)
            token = _enrol(found, address)
            _ask_wrongly(found, address, token)
            through_a_collector(found)
            hook = subscribe(found)
            _roll_out(found)
            recover(found)
            wait_for(lambda: any("webhook" in where for where in found.told), 120)
            hook.shutdown()
            hook.server_close()
            _export(found)
            found.command("logout")
        finally:
            found.end()
            watch.end()
    _private_keys(found)
    found.told |= watch.seen
    found.told["the events"] = json.dumps(events_of(found.home / "log.db")).encode()
    words = set(b"\0".join(watch.seen.values()).split(b"\0"))
    assert {b"serve", b"tidegate.agent"} <= words, "the watch slept"
    yield found


def test_no_secret_is_told_by_any_command_process_answer_or_event(story: Story) -> None:
    assert len(story.secrets) > 25 and len(story.told) > 50
    check_told(story)


def test_secrets_lie_where_they_belong_alone_and_for_their_owners_eyes(story: Story) -> None:
    """Logs, bundles, accounts, the repository and all else that was written: only these files may hold a secret."""
    holding = check_files(story, MAY_HOLD)
    assert {"identity.json", "operator.token", "device-secrets.json", "tidegate.backup"} <= {p.name for p in holding}
