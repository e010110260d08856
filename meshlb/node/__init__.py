"""A node, wired: the only place where proxy and cluster meet.

`life` has the nursery and the order of start and end, `view` answers the admin API, `keys` are
its orders about the cluster's secrets, `shapes` and `readings` translate for it.
"""

from meshlb.node.life import run

__all__ = ["run"]
