"""Pins: session keys, merge, homes, claims and the replication log."""
