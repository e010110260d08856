"""The native build: with `MESHLB_COMPILE=1` the hot path becomes machine code, by mypyc.

Without that this file adds nothing: the wheel is pure Python and runs everywhere. The source is the
same in both cases, and an editable install always runs the source. What is compiled is listed in
`pyproject.toml`; why it is done this way is in docs/adr/0017-the-hot-path-can-be-compiled.md.
"""

import os
import shutil
import sys
import sysconfig
import tomllib
from pathlib import Path

from setuptools import Extension, setup

MYPYC = "mypy[mypyc]==2.4.1"
"""What compiles. Exactly this version: what it makes is a part of the product."""

IS_ASKED_FOR = os.environ.get("MESHLB_COMPILE", "0") not in ("", "0")


def native_modules() -> list[Extension]:
    """What goes into the wheel that is being built; ends the build where that cannot be made."""
    if not IS_ASKED_FOR or "bdist_wheel" not in sys.argv:
        return []
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        sys.exit(f"MESHLB_COMPILE: there is no C compiler ({compiler}); without it, unset this")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        sys.exit("MESHLB_COMPILE: there is no Python.h (python3-dev); without it, unset this")
    from mypyc.build import mypycify  # It is there only where it was asked for.

    modules = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["meshlb"]["compiled"]
    # Whether types are right is for `make check` to say: what meshlb imports is not installed here.
    options = ["--config-file=", "--ignore-missing-imports", "--cache-dir=build/mypy_cache"]
    return mypycify(
        options + [f"meshlb/{module}.py" for module in modules],
        group_name="meshlb",
        opt_level=os.environ.get("MYPYC_OPT_LEVEL", "2"),
        debug_level="0",
    )


setup(ext_modules=native_modules(), setup_requires=[MYPYC] if IS_ASKED_FOR else [])
