"""The data plane: listeners, reactor, exchanges, tunnels, upstream connections, probes."""
