"""A control plane's directory: where its log, repository and secrets lie."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from tidegate.core.errors import BadInput, NotFound
from tidegate.log.address import open_log, open_reader
from tidegate.log.port import Log, LogReader
from tidegate.trust.durable import read_json
from tidegate.trust.evidence_store import EvidenceStore


def default_home() -> Path:
    """Give the directory that is used when none is named: $TIDEGATE_HOME, or `tidegate-home` here."""
    return Path(os.environ.get("TIDEGATE_HOME") or "tidegate-home")


@dataclass(frozen=True, slots=True)
class Home:
    """The parts of a control plane's directory. `keys` are the online ones; offline keys lie elsewhere."""

    path: Path

    @property
    def log(self) -> Path:
        """The event log."""
        return self.path / "log.db"

    @property
    def log_address(self) -> Path:
        """Where the log is if it is not the embedded one: `{"url", "password_file"}`."""
        return self.path / "log.json"

    def open_log(self, url: str = "", password_file: Path | None = None) -> Log:
        """Open the log: at the address given, else at the one that `tidegate init --log` wrote down, else the file.

        Raises:
            BadInput: for an address that cannot be one.
            Busy, LogError: as each store says.
        """
        return open_log(self.log, *self._log_at(url, password_file))

    def open_log_reader(self, url: str = "", password_file: Path | None = None) -> LogReader | None:
        """Open the log to read it beside its writer; None for the embedded one. Raises BadInput, LogError."""
        return open_reader(*self._log_at(url, password_file))

    def _log_at(self, url: str, password_file: Path | None) -> tuple[str, Path | None]:
        if url or not self.log_address.exists():
            return url, password_file
        found = read_json(self.log_address, "the log's address")
        try:
            url, known = str(found["url"]), found.get("password_file")
        except (KeyError, TypeError, AttributeError):
            raise BadInput(f"{self.log_address} does not hold a log's address: init --log writes it") from None
        return url, password_file or (Path(known) if known else None)

    @property
    def checkpoints(self) -> Path:
        """The state at some points of the log, so that a start is quick; can be deleted at any time."""
        return self.path / "checkpoints"

    @property
    def repository(self) -> Path:
        """The signed files that devices read."""
        return self.path / "repo"

    @property
    def keys(self) -> Path:
        """The online keys."""
        return self.path / "keys"

    @property
    def device_secrets(self) -> Path:
        """What device credentials are derived from."""
        return self.path / "device-secrets.json"

    @property
    def operator_token(self) -> Path:
        """The operators' token."""
        return self.path / "operator.token"

    @property
    def passwords(self) -> Path:
        """The hashes of operators' passwords."""
        return self.path / "operators.json"

    @property
    def ca(self) -> Path:
        """The certificate that this control plane's own comes from, if it made one for itself."""
        return self.path / "tls" / "ca.pem"

    @property
    def ca_key(self) -> Path:
        """The private key of that CA."""
        return self.path / "tls" / "ca-key.pem"

    @property
    def certificate(self) -> Path:
        """The server's certificate, if `tidegate tls issue` made one."""
        return self.path / "tls" / "server.pem"

    @property
    def certificate_key(self) -> Path:
        """The private key of that certificate."""
        return self.path / "tls" / "server-key.pem"

    @property
    def collector_token(self) -> Path:
        """With what collectors speak to controllers; a collector on another machine needs a copy."""
        return self.path / "collector.token"

    @property
    def address(self) -> Path:
        """Where the running server listens."""
        return self.path / "server.json"

    @property
    def evidence(self) -> EvidenceStore:
        """Attestations of releases; the policy that demands them lies in the home itself."""
        return EvidenceStore(self.path / "evidence", self.path)

    def check(self) -> None:
        """Refuse a directory that `tidegate init` has not made. Raises NotFound."""
        if not self.operator_token.is_file():
            raise NotFound(f"{self.path} is no control plane; make one: tidegate init --home {self.path}")

    def read_address(self) -> dict[str, str]:
        """Give the addresses of the running server. Raises NotFound if it has never run."""
        self.check()
        try:
            found = json.loads(self.address.read_text())
            return {str(name): str(value) for name, value in found.items()}
        except (OSError, ValueError) as error:
            raise NotFound(f"no server runs on {self.path}; start it: tidegate serve --home {self.path}") from error
