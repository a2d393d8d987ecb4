"""Whether a server speaks TLS, with which certificate, and under which address it is then to be reached."""

from __future__ import annotations

import ipaddress
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidegate.cli.home import Home
from tidegate.cli.local_ca import LOCAL_NAMES, see
from tidegate.core.errors import BadInput
from tidegate.trust.durable import read_bytes

WARN_DAYS = 30
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
End = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Tls:
    """What all ports of a process speak; without a certificate it is plain HTTP."""

    certificate: Path | None = None
    key: Path | None = None
    names: tuple[str, ...] = ()
    ends_s: float = 0.0

    @property
    def for_server(self) -> dict[str, Any]:
        """Give uvicorn's settings."""
        return {"ssl_certfile": self.certificate, "ssl_keyfile": self.key} if self.certificate else {}

    def left_s(self) -> float:
        """Seconds until the certificate runs out."""
        return self.ends_s - time.time()

    def warning(self) -> str:
        """Give a sentence if the certificate runs out soon, else nothing."""
        days = int(self.left_s() // 86_400)
        if self.certificate is None or days >= WARN_DAYS:
            return ""
        return f"The certificate {self.certificate} runs out in {days} days; renew it: tidegate tls issue HOST"

    def url_for_others(self, host: str, port: int) -> str:
        """Give the address for other machines: where it listens, or the certificate's name if that is anywhere."""
        if host in ANYWHERE and self.certificate:
            host = self.name_beyond() or host
        return self._url(host, port)

    def url_here(self, host: str, port: int) -> str:
        """Give the address for this machine."""
        return self._url(ANYWHERE.get(host, host), port)

    def name_to_ask(self, host: str) -> str:
        """Give the name that the certificate is to be checked for, where it does not hold the address itself."""
        host = ANYWHERE.get(host, host)
        return "" if self.certificate is None or host in self.names else self.name_beyond()

    def name_beyond(self) -> str:
        """Give the certificate's first name for other machines, if it has one."""
        return next((name for name in self.names if name not in LOCAL_NAMES and "*" not in name), "")

    def _url(self, host: str, port: int) -> str:
        return f"{'https' if self.certificate else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def choose_tls(place: Home, given: tuple[Path | None, Path | None], without_tls: bool, ends: Sequence[End]) -> Tls:
    """Take the certificate that was given, else the one that `tidegate tls issue` made for this control plane.

    Raises:
        BadInput: beyond this machine without TLS, unless told so; files that do not fit together; expired.
        NotFound: a file that is not there.
    """
    certificate, key = given
    if (certificate is None) != (key is None):
        raise BadInput("--tls-cert and --tls-key go together")
    if without_tls and certificate is not None:
        raise BadInput("give --without-tls, or --tls-cert and --tls-key, not both")
    if without_tls:
        return Tls()
    if certificate is None and place.certificate.exists() and place.certificate_key.exists():
        certificate, key = place.certificate, place.certificate_key
    if certificate is None or key is None:
        beyond = [f"{host}:{port}" for host, port in ends if not is_local(host)]
        if beyond:
            raise BadInput(
                f"{beyond[0]} is beyond this machine and needs --tls-cert and --tls-key, or once: "
                f"tidegate tls create-ca --home {place.path} && tidegate tls issue HOST --home {place.path} "
                "(--without-tls if a proxy in front ends TLS)"
            )
        return Tls()
    return _read(certificate, key)


def is_local(host: str) -> bool:
    """Say whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _read(certificate: Path, key: Path) -> Tls:
    seen = see(read_bytes(certificate, "the certificate"), str(certificate))
    read_bytes(key, "its private key")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=b"")
    except (OSError, ssl.SSLError, ValueError) as error:
        raise BadInput(f"{key} is not the unencrypted private key (PEM) of {certificate}: {error}") from error
    if seen.ends <= datetime.now(UTC):
        raise BadInput(f"{certificate} expired on {seen.ends:%Y-%m-%d}; renew it: tidegate tls issue HOST")
    return Tls(certificate.absolute(), key.absolute(), seen.names, seen.ends.timestamp())
