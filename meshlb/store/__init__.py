"""The stick table's storage: an LMDB environment with one writer."""

from meshlb.store.opening import open_pins
from meshlb.store.pins import LmdbPins
from meshlb.store.vetting import Owner

__all__ = ["LmdbPins", "Owner", "open_pins"]
