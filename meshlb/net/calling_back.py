"""Waiting, in a task, for what answers by calling back.

Owns nothing else; what is asked, and whom, is the caller's business.
"""

from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")


async def answer_of(ask: Callable[[Callable[[T | Exception], None]], None]) -> T:
    """What `ask` gives to the function that it is called with, once, perhaps before it returns.

    Raises:
        Exception: what it is given instead of an answer.
    """
    answers: list[T | Exception] = []
    has_come = trio.Event()

    def take(answer: T | Exception) -> None:
        answers.append(answer)
        has_come.set()

    ask(take)
    await has_come.wait()
    (answer,) = answers
    if isinstance(answer, Exception):
        raise answer
    return answer
