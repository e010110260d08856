"""The member's side of one worker's stick table: it takes its claims, pins and uses in.

Owns the translation. What is answered was committed before, see `meshlb.cluster.turns`. What a
worker says is checked; where it makes no sense nothing of it is used and the worker is ended.
"""

from collections.abc import Callable
from functools import partial

from meshlb.core.sticky.pin import Pin
from meshlb.core.sticky.table import StickTable
from meshlb.errors import NoQuorumError
from meshlb.workers.messages import (
    Answer,
    Claim,
    Plant,
    Touch,
    pack_pin,
    session_key,
    unpack_proposal,
)


class Desk:
    """One per worker; `close` when nobody is to be answered any more, for claims may end later."""

    def __init__(
        self, table: StickTable, now: Callable[[], float], answer: Callable[[Answer], None]
    ) -> None:
        """Wire.

        Args:
            table: the member's.
            now: table time.
            answer: sends to the worker; must not raise.
        """
        self._table = table
        self._now = now
        self._answer = answer
        self._is_open = True

    def close(self) -> None:
        """The worker is gone, or the table is: nobody is heard, and nobody answered.

        What was claimed is agreed on all the same.
        """
        self._is_open = False

    def reopen(self, table: StickTable, now: Callable[[], float]) -> None:
        """Go on after `close` with another table, at which nothing has been asked yet."""
        self._table, self._now = table, now
        self._is_open = True

    def hear(self, message: Claim | Plant | Touch) -> None:
        """Take one in.

        Raises:
            WorkerError: it makes no sense.
        """
        if not self._is_open:
            return
        match message:
            case Claim(token, packed):
                asked = self._table
                asked.claim_soon(unpack_proposal(packed), partial(self._claimed, asked, token))
            case Plant(packed, epoch):
                if epoch is not None or not self._table.is_strict:
                    self._table.plant(unpack_proposal(packed), epoch=epoch)
            case Touch(key, backend, epoch, ttl_s):
                pin = self._table.look_up(session_key(key), self._now())
                if pin is not None and (pin.backend, pin.epoch) == (backend, epoch):
                    self._table.touch(session_key(key), pin, float(ttl_s))

    def _claimed(self, asked: StickTable, token: int, outcome: Pin | NoQuorumError) -> None:
        if not self._is_open or asked is not self._table:
            return
        if isinstance(outcome, NoQuorumError):
            self._answer(Answer(token, None, str(outcome)))
        else:
            self._answer(Answer(token, pack_pin(outcome), ""))
