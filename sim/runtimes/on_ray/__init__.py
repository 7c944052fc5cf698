"""The Ray runtime: the cluster, which runs fit on it, and the actors that share the agents of a run."""
