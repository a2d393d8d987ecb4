"""`tidegate emergency`: the stop that needs no server."""

from __future__ import annotations

import time
from pathlib import Path

from cyclopts import App

from tidegate.cli.office import OfficeClient
from tidegate.cli.passphrase import open_keys
from tidegate.cli.show import out
from tidegate.core.errors import BadInput
from tidegate.trust.durable import read_bytes, write_durably
from tidegate.trust.emergency import ALL, Stop, read_stop, sign_stop
from tidegate.trust.layout import stop_path

app = App(name="emergency", help="Stop releases with release keys alone, without any server.")


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
    if output.exists():
        before = read_bytes(output, "the emergency stop")
        said = read_stop(before)
        if component not in ("", said.component) or digest or everything or lift:
            raise BadInput(f"{output} holds a stop already: sign it as it is, or write another file")
    else:
        if not component or bool(digest) + everything + lift != 1:
            raise BadInput("say --component, and one of --digest, --everything, --lift")
        before = b""
        try:
            said = Stop(component, (ALL,) if everything else tuple(digest or ()), int(time.time()), reason)
        except ValueError as error:
            raise BadInput(str(error)) from error
    out(f"{said.component}: " + (", ".join(said.stopped) + " stopped" if said.stopped else "nothing stopped any more"))
    write_durably(output, sign_stop(said, open_keys(key, passphrase_file, passphrase_fd), before))
    out(f"Signed: {output}. Next: more holders sign it the same way; then tidegate emergency publish {output},")
    out(f"or put it on any mirror as {stop_path(said.component)}.")


@app.command
def publish(file: Path, /, *, why: str = "", home: Path | None = None) -> None:
    """Let the control plane serve a signed stop, and end the rollout that it names.

    Args:
        file: What tidegate emergency stop wrote.
        why: The reason, for the record.
        home: The control plane's directory.
    """
    data = read_bytes(file, "the emergency stop")
    said = read_stop(data)
    found = OfficeClient(home).post("/api/v1/stops", {"component": said.component, "stop": data.decode()}, why)
    out(f"Served as {stop_path(said.component)}." + "".join(f" Rollout {name} is ended." for name in found["ended"]))
