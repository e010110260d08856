"""The tables `tls` of listeners and pools, and `[[listener.sni]]`: what is shown and believed."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from meshlb.config.kinds import Choice, FilePath, Flag, Text
from meshlb.config.schema.table import LABEL, Table
from meshlb.core.tls.names import NAME, NAME_BYTES_MAX, PATTERN
from meshlb.model import PoolName

_VERSIONS: Final = Choice(("1.2", "1.3"))
_SERVER_NAME: Final = Text(
    rf"(?=.{{1,{NAME_BYTES_MAX}}}\Z)(?:{NAME})", 'a DNS name, such as "app.example.com"'
)
_SERVER_NAMES: Final = Text(
    rf"(?=.{{1,{NAME_BYTES_MAX}}}\Z)(?:{PATTERN})",
    'a DNS name, such as "app.example.com", or "*." and at least two labels',
)


class CertificateSettings(Table):
    """A certificate to show to clients."""

    cert: Annotated[Path, FilePath()]
    """The certificate chain, PEM, the server's own certificate first."""

    key: Annotated[Path, FilePath()]
    """The private key, PEM, without a passphrase."""


class TlsSettings(Table):
    """TLS for the clients of a listener. Its presence turns TLS on; plain text is refused then."""

    cert: Annotated[Path, FilePath()] | None = None
    """The certificate chain, PEM, the server's own certificate first. What is shown to clients
    that ask for no name, or for one that no certificate has. `meshlb check` says whether the files
    can be used; SIGHUP reads them anew, and where they cannot be used the old ones serve on."""

    key: Annotated[Path, FilePath()] | None = None
    """The private key, PEM, without a passphrase."""

    certificates: tuple[CertificateSettings, ...] = ()
    """Further certificates, or all of them: the first one of the listener is shown by default, the
    others to clients that ask for a name among their alternative names (SAN), where `*.` stands
    for one label. Certificates of the same names and another kind of key serve side by side."""

    min_version: Annotated[Literal["1.2", "1.3"], _VERSIONS] = "1.2"
    """The least version of TLS. TLS 1.2 is for clients from before 2019 or so; what is spoken
    then has forward secrecy and authenticated encryption all the same."""

    client_ca: Annotated[Path, FilePath()] | None = None
    """The authorities whose certificates clients must show, PEM. Left out: clients show none."""

    resumption: Annotated[bool, Flag()] = True
    """Let clients resume a session with less work, at any node of the cluster: keys that seal
    session tickets are made of the cluster's secrets, new ones each hour. `false`: every
    connection makes a full handshake. See [security](security.md#tls) for what it costs."""

    @property
    def pairs(self) -> tuple[CertificateSettings, ...]:
        """All certificates, the default one first."""
        if self.cert is None or self.key is None:
            return self.certificates
        own = CertificateSettings.model_construct(cert=self.cert, key=self.key)
        return (own, *self.certificates)


class PoolTlsSettings(Table):
    """TLS to the backends of a pool. Its presence, also empty (`tls = {}`), turns TLS on."""

    ca: Annotated[Path, FilePath()] | None = Field(
        default=None, json_schema_extra={"shown": "the system's"}
    )
    """The authorities whose certificates backends must show, PEM."""

    verify: Annotated[bool, Flag()] = True
    """Believe only a certificate that is valid and names the backend. `false` encrypts, and lets
    anybody on the way read and change everything all the same."""

    server_name: Annotated[str, _SERVER_NAME] | None = Field(
        default=None, json_schema_extra={"shown": "the host of the backend's `address`"}
    )
    """The name to ask for, and to find in the certificate. Needed where backends are addressed
    by number and their certificate has a name."""

    cert: Annotated[Path, FilePath()] | None = None
    """A certificate chain to show to backends, PEM. Left out: none is shown."""

    key: Annotated[Path, FilePath()] | None = None
    """Its private key, PEM, without a passphrase."""

    min_version: Annotated[Literal["1.2", "1.3"], _VERSIONS] = "1.2"
    """The least version of TLS."""


class SniSettings(Table):
    """Names that clients ask for, and the pool that they reach, TLS and all.

    For `protocol = "tcp"` without `tls`: the listener reads the server name that a client asks for
    and passes everything on as it came, so that the backend ends the encryption. Who asks for
    another name, or for none, reaches the listener's `pool`.
    """

    names: tuple[Annotated[str, _SERVER_NAMES], ...]
    """Which names. An exact name wins over a `*.`, which stands for one label."""

    pool: Annotated[PoolName, LABEL]
    """The pool that answers."""
