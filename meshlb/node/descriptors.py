"""The descriptors that this process may have open.

Each client takes two, so a node takes as many as its user may have, and does not start where that
is too few to serve anybody.
"""

import resource
from typing import Final

from meshlb.errors import DescriptorError

DESCRIPTORS_MIN: Final = 128
"""What a node and a few clients need."""


def take_all() -> None:
    """Raise the limit of this process to the highest that its user may have.

    Raises:
        DescriptorError: that is too low; nothing was changed.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < DESCRIPTORS_MIN:
        raise DescriptorError(
            f"this process may have {hard} open files, and a node needs at least {DESCRIPTORS_MIN}:"
            " raise the limit (`ulimit -Hn`, LimitNOFILE= of systemd)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
