"""`tidegate enrol`: makes a directory a device's home."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tidegate.agent.enrol import check_server
from tidegate.agent.enrol import enrol as enrol_device
from tidegate.cli.show import out, pairs_of
from tidegate.core.errors import BadInput, NotFound
from tidegate.trust.durable import read_bytes


def enrol(
    *,
    server: str,
    agent_home: Path,
    token_file: Path | None = None,
    label: list[str] | None = None,
    component: list[str] | None = None,
    setting: list[str] | None = None,
    poll_s: float = 60.0,
    repo: str = "",
    ca: Path | None = None,
    without_tls: bool = False,
    again: bool = False,
    ledger_key: Path | None = None,
) -> None:
    """Enrol a device: it makes its key, shows its token, and gets an identity and the root of its trust.

    Args:
        server: Where devices reach the control plane, as in https://tidegate.example:8470.
        agent_home: The agent's directory; made if missing.
        token_file: A file with the token; default: standard input. (Never an argument: others could read it.)
        label: NAME=VALUE to ask for; the token must grant it.
        component: What this device takes updates for; default: all that have a plan.
        setting: COMPONENT.KEY=VALUE for the component's driver on this device, as in edr-rules.watch=/srv.
        poll_s: How often the agent reads the plan, in seconds.
        repo: Where the signed files are, if not at SERVER/repo/.
        ca: The certificates (PEM) that the server's must come from; default: the system's. The agent remembers where.
        without_tls: Show the token, and talk, over plain http:// beyond this machine: for trials alone.
        again: Enrol this home anew: it stays the same device, and keeps its settings.
        ledger_key: A file with the ledger's key (REPO/ledger/key, from someone you trust): then this device takes no
            release without a proof that the ledger holds it.
    """
    token = _token(token_file)
    check_server(server, without_tls)
    identity = enrol_device(
        agent_home,
        server,
        token,
        pairs_of("--label", label or ()),
        {"os": platform.system(), "release": platform.release(), "machine": platform.machine(), **_interpreters()},
        component or (),
        _settings(setting or ()),
        poll_s,
        repo,
        ca=str(ca.absolute()) if ca else "",
        again=again,
        ledger_key=read_bytes(ledger_key, "the ledger's key").decode(errors="replace").strip() if ledger_key else "",
    )
    out(f"Enrolled as device {identity.device_id} (number {identity.index}) in {agent_home}.")
    out(f"Next: tidegate agent run --home {agent_home}")


def _interpreters() -> dict[str, str]:
    """The interpreter versions on this machine: the gate tries releases in those that the fleet runs."""
    try:
        return {"yara_x": version("yara-x")}
    except PackageNotFoundError:
        return {}


def _token(path: Path | None) -> str:
    if path is not None:
        try:
            return path.read_text().strip()
        except OSError as error:
            raise NotFound(f"the token file {path} cannot be read: {error.strerror}") from error
    if sys.stdin.isatty():
        raise BadInput("give the token with --token-file, or on standard input")
    return sys.stdin.readline().strip()


def _settings(entries: list[str] | tuple[()]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name, value in pairs_of("--setting", entries).items():
        component, dot, key = name.rpartition(".")
        if not dot or not component or not key:
            raise BadInput(f"--setting must be COMPONENT.KEY=VALUE, not {name}={value!r}")
        found.setdefault(component, {})[key] = value
    return found
