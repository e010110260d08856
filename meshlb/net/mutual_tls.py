"""TLS 1.3 with a certificate on each side: what a node shows, and whom it believes.

Owns the two contexts that follow from a node's files, and what went wrong in words. Must not know
what a cluster is.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from meshlb.errors import ConfigError


@dataclass(frozen=True, slots=True)
class MutualTls:
    """Made once; a changed file counts from the next start on."""

    client: ssl.SSLContext
    server: ssl.SSLContext
    verify_names: bool
    """A peer's certificate must name the node that it says it is."""

    @classmethod
    def load(cls, *, cert: Path, key: Path, ca: Path, verify_names: bool) -> Self:
        """Read the files: chain and key of this node, and the authorities that it believes.

        Raises:
            ConfigError: one of them cannot be used; `meshlb check` says why.
        """
        contexts = []
        for purpose in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER):
            context = ssl.SSLContext(purpose)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.check_hostname = False  # a peer is known by its node's name, not its address
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(ca)
                context.load_cert_chain(cert, key, password=_no_passphrase)
            except (OSError, ValueError) as error:
                raise ConfigError([f"cluster.tls: {error}; see `meshlb check`"]) from error
            contexts.append(context)
        client, server = contexts
        server.num_tickets = 0  # a stream lasts; there is nothing to resume
        return cls(client, server, verify_names)


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase, and nobody to ask for it")


@dataclass(frozen=True, slots=True)
class TlsFailure:
    """Why two sides did not come to terms."""

    is_about_certificates: bool
    """Else the peer does not speak TLS 1.3."""
    detail: str


def tls_failure(error: BaseException) -> TlsFailure | None:
    """What is behind a broken TLS stream; None where it was only cut off."""
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return TlsFailure(True, f"the peer's certificate: {cause.verify_message}")
    if not isinstance(cause, ssl.SSLError) or isinstance(cause, ssl.SSLEOFError):
        return None
    reason = cause.reason or ""
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return TlsFailure(True, "the peer shows no certificate")
    said = reason.partition("ALERT_")[2].lower().replace("_", " ")
    if "certificate" in said or said == "unknown ca":
        return TlsFailure(True, f"the peer does not accept this node's certificate: {said}")
    return TlsFailure(False, reason.lower().replace("_", " "))
