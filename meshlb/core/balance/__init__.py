"""Balancing policies and backend health."""
