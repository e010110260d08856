"""The schema of the configuration file and its loader."""
