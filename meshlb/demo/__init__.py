"""`meshlb demo`: three nodes, three backends, simulated clients and a live view."""
