"""The commands; all but `run`, `check` and `demo` talk to a node through its admin API."""
