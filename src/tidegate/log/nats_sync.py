"""Whether a NATS cluster has on its disks what it acknowledges: told by its version, and by its monitoring ports."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

_FIRST = (2, 10)
_TIMEOUT_S = 2.0
_LARGEST = 1 << 20
_HARM = "a power cut that takes a quorum of the nodes at once loses what was acknowledged"
_SET = "set sync_interval: always in the jetstream block of every node (docs/operations.md)"


def sync_warning(version: tuple[int, int], servers: Sequence[str], monitor: int) -> str:
    """Say in a sentence what is wrong or not known, or nothing where every node syncs before it acknowledges.

    Args:
        version: of the server that answers.
        servers: all of them, `nats://host:port`.
        monitor: the port that their monitoring (`http_port`) listens on, 0 if it is not known.
    """
    if version < _FIRST:
        return (
            f"NATS {version[0]}.{version[1]} acknowledges up to two minutes before its disks hold it: {_HARM};"
            f" use NATS {_FIRST[0]}.{_FIRST[1]} or newer and {_SET}"
        )
    if not monitor:
        return (
            f"It is not known whether NATS syncs before it acknowledges; if not, {_HARM}: {_SET}. With ?monitor=8222"
            " in the log's address, the nodes' monitoring port, each start looks"
        )
    hosts = dict.fromkeys(str(urlsplit(server).hostname) for server in servers)
    late = [host for host in hosts if not _syncs(host, monitor)]
    return f"NATS on {', '.join(late)} acknowledges before its disk holds it: {_HARM}; {_SET}" if late else ""


def syncs_always(varz: Mapping[str, Any]) -> bool:
    """Read what a node's `/varz` says."""
    try:
        return varz["jetstream"]["config"]["sync_always"] is True
    except (KeyError, TypeError):
        return False


def _syncs(host: str, port: int) -> bool:
    """Ask one node; whoever does not answer is taken for one that does not."""
    name = f"[{host}]" if ":" in host else host
    try:
        with build_opener(ProxyHandler({})).open(f"http://{name}:{port}/varz", timeout=_TIMEOUT_S) as answer:
            return syncs_always(json.loads(answer.read(_LARGEST)))
    except (OSError, ValueError):
        return False
