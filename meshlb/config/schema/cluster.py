"""The table `[cluster]`: the mesh and its secrets."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from meshlb.config.kinds import Choice, DnsSeed, FilePath, Flag, IpPort, Secret, SeedAddress
from meshlb.config.schema.table import LABEL, Table
from meshlb.model import Address


class ClusterTlsSettings(Table):
    """Certificates for the streams between members, on both sides."""

    cert: Annotated[Path, FilePath()]
    """This node's certificate and whatever lies between it and the authority, PEM. Made for both
    roles: with an extended key usage it needs `serverAuth` and `clientAuth`."""

    key: Annotated[Path, FilePath()]
    """Its private key, PEM, without a passphrase."""

    ca: Annotated[Path, FilePath()]
    """The authorities whose certificates members show, PEM. One that serves this cluster alone:
    whatever it signs can be a member, given the secret."""

    verify_names: Annotated[bool, Flag()] = True
    """A member's certificate must have its node name as a DNS name (SAN), so that a node cannot
    pass for another one. `false` believes every certificate of the authority."""


class ClusterSettings(Table):
    """The mesh. Left out as a whole: the node stands alone."""

    name: Annotated[str, LABEL]
    """The cluster's name. A node that says another name is refused, also with the right secret:
    it keeps a staging tier out of production."""

    bind: Annotated[Address, IpPort()]
    """Where members reach this node, by UDP and TCP. All traffic is authenticated and
    encrypted."""

    advertise: Annotated[Address, IpPort()] | None = Field(
        default=None, json_schema_extra={"shown": "as `bind`"}
    )
    """The address that the other members are told. Needed where `bind` is a wildcard or behind
    address translation."""

    join: tuple[Annotated[Address | DnsSeed, SeedAddress()], ...] = ()
    """Where to look for members at the start and whenever some are missing: addresses, or names
    all of whose addresses are tried. One live member is enough; the node's own address may be
    among them, so that all nodes can share one list."""

    secrets: tuple[Annotated[bytes, Secret()], ...] = Field(default=(), repr=False)
    """The cluster's secrets, at most 8. The first seals, all open: to rotate, append the new one
    on every node, then move it to the front on every node, then remove the old one, with a
    `meshlb reload` on each after each step. `meshlb keys` does the same without the files, and what
    it has said outranks this list. Either this or `secrets_file`."""

    secrets_file: Annotated[Path, FilePath()] | None = None
    """A file with one secret a line; empty lines and lines that begin with `#` are skipped.
    Either this or `secrets`; better, since it can be readable by the node alone."""

    tls: ClusterTlsSettings | None = None
    """Streams between members run over TLS 1.3, with a certificate on each side; all members have
    it or none. The secrets are needed all the same: they seal datagrams and cookies, and a stream
    needs both. Files are read at the start and at each reload. Once a certificate has expired
    open streams stay, and no new ones begin."""

    mode: Annotated[Literal["available", "strict"], Choice(("available", "strict"))] = "available"
    """What the smaller part of a split cluster does with new sessions. `"available"`: pins them
    for the time being; after the heal the greater part's pins win. `"strict"`: refuses them with
    503. Nor does a session begin anywhere then before two nodes have agreed on it, which costs the
    first request of a client a round trip between them."""

    profile: Annotated[Literal["lan", "wan", "local"], Choice(("lan", "wan", "local"))] = "lan"
    """The set of timings: `"local"` for one machine, `"lan"` for one site, `"wan"` for several.
    Slower networks need more patience before a silent member counts as dead."""
