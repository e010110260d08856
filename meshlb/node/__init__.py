"""A node, wired: the only place where proxy and cluster meet.

`lives` is the process, `life` one membership of it, `view` answers the admin API, `keys` are
its orders about the cluster's secrets, `shapes` and `readings` translate for it.
"""

from meshlb.node.lives import run

__all__ = ["run"]
