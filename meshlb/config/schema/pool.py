"""The tables `[pool.NAME]`: who answers, and how clients are known again."""

from typing import Annotated, Final, Literal

from pydantic import Field

from meshlb.config.kinds import Choice, Duration, HostPort, Text, Whole
from meshlb.config.schema.table import LABEL, Table
from meshlb.config.schema.tls import PoolTlsSettings
from meshlb.core.proxy_protocol import ProxyVersion
from meshlb.model import Address, BackendName, KeySource

WEIGHT_MAX: Final = 1_000

_REQUEST_PATH = Text(
    r"/[!-~]{0,1023}", "a path that begins with `/`, printable ASCII without spaces"
)
_STICKY_NAME = Text(
    r"[!-~]{1,128}|\{[!-~]{1,256}\}[!-~]{1,128}",
    "1 to 128 printable ASCII characters without spaces",
)


class StickySettings(Table):
    """A way to know a returning client. Tried in order; the first that yields a key decides."""

    by: Annotated[KeySource, Choice(tuple(KeySource), KeySource)]
    """Where the session key is read: meshlb's own sealed cookie, the application's cookie, the
    client's address, a header, a query parameter, a path parameter, or a SOAP header element."""

    name: Annotated[str, _STICKY_NAME] | None = Field(
        default=None, json_schema_extra={"shown": "`MESHLB` for `cookie`, else none"}
    )
    """The name of the cookie, header or parameter (`jsessionid` for `;jsessionid=`); for `soap`
    the element as `{namespace}local`. Required for all but `cookie` and `source-ip`; `source-ip`
    has none."""

    ttl_s: Annotated[float, Duration("1s", "7d")] = Field(default=1_200.0, alias="ttl")
    """How long a pin outlives its last use. At least as long as the application keeps an idle
    session."""

    max_age_s: Annotated[float, Duration("1s", "365d")] | None = Field(
        default=None, alias="max_age"
    )
    """How long a pin lives at most, used or not; not below `ttl`. Left out: for as long as it is
    used."""

    @property
    def key_name(self) -> str:
        """The name to look for; empty for a source that has none."""
        return self.name or ("MESHLB" if self.by is KeySource.COOKIE else "")


class HealthSettings(Table):
    """How each node finds out whether a backend works."""

    path: Annotated[str, _REQUEST_PATH] | None = Field(
        default=None, json_schema_extra={"shown": "a TCP connect"}
    )
    """What to GET; any answer from 200 to 399 is good. Choose a page that fails when the
    application cannot serve. Left out: a connection that is accepted is good."""

    protocol: Annotated[Literal["tcp", "udp"], Choice(("tcp", "udp"))] = "tcp"
    """What a probe without `path` is. `"tcp"`: a connection, good if it is accepted. `"udp"`, for
    the backends of a UDP listener: an empty datagram, good unless an answer says that nobody is at
    the port. Where the application answers HTTP too, `path` tells more."""

    interval_s: Annotated[float, Duration("50ms", "10m")] = Field(default=2.0, alias="interval")
    """From one probe to the next, for each node and backend."""

    timeout_s: Annotated[float, Duration("10ms", "1m")] = Field(default=1.0, alias="timeout")
    """A probe without an answer for so long has failed."""

    rise: Annotated[int, Whole(1, 100)] = 2
    """Good probes in a row that bring a backend up."""

    fall: Annotated[int, Whole(1, 100)] = 3
    """Failed probes in a row that take a backend down, and let its pins move. `interval` × `fall`
    is about what a dead backend costs; too eager, and a hiccup moves every session."""


class BackendSettings(Table):
    """One origin server of a pool."""

    name: Annotated[BackendName, LABEL]
    """The stable name; pins refer to it. Unique in its pool. A new address under the old name
    keeps the pins."""

    address: Annotated[Address, HostPort()]
    """Where it listens. A host name is looked up anew for every connection."""

    weight: Annotated[int, Whole(1, WEIGHT_MAX)] = 1
    """Its share of the new sessions, relative to the other backends of the pool."""


class PoolSettings(Table):
    """Backends that serve the same application, and how to choose one."""

    balance: Annotated[
        Literal["round-robin", "least-connections", "rendezvous"],
        Choice(("round-robin", "least-connections", "rendezvous")),
    ] = "round-robin"
    """Who gets a new session, by weight: `"round-robin"` in turn; `"least-connections"` the
    idlest; `"rendezvous"` by a hash of the session key, so that even nodes that cannot reach
    each other choose alike."""

    proxy_protocol: Annotated[ProxyVersion, Choice(tuple(ProxyVersion), ProxyVersion)] | None = (
        Field(default=None, json_schema_extra={"shown": "none"})
    )
    """Begin each connection to a backend with a PROXY protocol header of this version, so that it
    learns the client's address; probes begin with one that names nobody. Such a connection is
    used again for requests of the same client connection alone. Every backend must expect it."""

    connect_timeout_s: Annotated[float, Duration("10ms", "1m")] = Field(
        default=5.0, alias="connect_timeout"
    )
    """For a connection to a backend; then another backend is tried."""

    response_timeout_s: Annotated[float, Duration("10ms", "1h")] = Field(
        default=60.0, alias="response_timeout"
    )
    """From a complete request until the head of the backend's response; then 504."""

    sticky: tuple[StickySettings, ...] = ()
    """How clients are known again, in order. Left out: plain balancing."""

    tls: PoolTlsSettings | None = None
    """How to speak TLS with the backends, probes included. Left out: plain text."""

    health: HealthSettings = HealthSettings()
    """How backends are probed."""

    backends: tuple[BackendSettings, ...] = Field(default=(), alias="backend")
    """The backends; at least one."""
