"""Whether this program runs as it was compiled ahead of time, or as plain Python.

Both are the same source and do the same; `setup.py` says what is compiled, and when.
"""

import importlib.util

_WITNESS = "meshlb.net.deadlines"
"""One of the modules that are compiled together; looking for it imports nothing heavy."""


def is_compiled() -> bool:
    """True where the hot path is machine code."""
    spec = importlib.util.find_spec(_WITNESS)
    return spec is not None and not str(spec.origin).endswith(".py")
