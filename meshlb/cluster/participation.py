"""What a node has that takes part in a cluster: its port, its view, its secrets, its links.

Owns how they are wired, and that they begin and end together. A node that stands alone has none of
it. Must not know the stick table's users.
"""

import random
import secrets
import socket
import time
from collections.abc import Callable, Sequence

import trio

from meshlb.cluster.agent import Agent
from meshlb.cluster.counters import MeshCounters
from meshlb.cluster.datagrams import DatagramPort
from meshlb.cluster.discovery import Discovery, Seeds
from meshlb.cluster.drive import drive
from meshlb.cluster.keys import ClusterKeys
from meshlb.cluster.links import Credentials, Links
from meshlb.cluster.options import ClusterOptions
from meshlb.cluster.overrides import Overrides
from meshlb.cluster.ports import open_ports
from meshlb.cluster.refusals import RefusalLog
from meshlb.cluster.turns import Turns
from meshlb.core.swim.membership import Membership
from meshlb.model import BootId, NodeName
from meshlb.net.reactor import Reactor
from meshlb.store.keyring import KeyringFile
from meshlb.wire.handshake import Identity
from meshlb.wire.messages import BackendOverride
from meshlb.wire.seal import DatagramOpener, DatagramSealer, cluster_label


class Participation:
    """Made inside trio. The cluster port is bound at once, and used by `run`.

    Attributes:
        keys: the cluster's secrets.
        membership: the view.
        agent: acts for this node.
        port: of datagrams.
        links: streams to the other members.
    """

    def __init__(
        self,
        name: NodeName,
        boot_id: BootId,
        cluster: ClusterOptions,
        *,
        turns: Turns,
        file: KeyringFile,
        overrides: Overrides,
        ports: Sequence[socket.socket],
        reactor: Reactor,
        counters: MeshCounters,
        on_override: Callable[[BackendOverride], None],
        on_keys: Callable[[], None],
    ) -> None:
        """Bind and wire; the arguments are those of `Mesh`, and what it has made of them.

        Raises:
            ListenError: when the cluster address cannot be bound.
            StoreError: when the kept secrets cannot be read.
        """
        self.keys = ClusterKeys(
            name, cluster.secrets, file=file, wall_ms=wall_ms, on_change=on_keys
        )
        self._bound, self._listener, address = open_ports(cluster.bind, ports)
        me = Identity(name, boot_id, cluster.advertise or address)
        keyring, label = self.keys.keyring, cluster_label(cluster.name)
        self._discovery = Discovery(cluster.join, family=self._bound.family)
        seeds = self._discovery.seeds()
        refusals = RefusalLog(counters)
        self.membership = _membership(me, cluster, seeds)
        self.port = DatagramPort(
            self._bound,
            sealer=DatagramSealer(keyring, label=label, sender=name, boot_id=boot_id),
            opener=DatagramOpener(keyring, label=label),
            counters=counters,
        )
        self.agent = Agent(
            me,
            membership=self.membership,
            turns=turns,
            port=self.port,
            overrides=overrides,
            on_override=on_override,
            counters=counters,
            refusals=refusals,
            seeds=seeds.addresses,
            unresolved=seeds.unresolved,
            now=trio.current_time,
            keys=self.keys,
        )
        self.links = Links(
            Credentials(me, keyring, label),
            reactor=reactor,
            events=self.agent,
            counters=counters,
            refusals=refusals,
            draw=secrets.token_bytes,
            tls=cluster.tls,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled; started once the agent can be told things."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._drive)
            nursery.start_soon(self._discovery.run, self._seek)
            task_status.started()

    async def _drive(self, *, task_status: trio.TaskStatus[None]) -> None:
        await drive(
            self.agent,
            port=self.port,
            links=self.links,
            listeners=[self._listener],
            task_status=task_status,
        )

    def _seek(self, seeds: Seeds) -> None:
        self.agent.set_seeds(seeds.addresses, unresolved=seeds.unresolved)

    def use(self, cluster: ClusterOptions) -> None:
        """Go by other seeds, secrets and certificates from now on; streams that are open stay."""
        self._discovery.use(cluster.join)
        self._seek(self._discovery.seeds())
        self.keys.configure(cluster.secrets)
        self.links.show(cluster.tls)

    def close(self) -> None:
        """Close the cluster port."""
        self._bound.close()
        self._listener.socket.close()


def _membership(me: Identity, cluster: ClusterOptions, seeds: Seeds) -> Membership:
    return Membership(
        name=me.name,
        address=me.address,
        boot_id=me.boot_id,
        incarnation=wall_ms(),
        timings=cluster.timings,
        rng=random.Random(),
        now=trio.current_time(),
        seeds=seeds.addresses,
        has_unresolved=seeds.unresolved > 0,
    )


def wall_ms() -> int:
    """The wall clock, in milliseconds."""
    return int(time.time() * 1000)
