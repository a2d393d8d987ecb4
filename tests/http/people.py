"""Named operators of a running control plane, each with a session of her own."""

from __future__ import annotations

from typing import Any

import httpx
from tests.server import COMPONENT, World

WORDS = {"ada": "correct horse battery", "bob": "staple correct horse", "vera": "looks at everything"}


class People:
    """A world with three named operators, each with a client of its own."""

    def __init__(self, world: World, roles: dict[str, str]) -> None:
        self.world, self.clients = world, {}
        for name, role in roles.items():
            body = {"name": name, "role": role, "password": WORDS[name]}
            reply = world.operator("/api/v1/operators", **body)
            assert reply.status_code == 201, reply.text
            self.clients[name] = self.log_in(name)

    def log_in(self, name: str, password: str = "") -> httpx.Client:
        base = str(self.world.operators.base_url)
        reply = httpx.post(
            f"{base}/api/v1/sessions", json={"name": name, "password": password or WORDS[name]}, timeout=90
        )
        assert reply.status_code == 201, reply.text
        return httpx.Client(base_url=base, timeout=90, headers={"authorization": f"Bearer {reply.json()['token']}"})

    def post(self, name: str, path: str, **body: object) -> httpx.Response:
        return self.clients[name].post(path, json={"why": "test", **body})

    def act(self, what: str) -> tuple[str, str]:
        found = [(act.who, act.why) for act in self.world.controller.state.acts if act.what == what]
        return found[-1]

    def close(self) -> None:
        for client in self.clients.values():
            client.close()


def ready(people: People, devices: int = 4) -> dict[str, Any]:
    for _ in range(devices):
        people.world.enrol()
    people.world.release(1)
    return {
        "component": COMPONENT,
        "release": "1",
        "max_harmed": 2,
        "placebo_per_treated": 1.0,
        "observe_s": 10,
        "allow_hold": True,
    }
