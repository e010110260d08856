"""What only a privileged process may do: skip where it is missing, and do without it on purpose."""

import os
import pickle
from collections.abc import Callable
from typing import TypeVar

import pytest

from meshlb.net.bpf.calls import BpfError
from meshlb.proxy.kernel_probe import probe

NOBODY = 65_534

T = TypeVar("T")


def need_kernel_relay() -> None:
    """Skip the test where tunnels cannot be relayed by the kernel."""
    try:
        probe()
    except BpfError as error:
        pytest.skip(f"no kernel relay: {error}")


def as_nobody(call: Callable[[], T]) -> T:
    """What `call` returns, or its exception, in a process without any capability."""
    if os.getuid() != 0:
        return call()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            try:
                outcome: object = call()
            except Exception as error:
                outcome = error
            os.write(writer, pickle.dumps(outcome))
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        outcome = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
