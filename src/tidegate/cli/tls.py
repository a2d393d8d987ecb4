"""`tidegate tls`: a local certificate authority for trials, and what a server's certificate says."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cyclopts import App

from tidegate.cli.home import Home, default_home
from tidegate.cli.local_ca import Made, Seen, create_ca, issue, see
from tidegate.cli.show import out, out_json
from tidegate.core.errors import BadInput, NotFound, Refused
from tidegate.trust.durable import make_directory, read_bytes, write_durably

app = App(name="tls", help="TLS for trials: a certificate authority of your own, and certificates for servers.")
CA_DAYS, DAYS, MOST_DAYS = 1825, 397, 7300


@app.command(name="create-ca")
def create(*, days: int = CA_DAYS, home: Path | None = None) -> None:
    """Make a certificate authority in the control plane's directory. Its certificate is for agents and operators.

    Args:
        days: How long it is valid.
        home: The control plane's directory.
    """
    place = Home(home or default_home())
    _check_days(days)
    if place.ca.exists() or place.ca_key.exists():
        raise Refused(f"{place.ca.parent} holds a CA already; next: tidegate tls issue HOST")
    if not place.path.is_dir():
        raise NotFound(f"{place.path} is no control plane; make one: tidegate init --home {place.path}")
    make_directory(place.ca.parent, 0o700)
    made = create_ca(datetime.now(UTC), days)
    write_durably(place.ca_key, made.key, 0o600)
    write_durably(place.ca, made.certificate)
    _say_ca(place)
    out("Next, by the name under which devices and operators reach this server: tidegate tls issue HOST")


@app.command(name="issue")
def make(*host: str, days: int = DAYS, output: Path | None = None, home: Path | None = None) -> None:
    """Make the certificate with which the server shows who it is; `tidegate serve` takes it up by itself.

    Called again it renews the certificate; the key stays (delete it first if it was stolen).

    Args:
        host: Names and addresses by which devices and operators reach the server, the first one in front.
        days: How long it is valid.
        output: Another directory to write server.pem and server-key.pem into: for a collector elsewhere.
        home: The control plane's directory, with the CA in it.
    """
    place = Home(home or default_home())
    _check_days(days)
    if not host:
        raise BadInput("name the host by which devices and operators reach the server: tidegate tls issue HOST")
    if not (place.ca.is_file() and place.ca_key.is_file()):
        raise NotFound(f"{place.ca.parent} holds no CA; make one: tidegate tls create-ca --home {place.path}")
    ca = Made(place.ca.read_bytes(), place.ca_key.read_bytes())
    certificate, key = place.certificate, place.certificate_key
    if output is not None:
        certificate, key = output / certificate.name, output / key.name
    made = issue(ca, host, datetime.now(UTC), days, key.read_bytes() if key.exists() else None)
    make_directory(key.parent, 0o700)
    write_durably(key, made.key, 0o600)  # before the certificate: a key without one is made use of the next time
    write_durably(certificate, made.certificate)
    seen = see(made.certificate, str(certificate))
    out(f"{certificate}: for {', '.join(seen.names)}, until {seen.ends:%Y-%m-%d}. Its key: {key} (0600).")
    if output is None:
        out(f"Next (a server that runs: restart it): tidegate serve --home {place.path} --devices 0.0.0.0:8470")
    else:
        out(f"Next: tidegate serve ... --tls-cert {certificate} --tls-key {key}")
    _say_ca(place)


@app.command
def show(*, home: Path | None = None, json: bool = False) -> None:
    """Show the CA and the server's certificate: for whom, until when, and their fingerprints.

    Args:
        home: The control plane's directory.
        json: Print JSON.
    """
    place = Home(home or default_home())
    named = {"CA": place.ca, "server": place.certificate}
    found = {name: (path, see(path.read_bytes(), str(path))) for name, path in named.items() if path.exists()}
    if json:
        out_json([_plain(name, path, seen) for name, (path, seen) in found.items()])
        return
    for name, (path, seen) in found.items():
        out(f"{name + ':':<8}{', '.join(seen.names) or seen.subject}, until {seen.ends:%Y-%m-%d}, in {path}")
        out(f"        SHA-256 {seen.fingerprint}")
    if not found:
        out("No certificates here yet: tidegate tls create-ca, then tidegate tls issue HOST")


def _plain(name: str, path: Path, seen: Seen) -> dict[str, Any]:
    return {
        "what": name,
        "subject": seen.subject,
        "names": list(seen.names),
        "begins": seen.begins.isoformat(),
        "ends": seen.ends.isoformat(),
        "sha256": seen.fingerprint,
        "file": str(path),
    }


def _check_days(days: int) -> None:
    if not 1 <= days <= MOST_DAYS:
        raise BadInput(f"--days must lie between 1 and {MOST_DAYS}")


def _say_ca(place: Home) -> None:
    seen = see(read_bytes(place.ca, "the CA's certificate"), str(place.ca))
    out(f"Give {place.ca} to agents (tidegate enrol --ca) and operators (tidegate login --ca); it is no secret.")
    out(f"Its SHA-256: {seen.fingerprint}")
