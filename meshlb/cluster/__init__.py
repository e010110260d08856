"""The cluster at the edge: drives the pure machines of `core` over datagrams and streams."""
