"""Study of topologies by simulated time."""
