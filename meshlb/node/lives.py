"""A process of a node: one life after the other, until it leaves or another process goes on.

Owns what outlives a membership: signals, the reactor, the node's doors and its data plane. A life
ends for good, or for an upgrade; if that fails the next one begins, with the same connections.
"""

import contextlib
import signal
from collections.abc import Callable

import structlog
import trio

from meshlb.config import Settings
from meshlb.net.reactor import Reactor
from meshlb.node import descriptors
from meshlb.node.collector import spare_the_collector
from meshlb.node.doors import Doors
from meshlb.node.front import workers_wanted
from meshlb.node.life import Lasting, Node
from meshlb.node.upgrading import Heir, Heritage, UpgradeError, Upgrader, directory_in
from meshlb.node.view import LiveNode
from meshlb.store import Owner, open_pins
from meshlb.store.directory import StoreDirectory
from meshlb.workers.reserve import Reserve

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)

HELD_BACK = {signal.SIGHUP, signal.SIGUSR2}
"""They would end a process that does not listen to them yet."""

log = structlog.get_logger()


async def run(
    settings: Settings,
    *,
    load: Callable[[], Settings] | None = None,
    ready: Callable[[LiveNode], None] | None = None,
    upgrades: bool = False,
) -> None:
    """Run a node until it is told to leave, or another process takes over.

    Args:
        settings: the configuration.
        load: reads it anew for a reload; None: it stays what it is.
        ready: called once the node serves.
        upgrades: this is the whole of a process, which may have to take over from another one.

    Raises:
        DescriptorError: the process may have too few of them.
        ListenError: an address cannot be bound.
        StoreError: the store cannot be opened.
        HandOverError: the process before this one goes on by itself.
    """
    descriptors.take_all()
    spare_the_collector()
    heritage = Heritage.expected() if upgrades else None
    with contextlib.ExitStack() as stack:
        reserve, inherited = Reserve(), None
        stack.callback(reserve.close)
        if heritage is not None:
            if workers := workers_wanted(settings):
                await reserve.fill(workers + 1)
            inherited = await heritage.claim(settings)
        directory = StoreDirectory(settings.node.data_dir, inherited=directory_in(inherited))
        stack.callback(directory.close)
        doors = Doors(settings, inherited)
        stack.callback(doors.close)
        reactor = Reactor()
        stack.callback(reactor.close)
        with trio.open_signal_receiver(*SIGNALS) as signals:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reactor.run)
                lasting = Lasting(
                    load=load or (lambda: settings),
                    ready=ready,
                    heritage=heritage,
                    directory=directory,
                    doors=doors,
                    reactor=reactor,
                    signals=signals,
                    nursery=nursery,
                    upgrader=Upgrader(),
                    reserve=reserve,
                )
                await _live(settings, lasting)
                nursery.cancel_scope.cancel()


async def _live(settings: Settings, lasting: Lasting) -> None:
    while True:
        cluster = settings.cluster
        store = open_pins(
            lasting.directory.path,
            Owner(cluster.name if cluster is not None else "", settings.node.name),
            on_unusable=settings.node.on_unusable_store,
        )
        try:
            node = Node(settings, store, lasting)
            heir = await node.run()
        finally:
            if lasting.front is not None:
                lasting.front.hush()
            store.close()
        settings = node.settings
        if heir is None or await _hand_over(heir, settings, lasting):
            return


async def _hand_over(heir: Heir, settings: Settings, lasting: Lasting) -> bool:
    assert lasting.front is not None
    timeout_s = settings.node.shutdown_timeout_s
    try:
        await heir.take_over(lasting.front, lasting.doors, lasting.directory, timeout_s=timeout_s)
    except UpgradeError as error:
        lasting.upgrader.failed(str(error), error.faults)
        return False
    lasting.doors.hand_over()
    log.info("the node goes on in another process", pid=heir.pid)
    return True
