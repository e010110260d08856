"""The targets of the fuzzer run on their seeds and on what a little change makes of them.

So they do not rot where atheris is not installed; and each notices a fault that is put before it.
"""

import dataclasses
import importlib
import random
from collections.abc import Iterator
from types import ModuleType

import pytest

from meshlb.core.sticky.events import ClaimDone
from meshlb.core.sticky.replica import Replica
from meshlb.errors import WireError
from meshlb.model import BootId
from meshlb.wire import codec as wire_codec
from meshlb.wire.messages import Message, PinRecord
from meshlb.wire.seal import DatagramError, Opened
from tests.fakes.swim import membership
from tests.fuzz import codec, http, members, pins, sealing, turns, words
from tests.fuzz.__main__ import TARGETS
from tests.fuzz.reader import Reader

CHANGES_PER_SEED = 4


def inputs(target: ModuleType) -> Iterator[bytes]:
    rng = random.Random(7)
    for seed in target.seeds():
        yield seed
        for _ in range(CHANGES_PER_SEED):
            given = bytearray(seed)
            at = rng.randrange(len(given) + 1)
            given[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(4))
            yield bytes(given)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_finds_nothing_in_its_seeds_and_their_neighbours(name: str) -> None:
    target = importlib.import_module(f"tests.fuzz.{name}")
    tried = 0
    for given in inputs(target):
        target.check(given)
        tried += 1
    assert tried > 10 * CHANGES_PER_SEED


def finds_a_fault(target: ModuleType, fault: object) -> bool:
    for given in inputs(target):
        try:
            target.check(given, fault)
        except Exception:
            return True
    return False


def test_the_target_of_the_codec_notices_a_reader_that_is_too_lenient() -> None:
    def lenient(encoded: bytes) -> tuple[Message, ...]:
        try:
            return wire_codec.decode(encoded)
        except WireError:
            return ()

    assert finds_a_fault(codec, lenient)


def test_the_target_of_http_notices_a_reader_that_takes_what_others_refuse() -> None:
    def lenient(stream: bytes) -> http.Reading | None:
        read = http.our_request(stream) or http.our_response(stream)
        return read or http.our_request(stream.replace(b"+5", b"5").replace(b"\n\n", b"\r\n"))

    assert finds_a_fault(http, lenient)


def test_the_target_of_members_notices_an_incarnation_that_falls() -> None:
    class Forgetful(members.Player):
        def lag(self, reader: Reader) -> None:
            self.machine = membership("a", boot_id=BootId(1), incarnation=1)

    assert finds_a_fault(members, Forgetful)


def test_the_target_of_pins_notices_that_the_last_word_wins() -> None:
    def last_word_wins(replica: Replica, record: PinRecord, now: float) -> object:
        return replica.merge_record(dataclasses.replace(record, epoch=0, stamp_ms=1), now)

    assert finds_a_fault(pins, last_word_wins)


def test_the_target_of_turns_notices_a_client_that_is_never_served() -> None:
    class Forgetful(turns.Member):
        def _done(self, done: ClaimDone) -> None:
            if done.pin.backend == "s1":
                super()._done(done)

    assert finds_a_fault(turns, Forgetful)


def test_the_target_of_words_notices_that_the_order_matters() -> None:
    assert finds_a_fault(words, lambda heard: heard[-1:])


def test_the_target_of_sealing_notices_a_window_that_moves_on_a_forgery() -> None:
    class Hasty:
        def __init__(self) -> None:
            self._opener = sealing.opener()
            self._seen = set[bytes]()

        def open(self, datagram: bytes) -> Opened:
            header = datagram[:33]
            if header in self._seen:
                raise DatagramError("replay")
            self._seen.add(header)
            return self._opener.open(datagram)

    assert finds_a_fault(sealing, Hasty)
