"""Several processes for one node: a member, and the workers that serve its clients.

The *member* is the process that was started: it takes part in the cluster, writes the stick table,
probes the backends, answers the admin API and holds the listening sockets. Its *workers* accept at
these sockets and move the bytes. They read the stick table from the member's store by themselves
and ask for the rest over a Unix socket, in batches. What all of them count together stands on a
*board*, a piece of memory that they share.

`crew` and `desk` are the member's side, `process` and `table` a worker's; `messages`, `channel` and
`board` lie between them. Nothing here knows the cluster.
"""
