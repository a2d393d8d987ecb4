"""A signed change of keys taken in while no server runs: the way back when the online keys are lost."""

from __future__ import annotations

import time

from tidegate.cli.book import me
from tidegate.cli.home import Home
from tidegate.log.events import Act
from tidegate.trust.ceremony import Bundle
from tidegate.trust.ceremony_accept import accept_bundle
from tidegate.trust.keys import ledger_publics, online_ids


def take_in_at_rest(place: Home, bundle: Bundle, why: str) -> list[str]:
    """Take a bundle in, by the same checks as the server's; the act goes into the log.

    Raises:
        Busy: if a server runs: hand the bundle in to it.
        Refused, Untrusted: as `accept_bundle` does.
    """
    place.check()
    log = place.open_log()
    try:
        held, ledger = online_ids(place.keys), ledger_publics(place.keys)
        changed = accept_bundle(place.repository, bundle, int(time.time()), online=held, ledger=ledger)
        if changed:
            body = {"title": bundle.title, "roles": changed}
            log.append([Act(at_ms=int(time.time() * 1000), what="keys_changed", who=me(), why=why, body=body)])
        return changed
    finally:
        log.close()
