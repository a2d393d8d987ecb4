"""What stands beside a control plane and has secrets of its own: a collector, a webhook, recovery keys."""

from __future__ import annotations

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from tests.e2e.secrets_story import Story
from tests.e2e.stage import wait_for

from tidegate.intake.forward import FORWARD_PATH
from tidegate.trust.credentials import authorization

CASE = """
technicians: [{name: ann, site: HQ, skills: [keys]}, {name: bob, site: HQ}]
travel_min: {HQ: {ATL: 30}}
services: {desk: {value_per_h: 10, needs: 2}}
devices:
  - {service: desk, site: HQ, minutes: 30, count: 3, steps: [Start in safe mode., Type the key.]}
"""


def through_a_collector(story: Story) -> None:
    """Let a collector be asked rightly and wrongly, and the controller by a collector that is none."""
    words = ("--role", "collector", "--devices", "127.0.0.1:0", "--log-level", "debug")
    collector = story.begin("collector", "tidegate", "serve", *words)
    told = story.home / f"collector-{collector.pid}.json"
    wait_for(lambda: told.exists() or collector.poll() is not None, 120)
    known = json.loads((story.place / "agent" / "identity.json").read_text())
    body = json.dumps({"rollout": "none", "plan_version": 0, "installed": None, "seq": 1, "attempt": 1}).encode()
    trust = ssl.create_default_context(cafile=story.home / "tls" / "ca.pem")
    with httpx.Client(base_url=json.loads(told.read_text())["devices"], verify=trust, timeout=120) as client:
        for number, (path, sent) in enumerate((("/v1/announce", body), ("/v1/reports", b"{"), ("/v1/else", body))):
            header = authorization(known["credential"], 2 + number, path, sent)
            for one in (header, header[:-1], f"Tidegate {known['credential']}"):
                story.ask(client, "POST", path, 400, content=sent, headers={"authorization": one})
    # A collector that the controller does not know, by a token that is nobody's.
    operators = json.loads((story.home / "server.json").read_text())["operators"]
    story.keep_secret("a collector's wrong token", "not the collectors' token at all")
    bearer = {"authorization": "Bearer not the collectors' token at all"}
    with httpx.Client(base_url=operators, verify=trust, timeout=120) as client:
        story.ask(client, "POST", FORWARD_PATH, 400, content=body, headers=bearer)
        right = {"authorization": f"Bearer {(story.home / 'collector.token').read_text().strip()}"}
        story.ask(client, "GET", "/api/v1/status", 400, headers=right)  # it is no operator's


def subscribe(story: Story) -> ThreadingHTTPServer:
    """Subscribe a webhook that keeps what it is told and never takes it."""

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["content-length"]))
            story.told[f"{len(story.told)} the webhook"] = str(self.headers).encode() + data
            self.send_response(500)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    hook = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=hook.serve_forever, args=(0.05,), daemon=True).start()
    url = f"http://127.0.0.1:{hook.server_port}/hook"
    for name, text in (("hook", "what the webhook and we know"), ("short", "too short")):
        (story.own / name).touch(0o600)
        (story.own / name).write_text(text)
    story.keep_secret("the webhook's secret", "what the webhook and we know")
    story.command("release", "subscribe", url, "--secret-file", story.own / "hook")
    story.command("release", "subscribe", url, "--secret-file", story.own / "hook", code=1)
    story.command("release", "subscribe", f"{url}/2", "--secret-file", story.own / "short", code=2)
    key = story.secrets["the webhook's secret"].decode()
    story.command("release", "subscribe", f"http://{key}@x.example/", "--secret-file", story.own / "hook", code=2)
    for more in ((), ("--json",)):
        story.command("release", "subscribers", *more)
    return hook


def recover(story: Story) -> None:
    """Take recovery keys in, also from files that are wrong; show one, once."""
    (story.place / "case.yaml").write_text(CASE)
    story.command("recovery", "open", story.place / "case.yaml", "--name", "july")
    keys = [f"{n}{n}{n}111-222222-333333-444444" for n in range(1, 4)]
    for number, key in enumerate(keys, 1):
        story.keep_secret(f"recovery key {number}", key)
    rows = {
        "keys.csv": "".join(f"{number},{key}\n" for number, key in enumerate(keys, 1)),
        "turned.csv": f"{keys[0]},1\n",
        "torn.csv": f"1,{keys[0]},{keys[1]}\n",
    }
    for name, text in rows.items():
        (story.own / name).touch(0o600)
        (story.own / name).write_text(text)
    for name in ("turned.csv", "torn.csv"):
        story.command("recovery", "keys", "july", story.own / name, code=2)
    story.command("recovery", "keys", "july", story.own / "keys.csv")
    story.command("recovery", "next", "july", "ann")
    story.shown("recovery", "key", "july", 1, "--who", "ann")  # once, to her; that is what it is for
    story.command("recovery", "key", "july", 1, "--who", "bob", code=1)
    story.command("recovery", "status", "july", "--out", story.place / "july.html")
    for token in json.loads((story.home / "contingency" / "queues" / "july" / "tokens.json").read_text()).values():
        story.keep_secret("a technician's link", token)
