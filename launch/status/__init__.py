"""The state of runs for a terminal, for scripts, and for Prometheus."""
