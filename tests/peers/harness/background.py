"""Clients that go on in a thread of their own while the test does something to the nodes.

The test keeps its thread, because a process that a thread starts dies with that thread.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

IsOver = Callable[[], bool]


@contextmanager
def in_background(clients: Callable[[IsOver], Coroutine[Any, Any, None]]) -> Iterator[None]:
    """Run `clients`, which end once what they are given says so: at the end of the block."""
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asyncio.run, clients(over.is_set))
        try:
            yield
        finally:
            over.set()
        running.result()
