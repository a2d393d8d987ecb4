"""What a component's machine works with: the device's parts, made once and handed to every effect."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tidegate.agent import guard
from tidegate.agent.clock import Clock
from tidegate.agent.conditions import POWER, look_around
from tidegate.agent.config import Home, Identity, Settings
from tidegate.agent.inclusion import Inclusion
from tidegate.agent.notnow import NotNow, may_not_begin, may_not_fetch
from tidegate.agent.outbox import Outbox
from tidegate.agent.own import OwnProcess
from tidegate.agent.pace import Bucket
from tidegate.agent.plans import Plans
from tidegate.agent.renewal import Credential
from tidegate.agent.say import Log
from tidegate.agent.sequence import Sequence
from tidegate.agent.transport import HttpRefused, Server
from tidegate.core.errors import TidegateError
from tidegate.core.model import Manifest
from tidegate.drivers.port import Driver, Place, ProbeResult, load_driver
from tidegate.trust.client import TrustClient
from tidegate.trust.durable import make_directory, write_durably
from tidegate.trust.signed_report import sign_report

SIGNATURE_WANTED = 428


@dataclass(slots=True)
class Tools:
    """One device's parts. `drivers` gives a driver by its name, the same one each time: a probe is no search."""

    home: Home
    settings: Settings
    identity: Identity
    clock: Clock
    rng: random.Random
    say: Log
    server: Server
    sequence: Sequence
    plans: Plans
    outbox: Outbox
    drivers: Callable[[str], Driver]
    own: OwnProcess
    bucket: Bucket
    power: Path = POWER

    def may_not_fetch(self) -> NotNow | None:
        """Say why nothing large may be fetched now, or None."""
        settings, found = self.settings, look_around(self.clock.wall(), self.home.hints_file, self.power)
        return may_not_fetch(found, settings.min_battery_percent, settings.metered)

    def may_not_begin(self) -> NotNow | None:
        """Say why no lease may be asked for now, or None."""
        if self.outbox.full:
            return NotNow("not now: a report has not arrived yet, and there is no room for another one")
        settings, found = self.settings, look_around(self.clock.wall(), self.home.hints_file, self.power)
        return may_not_begin(found, settings.windows, settings.min_battery_percent)

    def place(self, component: str, manifest: Manifest | None) -> Place:
        """Give a driver its place on this device."""
        directory = self.home.component(component)
        work = directory / "work"
        make_directory(work, mode=0o755)
        interpreter = (sys.executable, "-S", "-E", str(guard_file(self.home)))
        launcher = (*interpreter, "--component-dir", str(directory), "--")
        settings = self.settings.settings.get(component, {})
        return Place(component, directory / "current", work, manifest, dict(settings), launcher, self.own)

    def announce(self, message: dict[str, Any]) -> dict[str, Any]:
        """Ask for a lease. Raises as transport.Link.post."""
        return self._post("/v1/announce", message)

    def send(self, path: str, message: Any) -> dict[str, Any]:
        """Send reports, signed if the owner or the fleet wants that. Raises as transport.Link.post."""
        message = {**message, "boot_id": self.clock.boot_id}
        if self.settings.sign_reports:
            return self._post(path, self._signed(message))
        try:
            return self._post(path, message)
        except HttpRefused as error:
            if error.status != SIGNATURE_WANTED:
                raise
            return self._post(path, self._signed(message))

    def deliver(self) -> None:
        """Send all reports that wait. Raises as Outbox.flush, and OSError."""
        if self.outbox.waiting():
            self.say("reported", reports=self.outbox.flush(self.send))

    def _post(self, path: str, message: Any) -> dict[str, Any]:
        """Send a message; one that is refused for its number is followed by higher ones.

        A copy of this device that speaks with later numbers would silence it otherwise, and never be told from it.
        """
        try:
            return self.server.post(path, message)
        except HttpRefused as error:
            if error.last_seq is not None:
                self.sequence.go_past(error.last_seq)
            raise

    def _signed(self, message: dict[str, Any]) -> dict[str, Any]:
        key, device_id = self.identity.key, self.identity.device_id
        reports = [{**r, "signature": sign_report(key, device_id, r)} for r in message["reports"]]
        return {**message, "reports": reports}


def make_tools(home: Home, say: Log, clock: Clock, rng: random.Random) -> Tools:
    """Put a device together from its home.

    Raises:
        NotFound: if the home is not enrolled.
        BadInput: if one of its files is wrong.
    """
    settings, identity = home.load_settings(), home.load_identity()
    home.make()
    sequence = Sequence(home.seq_file, clock.wall)

    credential = Credential(home, identity, sequence, clock, say)
    server = Server(settings.server, settings.repo_address, credential.authorize, credential.renew, settings.ca)
    root = home.load_root()
    trust = TrustClient(home.metadata, root, server.fetch, lambda: int(clock.wall()), clock.boot_s)
    inclusion = Inclusion(server.fetch, settings.ledger_key, settings.witnesses, settings.witness_quorum)
    plans = Plans(trust, clock, rng, settings.poll_s, inclusion)
    own = OwnProcess(home, clock, lambda: plans.last_contact is not None)
    outbox, bucket = Outbox(home.outbox, say), Bucket(settings.max_bytes_per_s, clock.boot_s())
    return Tools(
        home, settings, identity, clock, rng, say, server, sequence, plans, outbox, cache(load_driver), own, bucket
    )


def guard_file(home: Home) -> Path:
    """Give the guard as a file that an interpreter can run; an agent packed into one file lays it into its home."""
    path = Path(guard.__file__).resolve()
    if path.is_file():
        return path
    loader, laid = getattr(guard, "__loader__", None), home.path / "guard.py"
    data: bytes = loader.get_data(guard.__file__) if loader else b""
    if not laid.is_file() or laid.read_bytes() != data:
        write_durably(laid, data)
    return laid


def healthy(results: list[ProbeResult]) -> bool:
    return all(result.healthy for result in results)


def look(driver: Driver, place: Place) -> list[ProbeResult]:
    """Probe once. A device that cannot look must not confirm: whatever goes wrong here is a failed probe."""
    try:
        return driver.probe(place)
    except Exception as error:
        return [ProbeResult("probe", False, str(error) or repr(error))]


def attempt(action: Callable[[Place], None], place: Place) -> str:
    """Let a driver act.

    Returns:
        What went wrong, as a sentence, or nothing. A driver's own fault counts like the component's.
    """
    try:
        action(place)
    except TidegateError as error:
        return str(error)
    except Exception as error:
        return f"the driver failed: {error!r}"
    return ""
