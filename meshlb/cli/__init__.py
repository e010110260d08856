"""The commands; all but `run`, `check`, `keygen` and `demo` talk to a node's admin API.

Each family of commands is a file, and what it needs is imported when it is called: `meshlb status`
should not wait for what only `meshlb run` uses. Contract: "Commands".
"""

from meshlb.cli.act import drain, forget, leave, maintenance, ready, reload, unpin, upgrade
from meshlb.cli.check import check
from meshlb.cli.demo import demo
from meshlb.cli.group import main
from meshlb.cli.keygen import keygen
from meshlb.cli.keys import keys
from meshlb.cli.look import explain, heals, members, pins, pools, status
from meshlb.cli.run import run
from meshlb.cli.top import top

__all__ = ["main"]

for _command in (
    run,
    check,
    demo,
    keygen,
    status,
    members,
    pools,
    pins,
    explain,
    heals,
    top,
    unpin,
    drain,
    ready,
    maintenance,
    keys,
    reload,
    upgrade,
    forget,
    leave,
):
    main.add_command(_command)
