"""Cost of a round with murmura: `python run_murmura.py ROUNDS`.

Install it with `pip install git+https://github.com/Cloudslab/murmura`. What runs is its simulation backend, all nodes
in one process, with FedAvg among neighbours. An epoch of its loader is one batch, fetched by a single indexing, since a
round of murmura is a whole number of epochs. There is no attack and no evaluation.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import workload
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset


def batches(share: tuple) -> DataLoader:
    """Make a loader that gives one random batch each time it is gone through."""
    data = TensorDataset(*share)
    sampler = RandomSampler(data, num_samples=workload.BATCH_SIZE)
    return DataLoader(data, batch_size=None, sampler=BatchSampler(sampler, workload.BATCH_SIZE, drop_last=True))


@contextmanager
def start() -> Iterator[workload.Peer]:
    """Set murmura up."""
    import murmura

    nodes = [
        murmura.Node(index, workload.mlp(), batches(share), aggregator=murmura.FedAvgAggregator())
        for index, share in enumerate(workload.shares())
    ]
    network = murmura.Network(nodes, murmura.create_topology("ring", workload.AGENTS))
    yield workload.Peer(
        murmura.__version__,
        lambda rounds: network.train(rounds, lr=workload.LEARNING_RATE, eval_every=rounds + 1),
        lambda: [workload.flat(node.model) for node in nodes],
    )


if __name__ == "__main__":
    workload.main("murmura", start)
