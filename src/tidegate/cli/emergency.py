"""`tidegate emergency`: what release holders say without any server: the stop, and the pardon."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from tidegate.cli.office import OfficeClient
from tidegate.cli.passphrase import open_keys
from tidegate.cli.show import out
from tidegate.core.errors import BadInput
from tidegate.trust.durable import read_bytes, write_durably
from tidegate.trust.emergency import ALL, STOP, Stop
from tidegate.trust.holders import Kind, Said
from tidegate.trust.layout import pardon_path, stop_path
from tidegate.trust.pardon import PARDON, Pardon

app = App(name="emergency", help="Stop releases, or pardon them, with release keys alone, without any server.")


@app.command
def stop(
    output: Path,
    /,
    *,
    component: str = "",
    digest: list[str] | None = None,
    everything: bool = False,
    lift: bool = False,
    key: list[Path],
    reason: str = "",
    passphrase_file: Path | None = None,
    passphrase_fd: int | None = None,
) -> None:
    """Write an emergency stop, or add signatures to one: as many release keys as a release needs. Needs no network.

    Args:
        output: The file; if it exists, its stop is signed as it is.
        component: What is stopped, as in edr-rules.
        digest: A release's whole digest. Can be given several times.
        everything: Stop every release of the component.
        lift: Stop nothing any more.
        key: A release key (PEM). Can be given several times.
        reason: Shown on devices.
        passphrase_file: Read the keys' passphrase from a file instead of asking for it.
        passphrase_fd: Read it from an open file descriptor.
    """
    anew = bool(component or digest or everything or lift)

    def fresh() -> Stop:
        if not component or bool(digest) + everything + lift != 1:
            raise BadInput("say --component, and one of --digest, --everything, --lift")
        return Stop(component, (ALL,) if everything else tuple(digest or ()), int(time.time()), reason)

    said, before = _said(STOP, output, anew, fresh, lambda one: (one.component, one.stopped))
    out(f"{said.component}: " + (", ".join(said.stopped) + " stopped" if said.stopped else "nothing stopped any more"))
    write_durably(output, STOP.sign(said, open_keys(key, passphrase_file, passphrase_fd), before))
    _next(output, stop_path(said.component))


@app.command
def pardon(
    output: Path,
    /,
    *,
    component: str = "",
    digest: Annotated[list[str] | None, Parameter(negative=())] = None,
    key: list[Path],
    reason: str = "",
    passphrase_file: Path | None = None,
    passphrase_fd: int | None = None,
) -> None:
    """Let devices try a release again that they took back: signed like a stop. Needs no network.

    It counts for what was taken back before now, once on each device; a newer file replaces an older one, so name
    every digest that is to be pardoned.

    Args:
        output: The file; if it exists, its pardon is signed as it is.
        component: Whose releases, as in edr-rules.
        digest: A release's whole digest. Can be given several times.
        key: A release key (PEM). Can be given several times.
        reason: Written into the devices' logs.
        passphrase_file: Read the keys' passphrase from a file instead of asking for it.
        passphrase_fd: Read it from an open file descriptor.
    """

    def fresh() -> Pardon:
        if not component or not digest:
            raise BadInput("say --component and --digest")
        return Pardon(component, tuple(digest), int(time.time()), reason)

    said, before = _said(PARDON, output, bool(component or digest), fresh, lambda one: (one.component, one.pardoned))
    out(f"{said.component}: {', '.join(said.pardoned)} may be tried again where it was taken back")
    write_durably(output, PARDON.sign(said, open_keys(key, passphrase_file, passphrase_fd), before))
    _next(output, pardon_path(said.component))


@app.command
def publish(file: Path, /, *, why: str = "", home: Path | None = None) -> None:
    """Let the control plane serve a signed stop or pardon; a stop ends the rollout that it names.

    Args:
        file: What tidegate emergency stop or pardon wrote.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    data = read_bytes(file, "what the release holders signed")
    office = OfficeClient(home)
    try:
        said = PARDON.read(data)
    except BadInput:
        stopped = STOP.read(data)
        found = office.post("/api/v1/stops", {"component": stopped.component, "stop": data.decode()}, why)
        ended = "".join(f" Rollout {name} is ended." for name in found["ended"])
        out(f"Served as {stop_path(stopped.component)}.{ended}")
        return
    office.post("/api/v1/pardons", {"component": said.component, "pardon": data.decode()}, why)
    out(f"Served as {pardon_path(said.component)}. Devices ask for it while a plan names what they took back.")


def _said(
    kind: Kind[Said], output: Path, anew: bool, fresh: Callable[[], Said], of: Callable[[Said], object]
) -> tuple[Said, bytes]:
    """Give what is to be signed, and the file that others have signed already, if there is one.

    In a hurry everyone types the same command: that it says the same of the same releases (`of`) is enough.
    """
    try:
        wanted = fresh() if anew or not output.exists() else None
    except ValueError as error:
        raise BadInput(str(error)) from error
    if not output.exists():
        assert wanted is not None
        return wanted, b""
    before = read_bytes(output, f"the {kind.name}")
    said = kind.read(before)
    if wanted is not None and of(wanted) != of(said):
        raise BadInput(f"{output} holds another {kind.name}, of {said.component}: sign that one, or write another file")
    return said, before


def _next(output: Path, path: str) -> None:
    out(f"Signed: {output}. Next: more holders sign it the same way; then tidegate emergency publish {output},")
    out(f"or put it on any mirror as {path}.")
