"""The configuration as frozen, typed settings: every option, its meaning, range and default.

Owns the shape of the file. What an option's value may be is its kind's word (see `kinds`); what
several options say together is checked in `checks`; nothing here opens a file or a socket. The
docstring under a field is its chapter in `docs/configuration.md`: what it does, how to choose.
Contract: "Configuration (TOML)".
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator, Field

from meshlb.config.schema.cluster import ClusterSettings, ClusterTlsSettings
from meshlb.config.schema.listener import ListenerSettings, TimeoutSettings
from meshlb.config.schema.node import ADMIN_ADDRESS, AdminSettings, NodeSettings
from meshlb.config.schema.pool import (
    BackendSettings,
    HealthSettings,
    PoolSettings,
    StickySettings,
)
from meshlb.config.schema.table import LABEL, Table
from meshlb.config.schema.tls import (
    CertificateSettings,
    PoolTlsSettings,
    SniSettings,
    TlsSettings,
)
from meshlb.model import PoolName

__all__ = [
    "ADMIN_ADDRESS",
    "LABEL",
    "AdminSettings",
    "BackendSettings",
    "CertificateSettings",
    "ClusterSettings",
    "ClusterTlsSettings",
    "HealthSettings",
    "ListenerSettings",
    "NodeSettings",
    "PoolSettings",
    "PoolTlsSettings",
    "Settings",
    "SniSettings",
    "StickySettings",
    "Table",
    "TimeoutSettings",
    "TlsSettings",
]

Pools = Annotated[
    Mapping[Annotated[PoolName, LABEL], PoolSettings], AfterValidator(MappingProxyType)
]


class Settings(Table):
    """The whole file."""

    node: NodeSettings = Field(default_factory=NodeSettings)
    cluster: ClusterSettings | None = None
    admin: AdminSettings = AdminSettings()
    listeners: tuple[ListenerSettings, ...] = Field(default=(), alias="listener")
    pools: Pools = Field(default_factory=lambda: MappingProxyType({}), alias="pool")
