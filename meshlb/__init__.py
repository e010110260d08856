"""meshlb: a sticky-session proxy whose nodes agree, peer to peer, on every pin."""

__version__ = "0.1.0"
