"""The stick table's storage: an LMDB environment with one writer."""
