"""The parts of a run: built, tried out and checked before anything runs."""
