"""How the states of runs are measured."""
