"""A certificate authority of one's own, for trials: ECDSA P-256, one level, certificates for servers alone."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tidegate.core.errors import BadInput

EARLIER = timedelta(hours=1)
"""Certificates begin so much before they are made: clocks differ."""
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


@dataclass(frozen=True, slots=True)
class Made:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """What a certificate says: whom it is for, from when to when, and its SHA-256 fingerprint in hexadecimal."""

    subject: str
    names: tuple[str, ...]
    begins: datetime
    ends: datetime
    fingerprint: str


def create_ca(now: datetime, days: int) -> Made:
    """Make an authority: a key, and its own certificate, whose name no other authority has."""
    key = ec.generate_private_key(ec.SECP256R1())
    mark = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Tidegate local CA {mark.digest.hex()[:8]}")])
    builder = (
        _builder(name, name, key.public_key(), key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    return Made(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), _pem(key))


def issue(
    ca: Made,
    hosts: Sequence[str],
    now: datetime,
    days: int,
    key_pem: bytes | None = None,
    also: Sequence[str] = LOCAL_NAMES,
) -> Made:
    """Make a server's certificate for host names and addresses.

    Args:
        ca: the authority.
        hosts: at least one; the first is the certificate's subject.
        now: the time.
        days: how long it is valid; never longer than the authority's own certificate.
        key_pem: the server's private key, if it has one already.
        also: further names: those by which the server's own machine reaches it.

    Raises:
        BadInput: for a name that is none, an authority that cannot be read or has expired, or another kind of key.
    """
    names = list(dict.fromkeys([*(_host(host) for host in hosts), *also]))
    authority, signer = read_certificate(ca.certificate, "the CA's certificate"), _private(ca.key, "the CA's key")
    if authority.public_key() != signer.public_key():
        raise BadInput("the CA's key does not belong to its certificate")
    if authority.not_valid_after_utc <= now:
        raise BadInput(f"the CA's certificate expired on {authority.not_valid_after_utc:%Y-%m-%d}: make a new CA")
    key = _private(key_pem, "the server's key") if key_pem else ec.generate_private_key(ec.SECP256R1())
    days = min(days, (authority.not_valid_after_utc - now).days)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    builder = (
        _builder(subject, authority.subject, key.public_key(), signer.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
    )
    return Made(builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM), _pem(key))


def see(certificate: bytes, what: str) -> Seen:
    """Read what the first certificate of a PEM file says. Raises BadInput."""
    found = read_certificate(certificate, what)
    try:
        wanted = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [*wanted.get_values_for_type(x509.DNSName), *map(str, wanted.get_values_for_type(x509.IPAddress))]
    except (x509.ExtensionNotFound, ValueError):
        names = []
    return Seen(
        found.subject.rfc4514_string(),
        tuple(names),
        found.not_valid_before_utc,
        found.not_valid_after_utc,
        found.fingerprint(hashes.SHA256()).hex(),
    )


def read_certificate(data: bytes, what: str) -> x509.Certificate:
    """Read the first certificate of a PEM file. Raises BadInput."""
    try:
        return x509.load_pem_x509_certificates(data)[0]
    except (ValueError, IndexError) as error:
        raise BadInput(f"{what} is no certificate in PEM") from error


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        name = text.lower().rstrip(".")
    if len(name) > 253 or not _HOST.match(name) or name.rpartition(".")[2].isdecimal():
        raise BadInput(f"{text!r} is no host name and no address; give it without https:// and port")
    return name


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    now: datetime,
    days: int,
) -> x509.CertificateBuilder:
    now = now.astimezone(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _private(pem: bytes, what: str) -> ec.EllipticCurvePrivateKey:
    try:
        found = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise BadInput(f"{what} cannot be read: it must be an unencrypted private key in PEM") from error
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise BadInput(f"{what} is no ECDSA key")
    return found


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
