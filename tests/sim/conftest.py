"""Shared by the tests of the simulator."""

import networkx as nx
import pytest


@pytest.fixture
def quadratic_block(make_block):
    """Build agents with quadratic losses of their own, all at the point 2."""

    def make(strategy, policy="metropolis", replicas=2, topology=None, **keys):
        return make_block(
            model={"name": "point", "start": 2.0},
            topology={
                "name": topology or "ring",
                "agents": len(topology) if isinstance(topology, nx.Graph) else 6,
                "policy": policy,
            },
            strategy=strategy,
            batch_size=4,
            replicas=replicas,
            **{
                "task": {"name": "quadratic", "heterogeneity": 0.7},
                "optimizer": {"name": "sgd", "lr": 0.2},
                **keys,
            },
        )

    return make
