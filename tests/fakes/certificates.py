"""Certificates made in the test: an authority, and what it signs."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Files:
    """Where a certificate and its key are."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates, and writes them to a directory of its own."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = _name(name)
        builder = _builder(self.subject, self.subject, self.key, -DAY, 10 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        self.certificate = builder.sign(self.key, hashes.SHA256())
        self.ca = directory / f"{name}.pem"
        self.ca.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def sign(
        self,
        name: str,
        *,
        names: tuple[str, ...] | None = None,
        begins: timedelta = -DAY,
        ends: timedelta = 9 * DAY,
        roles: tuple[x509.ObjectIdentifier, ...] = (),
        passphrase: bytes | None = None,
        private_key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    ) -> Files:
        """A certificate of node `name`, with its own name or `names` as alternative ones."""
        key = private_key or ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), self.subject, key, begins, ends)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        if alternatives := [x509.DNSName(each) for each in ((name,) if names is None else names)]:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
        if roles:
            builder = builder.add_extension(x509.ExtendedKeyUsage(roles), False)
        certificate = builder.sign(self.key, hashes.SHA256())
        files = Files(self.directory / f"{name}.pem", self.directory / f"{name}.key")
        files.cert.write_bytes(certificate.public_bytes(Encoding.PEM))
        encryption: KeySerializationEncryption = NoEncryption()
        if passphrase is not None:
            encryption = BestAvailableEncryption(passphrase)
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return files


BOTH_ROLES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    begins: timedelta,
    ends: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )
