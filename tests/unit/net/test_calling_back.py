import pytest
import trio
import trio.testing

from meshlb.net.calling_back import answer_of


async def test_an_answer_may_come_at_once_or_later():
    assert await answer_of(lambda take: take("at once")) == "at once"
    waiting = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_of, waiting.append)
        await trio.testing.wait_all_tasks_blocked()
        (take,) = waiting
        take("later")


async def test_an_error_instead_of_an_answer_is_raised():
    with pytest.raises(LookupError, match="nobody"):
        await answer_of(lambda take: take(LookupError("nobody")))
