"""Socket adapters: listening, connecting, mapping of operating-system errors."""
