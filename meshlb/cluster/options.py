"""What a member needs to know of its cluster, out of the configuration.

Owns the shape. Everything is checked by `meshlb.config` already.
"""

from dataclasses import dataclass, field

from meshlb.config.kinds import DnsSeed
from meshlb.config.schema import ClusterSettings
from meshlb.core.swim.timings import PROFILES, Timings
from meshlb.model import Address
from meshlb.net.mutual_tls import MutualTls


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """The `[cluster]` table, ready to use."""

    name: str
    bind: Address
    """Port 0 takes a free one."""
    advertise: Address | None = None
    """What the other members are told; None: where this node is bound."""
    join: tuple[Address | DnsSeed, ...] = ()
    secrets: tuple[bytes, ...] = field(repr=False)
    timings: Timings = PROFILES["lan"]
    is_strict: bool = False
    """A minority begins no sessions."""
    tls: MutualTls | None = None
    """What streams to other members show and believe; None: they are not over TLS."""

    @classmethod
    def of(cls, settings: ClusterSettings) -> "ClusterOptions":
        """The options that `settings` say.

        Raises:
            ConfigError: the files of `tls` cannot be used.
        """
        tls = settings.tls
        return cls(
            name=settings.name,
            bind=settings.bind,
            advertise=settings.advertise,
            join=settings.join,
            secrets=settings.secrets,
            timings=PROFILES[settings.profile],
            is_strict=settings.mode == "strict",
            tls=None
            if tls is None
            else MutualTls.load(
                cert=tls.cert, key=tls.key, ca=tls.ca, verify_names=tls.verify_names
            ),
        )
