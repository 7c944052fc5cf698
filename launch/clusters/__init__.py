"""Scripts and manifests that start an experiment on several machines, a file for each way."""
