"""The stick table's storage: an LMDB environment with one writer."""

from meshlb.store.pins import LmdbPins

__all__ = ["LmdbPins"]
