"""A store is swept and flushed for as long as its node lives."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from meshlb.errors import StoreError
from meshlb.node.upkeep import CONTACT_EVERY_S, keep_store


class Store:
    def __init__(self) -> None:
        self.swept: list[float] = []
        self.contacts: list[float] = []
        self.flushed = 0
        self.fails = False

    def __len__(self) -> int:
        return 0

    def sweep(self, now: float) -> None:
        self.swept.append(now)

    def note_contact(self, now: float) -> None:
        self.contacts.append(now)

    def sync(self) -> None:
        self.flushed += 1
        if self.fails:
            raise StoreError("the disk is gone")


class Mesh:
    def __init__(self, *, quorate: bool) -> None:
        self.is_quorate = quorate
        self.clock = self

    def now(self) -> float:
        return trio.current_time()

    def readiness(self) -> tuple[bool, str]:
        return True, ""


@asynccontextmanager
async def kept(store: Store, *, quorate: bool = True) -> AsyncIterator[None]:
    mesh: Any = Mesh(quorate=quorate)
    kept_store: Any = store
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_store, kept_store, mesh)
        yield
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - a fake counts
        await trio.sleep(1)


@pytest.mark.parametrize("fails", [False, True])
async def test_it_is_swept_and_flushed_also_after_a_flush_that_failed(
    autojump_clock: trio.testing.MockClock, fails: bool
) -> None:
    store = Store()
    store.fails = fails
    async with kept(store):
        await until(lambda: store.flushed > 2)
        assert len(store.swept) > store.flushed


async def test_contact_is_noted_from_time_to_time_with_the_majority_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with_it, without = Store(), Store()
    async with kept(with_it), kept(without, quorate=False):
        await until(lambda: len(with_it.contacts) == 3)
        assert with_it.contacts[2] - with_it.contacts[0] >= 2 * CONTACT_EVERY_S
        assert without.swept
        assert without.contacts == []
