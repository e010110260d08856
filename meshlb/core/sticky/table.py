"""The stick table as the proxy sees it: a few verbs, whatever stands behind them.

Owns only the interface. In a member it is the replica and the claim machine of this process; in
a worker process it is the shared store and a socket to the member; in a test it is a dict. The
proxy must not know which.

Spec: protocol/spec/pins.md.
"""

from collections.abc import Callable
from typing import Protocol

from meshlb.core.sticky.pin import Pin, Proposal
from meshlb.errors import NoQuorumError
from meshlb.model import SessionKey


class StickTable(Protocol):
    """Looks up, claims, plants and touches pins; shared by all connections of a process.

    With `mode = "available"` no method raises because the cluster is slow, split or absent:
    stickiness then weakens (a provisional pin), and the client is served. With `mode = "strict"`
    a node that the majority cannot hear, or does not answer in time, begins no session and moves
    none: claims end in `NoQuorumError`, and whoever mints a key claims it. Agreed pins go on.
    """

    @property
    def is_strict(self) -> bool:
        """True where a session begins only once home and backup agree: nothing is planted then.

        But what a client brings back.
        """
        ...

    def look_up(self, key: SessionKey, now: float) -> Pin | None:
        """The pin of `key` that lives at table time `now`: no tombstone, nothing expired.

        Never waits and never talks to a peer; the hot path of every request.
        """
        ...

    def claim_soon(
        self, proposal: Proposal, on_done: Callable[[Pin | NoQuorumError], None]
    ) -> None:
        """Agrees with the cluster on one pin for the proposal's key, and gives it to `on_done`.

        The pin may name another backend than the proposal: whoever was first wins. Concurrent
        claims of one key at one node share one answer. Falls back to a pin of rank `PROVISIONAL`
        when home and backup stay silent.

        To move a key away from an unusable backend, name that backend in `moved_from` and its
        pin's epoch in `moved_from_epoch`.

        Args:
            proposal: what to pin the key to.
            on_done: called once, perhaps before this returns; must not raise. The error is one
                of strict mode, see above.
        """
        ...

    async def claim(self, proposal: Proposal) -> Pin:
        """As `claim_soon`, for a task that can wait.

        Raises:
            NoQuorumError: in strict mode, see above.
        """
        ...

    def plant(self, proposal: Proposal, *, epoch: int | None = None) -> Pin:
        """Pins a key that no other node can be claiming, and replicates it at once.

        For a load-balancer cookie that was minted just now (its key is new, so nobody races for
        it), or one that a client brought back and whose pin this table has lost (`epoch` is
        then the cookie's, and None else). A newer pin that the table holds after all is returned
        instead.

        Raises:
            NoQuorumError: in strict mode, for a minted key.
        """
        ...

    def touch(self, key: SessionKey, pin: Pin, ttl_s: float) -> None:
        """Notes that `pin` was used now: its expiry slides to `ttl_s` seconds ahead.

        Cheap enough to call for each request: nothing is written or sent before a quarter of
        `ttl_s` has passed since the last time.
        """
        ...
