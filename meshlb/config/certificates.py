"""Certificates and keys in files, above all those of `[cluster] tls`: whether they can be used.

Owns the faults of certificates and keys. Reads files, opens no port, and never shows a key. What
it cannot tell is what the other members believe.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

PEM_BYTES_MAX: Final = 1 << 20
CHAIN_MAX: Final = 10
SOON: Final = timedelta(days=14)
"""A certificate that expires within this is worth a word."""

_ROLES: Final = {
    ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth",
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth",
}

Certificates = Sequence[x509.Certificate]


def faults(table: Mapping[str, Any], directory: Path, *, node_name: str) -> Iterator[str]:
    """A line for each fault of the files of a `cluster.tls`, but for their dates."""
    read: dict[str, Any] = {}
    for option, reader in (("cert", read_certificates), ("key", read_key), ("ca", _read_ca)):
        if isinstance(raw := table.get(option), str) and raw:
            try:
                read[option] = reader(directory / raw)
            except ValueError as error:
                yield f"cluster.tls.{option}: {error}"
    if {"cert", "key"} <= read.keys() and not are_a_pair(read["cert"][0], read["key"]):
        cert, key = table["cert"], table["key"]
        yield f'cluster.tls.key = "{key}": is not the key of the certificate in {cert}'
    if {"cert", "ca"} <= read.keys() and not _leads_to(read["cert"], read["ca"]):
        cert, ca = table["cert"], table["ca"]
        yield f'cluster.tls.cert = "{cert}": was issued by none of the authorities in {ca}'
    if "cert" in read:
        yield from _unfit(table, read["cert"][0], node_name)


def out_of_date(path: Path, now: datetime) -> Iterator[str]:
    """Why the node's certificate does not count now; nothing where it cannot be read."""
    try:
        certificate = read_certificates(path)[0]
    except ValueError:
        return
    if now > certificate.not_valid_after_utc:
        yield f"cluster.tls.cert: {path}: expired at {_shown(certificate.not_valid_after_utc)}"
    if now < certificate.not_valid_before_utc:
        begins = _shown(certificate.not_valid_before_utc)
        yield f"cluster.tls.cert: {path}: is not valid before {begins}"


def expires_soon(path: Path, now: datetime) -> str | None:
    """When the node's certificate expires, where that is soon."""
    expiry = read_certificates(path)[0].not_valid_after_utc
    return _shown(expiry) if now <= expiry < now + SOON else None


def dates(path: Path, now: datetime) -> Iterator[str]:
    """What is worth a word about the dates of a certificate; nothing where it cannot be read."""
    with contextlib.suppress(ValueError):
        certificate = read_certificates(path)[0]
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if now > ends:
            yield f"{path}: expired at {_shown(ends)}"
        elif now < begins:
            yield f"{path}: is not valid before {_shown(begins)}"
        elif ends < now + SOON:
            yield f"{path}: expires soon, at {_shown(ends)}"


def utc_now() -> datetime:
    """What certificates are compared with."""
    return datetime.now(UTC)


def read_certificates(path: Path) -> Certificates:
    """The certificates in a PEM file, in order.

    Raises:
        ValueError: it cannot be read, or holds none; the path is named.
    """
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise _or_else(path, "holds no PEM certificate", error) from None


def _read_ca(path: Path) -> Certificates:
    found = read_certificates(path)
    for certificate in found:
        constraints = _extension(certificate, x509.BasicConstraints)
        if constraints is None or not constraints.ca:
            subject = certificate.subject.rfc4514_string()
            raise ValueError(f"{path}: {subject} is the certificate of no authority (CA:TRUE)")
    return found


def read_key(path: Path) -> Any:
    """The private key in a PEM file.

    Raises:
        ValueError: it cannot be read, holds none, or has a passphrase; the path is named.
    """
    pem = _read(path)
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError:
        raise ValueError(f"{path}: has a passphrase; expected a key without one") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _or_else(path, "holds no PEM private key", error) from None


def _or_else(path: Path, fault: str, error: Exception) -> ValueError:
    """The fault of reading if there was one, else `fault`."""
    told = str(error)
    return ValueError(told if told.startswith(f"{path}: ") else f"{path}: {fault}")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(PEM_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    if len(content) > PEM_BYTES_MAX:
        raise ValueError(f"{path}: larger than {PEM_BYTES_MAX >> 20} MiB")
    return content


def are_a_pair(certificate: x509.Certificate, key: Any) -> bool:
    """Whether `key` is the private key of `certificate`."""
    return _public(certificate) == _public(key)


def server_names(certificate: x509.Certificate) -> list[str]:
    """The DNS names among its alternative names (SAN)."""
    names = _extension(certificate, x509.SubjectAlternativeName)
    return names.get_values_for_type(x509.DNSName) if names is not None else []


def _public(holder: Any) -> bytes:
    encoded: bytes = holder.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _leads_to(chain: Certificates, authorities: Certificates) -> bool:
    """Whether `chain` goes from its first certificate to one of `authorities`."""
    current = chain[0]
    for _ in range(CHAIN_MAX):
        if any(_issued(current, authority) for authority in authorities):
            return True
        issuers = [each for each in chain[1:] if each != current and _issued(current, each)]
        if not issuers:
            return False
        current = issuers[0]
    return False


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _unfit(
    table: Mapping[str, Any], certificate: x509.Certificate, node_name: str
) -> Iterator[str]:
    shown = f'cluster.tls.cert = "{table["cert"]}"'
    usage = _extension(certificate, x509.ExtendedKeyUsage)
    if usage is not None and (
        lacking := [name for oid, name in _ROLES.items() if oid not in usage]
    ):
        yield f"{shown}: lacks the extended key usage {' and '.join(lacking)}; it needs both"
    if table.get("verify_names", True) is True:
        found = server_names(certificate)
        if node_name not in found:
            there = ", ".join(found) or "none"
            yield (
                f"{shown}: does not name this node: expected the DNS name {node_name} among its"
                f" alternative names, which are: {there}; or set `verify_names = false`"
            )


def _extension(certificate: x509.Certificate, kind: type[Any]) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, ValueError):
        return None


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
