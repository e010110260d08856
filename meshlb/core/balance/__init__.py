"""Balancing: who gets a new session, and whether a backend is fit to serve."""
