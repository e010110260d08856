"""The store against a dict: whatever is put, committed, swept and reopened, both agree."""

import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meshlb.core.sticky.lifetime import LINGER_S_MAX
from meshlb.core.sticky.pin import Pin
from meshlb.model import SessionKey
from meshlb.store import LmdbPins
from tests.fakes.pins import NOW, a_key, a_pin

keys = st.integers(0, 4).map(a_key)
pins = st.builds(
    lambda backend, epoch, lives_s: a_pin(backend, epoch=epoch, expires_at=NOW + lives_s),
    st.sampled_from(["s1", "s2", ""]),
    st.integers(0, 3),
    st.sampled_from([10, 400, 1_000]),
)


class StoreAgainstDict(RuleBasedStateMachine):
    """`model` is what the store should hold, `retired` which of it a sweep found expired."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.store = LmdbPins(Path(self.directory.name), map_bytes=64 * 1024)
        self.model: dict[SessionKey, Pin] = {}
        self.retired: set[SessionKey] = set()
        self.now = NOW

    @rule(key=keys, pin=pins)
    def put(self, key: SessionKey, pin: Pin) -> None:
        self.store.put(key, pin)
        self.model[key] = pin
        self.retired.discard(key)

    @rule()
    def commit(self) -> None:
        self.store.commit()

    @rule(seconds=st.sampled_from([5, 100, 700]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def sweep_everything(self) -> None:
        self.store.sweep(self.now)
        for key, pin in list(self.model.items()):
            grace_s = 0.0 if pin.is_tombstone else LINGER_S_MAX
            if pin.expires_at + grace_s <= self.now:
                del self.model[key]
                self.retired.discard(key)
            elif pin.expires_at <= self.now:
                self.retired.add(key)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = LmdbPins(Path(self.directory.name), map_bytes=64 * 1024)

    @rule(key=keys)
    def get(self, key: SessionKey) -> None:
        assert self.store.get(key) == self.model.get(key)

    @precondition(lambda self: self.model)
    @rule(after=keys, limit=st.integers(1, 6))
    def scan(self, after: SessionKey, limit: int) -> None:
        expected = sorted((key, pin) for key, pin in self.model.items() if key > after)
        assert self.store.scan(after, limit) == expected[:limit]

    @invariant()
    def counts_agree(self) -> None:
        live = Counter(
            (pin.pool, pin.backend)
            for key, pin in self.model.items()
            if not pin.is_tombstone and key not in self.retired
        )
        assert self.store.counts() == live
        assert len(self.store) == live.total()

    def teardown(self) -> None:
        self.store.close()
        self.directory.cleanup()


TestStoreAgainstDict = StoreAgainstDict.TestCase
TestStoreAgainstDict.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
