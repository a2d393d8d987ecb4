"""What a driver must be able to do: it gives a payload its meaning on a device and in the gate."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import NoReturn, Protocol

from tidegate.core.errors import BadInput, TidegateError
from tidegate.core.model import Manifest


class DriverError(TidegateError):
    """The payload cannot be used, or the protected component could not be started. Nothing is confirmed."""


class NotInstalled(DriverError, BadInput):
    """The driver, or the interpreter that it is for, is not on this machine: nothing is said about the payload."""


class OwnProcess(Protocol):
    """The agent that asks, as a process: what the driver of the agent itself must know of it.

    `slot`: the slot that its code was started from; empty for the installed one. `launched`: by its launcher, which
    starts it again. `component`: the one that the launcher looks after. `instance`: this process and no other.
    """

    slot: str
    launched: bool
    component: str
    instance: str

    def age_s(self) -> float:
        """How long it has run."""
        ...

    def refreshed(self) -> bool:
        """Whether it has read the signed state, whole and fresh, since it began."""
        ...

    def restart(self) -> NoReturn:
        """End, and be started again from what the pointer names then."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a driver works: one component on one device.

    `current` is the pointer that names the active release's payload directory; it does not exist while the component
    is absent. `manifest` is that of the release the driver is asked about. `launcher` is the guard's command, to be put
    before the command that starts the protected component. `settings` are the device's own words for this component
    (paths, addresses); they never come from the release.
    """

    component: str
    current: Path
    work: Path
    manifest: Manifest | None
    settings: dict[str, str] = field(default_factory=lambda: {})
    launcher: tuple[str, ...] = ()
    own: OwnProcess | None = None


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What one look at the component's health saw; `detail` is a sentence for a person.

    `pending`: it is not unhealthy, but must not be confirmed before a later look says so without this.
    """

    name: str
    healthy: bool
    detail: str = ""
    pending: bool = False


class Driver(Protocol):
    """One way to bring a payload to life. Every method can be called again after a crash in its middle."""

    name: str

    def check(self, payload: Path, manifest: Manifest) -> None:
        """Look whether an unpacked payload can be used, before anything changes. Raises DriverError."""
        ...

    def ready(self, place: Place) -> None:
        """Look whether this device's own settings let the driver work at all, before a lease is asked for.

        What is wrong with the device must not count against the candidate. Raises DriverError or BadInput.
        """
        ...

    def activate(self, place: Place) -> None:
        """Start the protected component, or start it anew, on what `place.current` names. Raises DriverError."""
        ...

    def deactivate(self, place: Place) -> None:
        """Stop the protected component: a first install is taken back, or the agent ends."""
        ...

    def probe(self, place: Place) -> list[ProbeResult]:
        """Look at health now. The component is healthy if every result is."""
        ...

    def sham(self, place: Place) -> None:
        """Go through the motions of `activate`, with the same wait and restart, and change nothing."""
        ...


def load_driver(name: str) -> Driver:
    """Make the driver of this name, from the entry points of group `tidegate.drivers`.

    Raises:
        NotInstalled: if there is none; it names those that there are.
    """
    found = {entry.name: entry for entry in entry_points(group="tidegate.drivers")}
    if name not in found:
        raise NotInstalled(f"no driver {name!r} on this machine; there are {', '.join(sorted(found)) or 'none'}")
    driver: Driver = found[name].load()()
    return driver
