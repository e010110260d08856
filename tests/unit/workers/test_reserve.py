import os

import pytest
import trio

from meshlb.workers import reserve as reserve_module
from meshlb.workers.reserve import Reserve


async def test_processes_that_were_started_before_are_taken_first() -> None:
    with trio.fail_after(60):
        reserve = Reserve()
        await reserve.fill(2)
        hires = [reserve.take(), reserve.take()]
        for hire in hires:
            assert hire.sock.recv(1), "it says that it has loaded the program"
        third = reserve.take()
        assert third.pid not in [hire.pid for hire in hires]
        for hire in [*hires, third]:
            await hire.reap()


async def test_one_that_has_ended_in_reserve_is_passed_over() -> None:
    with trio.fail_after(60):
        reserve = Reserve()
        await reserve.fill(1)
        (ended,) = reserve._hires
        ended.kill()
        while ended.is_alive:  # noqa: ASYNC110 - the kernel's business
            await trio.sleep(0.01)
        taken = reserve.take()
        assert taken.pid != ended.pid
        await taken.reap()


async def test_one_is_kept_there_again_after_one_was_taken(monkeypatch) -> None:
    monkeypatch.setattr(reserve_module, "AGAIN_S", 0.0)
    reserve = Reserve()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reserve.keep)
            for _ in range(2):
                while not reserve._hires:  # noqa: ASYNC110 - it is another task's
                    await trio.sleep(0.01)
                await reserve.take().reap()
            nursery.cancel_scope.cancel()
        left = [hire.pid for hire in reserve._hires]
        await reserve.reap()
    for pid in left:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
