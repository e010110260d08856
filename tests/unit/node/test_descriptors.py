import subprocess
import sys

from meshlb.node.descriptors import DESCRIPTORS_MIN

PROGRAM = """
import resource, sys
from meshlb.node.descriptors import take_all
resource.setrlimit(resource.RLIMIT_NOFILE, (100, int(sys.argv[1])))
take_all()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def with_limit(hard: int) -> subprocess.CompletedProcess[str]:
    """In a process of its own, since a limit that was lowered stays low."""
    argv = [sys.executable, "-c", PROGRAM, str(hard)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_a_node_takes_as_many_descriptors_as_it_may_have() -> None:
    assert with_limit(DESCRIPTORS_MIN).stdout.split() == [str(DESCRIPTORS_MIN)] * 2


def test_too_few_descriptors_are_an_error_that_says_what_to_do() -> None:
    said = with_limit(DESCRIPTORS_MIN - 1).stderr.splitlines()[-1]
    assert f"this process may have {DESCRIPTORS_MIN - 1} open files" in said
    assert "raise the limit" in said
