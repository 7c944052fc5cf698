"""The local page to watch and compare runs: a small server that only reads."""
