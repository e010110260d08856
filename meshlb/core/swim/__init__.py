"""Membership: who is in the cluster and who is thought to be alive (SWIM with Lifeguard)."""
