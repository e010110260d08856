import os
import signal

import pytest
import trio

from meshlb.workers import hire as hire_module
from meshlb.workers.hire import Hire, how


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_worker_ends_with_its_socket() -> None:
    hire = Hire.start()
    assert hire.is_alive
    with trio.fail_after(60):
        ended = await hire.reap()
    assert ended in ("with status 0", "by SIGKILL")  # A slow machine has not even loaded it.
    assert is_gone(hire.pid)


async def test_a_worker_that_does_not_end_by_itself_is_killed(monkeypatch) -> None:
    monkeypatch.setattr(hire_module, "REAP_S", 0.05)
    hire = Hire.start()
    os.kill(hire.pid, signal.SIGSTOP)
    with trio.fail_after(60):
        assert await hire.reap() == "by SIGKILL"
    assert is_gone(hire.pid)


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "with status 0"), (3, "with status 3"), (-9, "by SIGKILL"), (-99, "by signal 99")],
)
def test_an_end_is_told_in_words(status: int, words: str) -> None:
    assert how(status) == words
