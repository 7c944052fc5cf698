"""Execution of a run: its steps, its folder, and resumption after an interruption."""
