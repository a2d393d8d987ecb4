"""TLS as a client has it: whose certificates are believed, and what a failed handshake means, in one sentence."""

from __future__ import annotations

import ssl
from pathlib import Path

from tidegate.core.errors import BadInput

_CERTIFICATE = {
    9: "its certificate is not valid yet: is this machine's clock right?",
    10: "its certificate has expired; the server needs a new one (tidegate tls issue)",
    62: "its certificate is for another host name",
    64: "its certificate is for another address",
}
"""By OpenSSL's verify codes (x509_vfy.h); all others mean that no chain leads to an authority that is believed."""
_NO_TLS_THERE = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")


def client_context(ca: str | Path = "") -> ssl.SSLContext:
    """Trust the certificates of a file (PEM), or the system's if none is named.

    Raises:
        BadInput: if the file is not there, or holds no certificates.
    """
    try:
        return ssl.create_default_context(cafile=str(ca) or None)
    except (OSError, ssl.SSLError) as error:
        raise BadInput(f"{ca} holds no certificates that can be read: {error}") from error


def tls_trouble(error: BaseException | None) -> str:
    """Say what was wrong with the other side's TLS, from an error or what caused it; empty if it was something else."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return _certificate_trouble(error)
        if isinstance(error, ssl.SSLError):
            if error.reason in _NO_TLS_THERE:
                return "it does not speak TLS there: is it http://, or another port?"
            return f"TLS failed ({error.reason or error})"
        error = error.__cause__ or error.__context__
    return ""


def _certificate_trouble(error: ssl.SSLCertVerificationError) -> str:
    known = _CERTIFICATE.get(error.verify_code)
    said = error.verify_message.rstrip(".")
    if known is None:
        known = "its certificate comes from no authority that is trusted here; is --ca the file of this server's CA?"
    return known if error.verify_code == 10 else f"{known} ({said})"
