"""The HTTP API, the dashboard and the metrics of one node."""
