"""`tidegate release withdraw`: take a release out of its list, with its release keys, and hand that in."""

from __future__ import annotations

import time
from pathlib import Path

from tidegate.cli.office import OfficeClient, part
from tidegate.cli.passphrase import open_keys
from tidegate.cli.show import out
from tidegate.core.errors import BadInput, NotFound
from tidegate.trust.durable import read_bytes, write_durably
from tidegate.trust.layout import EMERGENCY, release_role
from tidegate.trust.release import countersign
from tidegate.trust.withdrawal import read_withdrawal, sign_withdrawal


def withdraw(
    file: Path,
    /,
    *,
    component: str = "",
    seq: list[int] | None = None,
    reason: str = "",
    key: list[Path] | None = None,
    newest: Path | None = None,
    passphrase_file: Path | None = None,
    passphrase_fd: int | None = None,
    submit: bool = False,
    why: str = "",
    home: Path | None = None,
) -> None:
    """Withdraw a release: no device begins with it any more, and its rollout ends. As many keys as to release it.

    Each holder signs the same file; the last one hands it in with --submit. Devices that run the release confirmed keep
    it. If there is no server, or no time for it: tidegate emergency stop.

    Args:
        file: The list without the release; if it exists, it is signed as it is.
        component: Whose release it is.
        seq: Its sequence number. Can be given several times.
        reason: Why, for everyone to read.
        key: A release key (PEM). Can be given several times.
        newest: The newest list of releases as a file, for a machine without a network.
        passphrase_file: Read the keys' passphrase from a file instead of asking for it.
        passphrase_fd: Read it from an open file descriptor.
        submit: Hand it in to the control plane, when enough have signed.
        why: The reason, for the control plane's record; default: the one that is signed.
        home: The control plane's directory.
    """
    if not key and not submit:
        raise BadInput("give --key to sign it, or --submit to hand it in")
    if file.exists():
        if component or seq or reason:
            raise BadInput(f"{file} is signed already: sign it as it is, or write another file")
        data = read_bytes(file, "the withdrawal")
    elif not (component and seq and key):
        raise BadInput("say --component, --seq and --key")
    else:
        data = sign_withdrawal(_standing(newest, home, component, seq[0]), component, seq, reason, (), int(time.time()))
    found = read_withdrawal(data)
    for each in found.withdrawn:
        says = f": {each.reason}" if each.reason else ""
        out(f"Withdraws {each.component} seq {each.seq}, digest {each.digest}{says}")
    if key:
        data = countersign(data, open_keys(key, passphrase_file, passphrase_fd))
        write_durably(file, data)
        out(f"Signed: {file}.")
    if not submit:
        out(f"Next: more holders sign it: tidegate release withdraw {file} --key KEY.pem; the last one adds --submit")
        return
    said = why or found.withdrawn[0].reason
    done = OfficeClient(home).post("/api/v1/withdrawals", {"releases": data.decode()}, said)
    out("In force" + "".join(f"; rollout {name} is ended" for name in done["ended"]) + ".")


def _standing(newest: Path | None, home: Path | None, component: str, seq: int) -> bytes:
    """Give the newest list that holds the release: the component's own, or that of urgent releases."""
    if newest:
        return read_bytes(newest, "the newest list of releases")
    office = OfficeClient(home)
    known = office.get("/api/v1/releases")["releases"]
    found = [r for r in known if r["component"] == component and r["seq"] == seq]
    if not found:
        raise NotFound(f"there is no release {seq} of {component}; see tidegate release list")
    role = EMERGENCY if found[0]["emergency"] else release_role(component)
    return office.get_bytes(f"/api/v1/roles/{part(role)}")
