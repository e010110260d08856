"""The tables `[node]` and `[admin]`: this process and who may look at it."""

import socket
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from meshlb.config.kinds import Choice, Duration, FilePath, IpPortOrUnix, UnixPath, Workers
from meshlb.config.schema.table import LABEL, Table
from meshlb.model import Address, NodeName

ADMIN_ADDRESS: Final = Address("127.0.0.1", 7900)


class NodeSettings(Table):
    """This process: its name, what it keeps on disk, how it stops."""

    name: Annotated[NodeName, LABEL] = Field(
        default_factory=lambda: NodeName(socket.gethostname()),
        json_schema_extra={"shown": "the host name"},
    )
    """The stable name of the node, unique among the members of its cluster. A node that comes
    back under its name takes its place again; a second live node of that name is refused."""

    data_dir: Annotated[Path, FilePath()] | None = None
    """Where pins are kept, so that they survive a restart, also of all nodes at once. The
    directory is created. Left out: pins live in a temporary directory and end with the node,
    though not with an upgrade; the other nodes still hold them."""

    on_unusable_store: Annotated[Literal["stop", "empty"], Choice(("stop", "empty"))] = "stop"
    """What to do when the pins in `data_dir` are damaged, or another cluster's. `"stop"`: end with
    an error that says what to do. `"empty"`: put the files aside, under names that end with
    `.unusable`, say so in the log, and start without pins; the other nodes still hold them, so
    choose this where there are some."""

    workers: Annotated[int | Literal["auto"], Workers(0, 256)] = 0
    """Processes that serve clients, beside the one that takes part in the cluster. 0: one process
    does everything, right for tests and small nodes. `"auto"`: one a core. A worker that dies
    takes its own clients with it, and nobody else's; another one takes its place at once. Each
    needs about 50 MiB. Datagrams are served by the first process alone. A change takes an upgrade
    or a restart, not a reload."""

    kernel_relay: Annotated[
        Literal["auto", "off", "required"], Choice(("auto", "off", "required"))
    ] = "auto"
    """Whether the kernel carries the bytes of tunnels (WebSockets, and connections of listeners
    with `protocol = "tcp"`) by itself, with no process woken. It takes Linux and the capabilities
    CAP_BPF and CAP_NET_ADMIN, and is tried out at the start. `"auto"`: where it works; `meshlb
    status` says why it does not. `"required"`: the node does not start without it. `"off"`:
    tunnels stay in user space, as those with TLS always do."""

    shutdown_timeout_s: Annotated[float, Duration("0s", "1h")] = Field(
        default=10.0, alias="shutdown_timeout"
    )
    """After SIGTERM the node drains, leaves the cluster and exits with 0 within this time, idle
    clients or not. Longer lets slow downloads end; the supervisor's own patience must be
    longer still."""


class AdminSettings(Table):
    """The admin API, the metrics and the dashboard."""

    bind: Annotated[Address | UnixPath, IpPortOrUnix(0)] = ADMIN_ADDRESS
    """Where the admin API listens. Port 0 takes a free one."""

    token_file: Annotated[Path, FilePath()] | None = None
    """A file whose content is the token that clients must send as `Authorization: Bearer TOKEN`.
    Required for any `bind` that is neither loopback nor a Unix socket."""
