"""A network of hosts, each a network namespace plugged into a switch; cut and healed by a test.

Owns namespaces, links and lost packets. They have no names and belong to this process alone: the
kernel removes them when it ends, however it ends, and nothing outside of them changes.

Every host knows the hardware address of every other one from the start, so nobody asks for it. A
packet is lost by giving its sender a wrong one: the switch passes it on and nobody takes it. So a
cut is silent, as a cut cable between two switches is, and may be in one direction only.
"""

import ctypes
import itertools
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Self

import pytest

from tests.peers.harness.backends import require, tool
from tests.peers.harness.place import Place

_CLONE_NEWNET: Final = 0x4000_0000
_NOWHERE: Final = "02:ff:ff:ff:ff:ff"
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace(Place):
    """A network namespace, kept by a descriptor; what is started inside it stays inside it."""

    def __init__(self) -> None:
        """Make one.

        Raises:
            OSError: this user, or this kernel, makes none.
        """
        home = _current()
        try:
            if _libc.unshare(_CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            self.descriptor = _current()
            _enter(home)
        finally:
            os.close(home)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is inside: its new sockets and children belong there, also afterwards."""
        home = _current()
        try:
            _enter(self.descriptor)
            yield
        finally:
            _enter(home)
            os.close(home)

    def ip(self, *commands: str) -> None:
        """Run `ip` inside, with a command a line."""
        with self.entered():
            subprocess.run(
                [tool("ip"), "-batch", "-"], input="\n".join(commands), text=True, check=True
            )

    def close(self) -> None:
        """Let go of it; it lives on while a process is inside."""
        os.close(self.descriptor)


class Host(Namespace):
    """A host with one address on the network, and a loopback of its own."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.address = f"10.77.0.{number}"
        self.hardware_address = f"02:00:00:00:00:{number:02x}"
        self.port = f"port{number}"
        """The link's other end, at the switch."""

    def send_to(self, others: Iterable["Host"], *, lose: bool) -> None:
        """From now on lose, or deliver, what this host sends to `others`."""
        self.ip(
            *(
                f"neighbour replace {other.address} dev eth0 nud permanent"
                f" lladdr {_NOWHERE if lose else other.hardware_address}"
                for other in others
                if other is not self
            )
        )


class Network:
    """A switch and its hosts; a context manager that takes both away."""

    def __init__(self) -> None:
        """Make a switch without hosts; skip the test where that cannot be."""
        require("ip")
        try:
            self._switch = Namespace()
        except OSError as error:
            pytest.skip(f"network namespaces cannot be made here: {error.strerror}")
        self._numbers = itertools.count(1)
        self.hosts: list[Host] = []
        self._switch.ip("link add switch type bridge", "link set switch up")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for namespace in (*self.hosts, self._switch):
            namespace.close()

    def host(self) -> Host:
        """Plug in one more host."""
        new = Host(next(self._numbers))
        self._switch.ip(
            f"link add {new.port} type veth peer name eth0 address {new.hardware_address}"
            f" netns /proc/{os.getpid()}/fd/{new.descriptor}",
            f"link set {new.port} master switch up",
        )
        new.ip("link set lo up", f"address add {new.address}/24 dev eth0", "link set eth0 up")
        for other in self.hosts:
            other.send_to([new], lose=False)
        new.send_to(self.hosts, lose=False)
        self.hosts.append(new)
        return new

    def cut(self, *sides: Iterable[Host]) -> None:
        """Lose all packets between hosts of different sides."""
        for side, other in itertools.permutations([list(side) for side in sides], 2):
            self.cut_one_way(side, other)

    def cut_one_way(self, senders: Iterable[Host], receivers: Iterable[Host]) -> None:
        """Lose what `senders` send to `receivers`; the other direction works."""
        receivers = list(receivers)
        for sender in senders:
            sender.send_to(receivers, lose=True)

    def heal(self) -> None:
        """Deliver everything again."""
        for host in self.hosts:
            host.send_to(self.hosts, lose=False)

    def unplug(self, host: Host) -> None:
        """The host's link goes down, with everything on its way."""
        self._switch.ip(f"link set {host.port} down")

    def plug(self, host: Host) -> None:
        """The host's link comes up again."""
        self._switch.ip(f"link set {host.port} up")


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
