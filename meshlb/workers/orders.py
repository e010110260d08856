"""Orders that take workers their time: given to all, and awaited.

Owns the wait. A worker that does not obey in time is stuck, and ended, so that whoever has waited
can rely on all: each has obeyed, or is no more.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import structlog
import trio

from meshlb.workers.messages import Message
from meshlb.workers.post import Post

GRACE_S: Final = 2.0
"""How long a worker may take beyond what it was given, to say that it has obeyed."""

log = structlog.get_logger()


async def obey(
    orders: Mapping[Post, tuple[Message, Sequence[int]]], *, timeout_s: float
) -> list[str]:
    """Return once every worker has obeyed its order, or has ended.

    Args:
        orders: for each, with descriptors that go with it; posts without a worker need not.
        timeout_s: how long they may take.

    Returns:
        What those say whom something has hindered.
    """
    asked = [post for post in orders if post.channel is not None]
    for post in asked:
        post.fault, post.obeyed = "", trio.Event()
        post.tell(*orders[post])
    with trio.move_on_after(timeout_s + GRACE_S):
        for post in asked:
            await post.obeyed.wait()
    for post in asked:
        if not post.obeyed.is_set():
            log.error("a worker is stuck, and is ended", worker=post.number, pid=post.pid)
            post.kill()
    return [post.fault for post in asked if post.fault]
