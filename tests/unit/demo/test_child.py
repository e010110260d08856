import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from meshlb.demo.child import Child, ending

SLEEPER = ["timeit", "-n1", "-r1", "import time; time.sleep(600)"]


@pytest.fixture
def child(tmp_path: Path) -> Child:
    return Child("sleeper", SLEEPER, tmp_path / "log")


async def test_a_child_that_is_killed_reports_its_signal_and_can_start_again(child: Child) -> None:
    child.start()
    first = child.pid
    child.kill()
    with trio.fail_after(60):
        assert ending(await child.wait()) == "died by SIGKILL"
    child.start()
    assert child.pid != first
    await child.stop()
    assert not child.is_running


async def test_stopping_what_does_not_run_does_nothing(child: Child) -> None:
    await child.stop()
    child.kill()
    assert child.pid == 0


async def test_the_last_words_are_the_end_of_the_log(tmp_path: Path) -> None:
    child = Child(
        "talker", ["timeit", "-n1", "-r1", "raise SystemExit('no way')"], tmp_path / "log"
    )
    child.start()
    with trio.fail_after(60):
        assert ending(await child.wait()) == "exited with 1"
    assert child.last_words().endswith("no way")


PARENT = """
import sys
from pathlib import Path
from meshlb.demo.child import Child

child = Child("orphan", sys.argv[2:], Path(sys.argv[1]))
child.start()
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_no_child_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log"), *SLEEPER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        orphan = int(parent.stdout.readline())
        descriptor = os.pidfd_open(orphan)
        try:
            parent.send_signal(signal.SIGKILL)
            parent.wait()

            async def gone() -> None:
                with trio.fail_after(60):
                    await trio.lowlevel.wait_readable(descriptor)

            trio.run(gone)
        finally:
            os.close(descriptor)
