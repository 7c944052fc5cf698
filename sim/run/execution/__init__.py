"""The execution of single runs."""
