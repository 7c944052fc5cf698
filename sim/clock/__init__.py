"""Simulated time: what each step of a run waits for, and when it ends on a described network."""
