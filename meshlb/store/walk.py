"""A program of its own that reads every page of a store: `python walk.py DIRECTORY`.

LMDB trusts its pages. A damaged one can be an error, an endless read or the end of the process,
so a store that may be damaged is read by a process that can be spared: `vetting` runs this one.
It exits with 0, or prints what is wrong, or dies, of SIGALRM if there is no end. It must import
nothing of meshlb, to start fast.
"""

import os
import signal
import sys
from collections import deque
from pathlib import Path

import lmdb

TABLES_MAX = 32

WALK_S_MAX = 120
"""Reading a million pins takes half a second; a damaged tree may have no end."""


def walk(directory: Path) -> None:
    """Read everything once.

    Reading a page beyond the end of the file would kill the process, so a file that is shorter
    than it should be is made longer first; pages that were never written and never needed do no
    harm, all others are noticed.

    Raises:
        lmdb.Error: the store is damaged.
    """
    path = directory / "data.mdb"
    environment = lmdb.open(
        str(directory), readonly=True, lock=False, create=False, max_dbs=TABLES_MAX
    )
    length_bytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if path.stat().st_size < length_bytes:
        os.truncate(path, length_bytes)
    # A compacting copy follows every page of every tree, and counts the free ones.
    with open(os.devnull, "wb") as nowhere:
        environment.copyfd(nowhere.fileno(), compact=True)
    with environment.begin() as transaction:
        for name in list(transaction.cursor().iternext(values=False)):
            table = environment.open_db(name, txn=transaction, create=False)
            deque(transaction.cursor(table), maxlen=0)
    environment.close()


if __name__ == "__main__":
    signal.alarm(WALK_S_MAX)
    try:
        walk(Path(sys.argv[1]))
    except lmdb.Error as error:
        print(error)
        sys.exit(1)
