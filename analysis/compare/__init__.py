"""Comparison of finished runs: tables with tests, times to a target, and relations between measures."""
