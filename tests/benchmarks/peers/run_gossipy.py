"""Cost of a round with gossipy: `python run_gossipy.py ROUNDS`.

Put a clone of https://github.com/makgyver/gossipy on PYTHONPATH and install its requirements and torchvision; the
release on PyPI, gossipy-dfl 0.0.1, has no all-to-all gossip yet. What runs is its All2AllGossipSimulator with rounds of
one time step, so that all agents act at once: each merges what it has received, takes a step and sends its model to
both neighbours. There is no report, no evaluation and no log; its progress bar cannot be switched off, but gets no
terminal to draw on. The loss is a function instead of a module because each message is a deep copy of the handler, loss
included.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import workload


@contextmanager
def start() -> Iterator[workload.Peer]:
    """Set gossipy up."""
    import gossipy
    import networkx as nx
    from gossipy.core import AntiEntropyProtocol, CreateModelMode, StaticP2PNetwork
    from gossipy.data import DataDispatcher
    from gossipy.data.handler import ClassificationDataHandler
    from gossipy.model import TorchModel
    from gossipy.model.handler import WeightedTMH
    from gossipy.node import All2AllGossipNode
    from gossipy.simul import All2AllGossipSimulator

    class Model(TorchModel):
        def __init__(self) -> None:
            super().__init__()
            self.model = workload.mlp()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x)

        def init_weights(self) -> None:
            """Keep the initial parameters, which all agents share."""

    gossipy.LOG.setLevel("ERROR")
    x, y = (torch.cat(parts) for parts in zip(*workload.shares(), strict=True))
    data = DataDispatcher(
        ClassificationDataHandler(x, y, test_size=0), n=workload.AGENTS, eval_on_user=False, auto_assign=False
    )
    data.set_assignments(list(torch.arange(len(x)).tensor_split(workload.AGENTS)), None)
    handler = WeightedTMH(
        Model(),
        torch.optim.SGD,
        {"lr": workload.LEARNING_RATE},
        torch.nn.functional.cross_entropy,
        local_epochs=0,
        batch_size=workload.BATCH_SIZE,
        create_model_mode=CreateModelMode.MERGE_UPDATE,
    )
    ring = StaticP2PNetwork(workload.AGENTS, nx.to_numpy_array(nx.cycle_graph(workload.AGENTS)))
    nodes = All2AllGossipNode.generate(data, ring, handler, round_len=1, sync=True)
    simulator = All2AllGossipSimulator(nodes, data, delta=1, protocol=AntiEntropyProtocol.PUSH)
    simulator.init_nodes()
    # Not its own mixing matrices: they take node 0 for one with 16 peers, and its Metropolis rows sum to 7/6.
    weights = [[1 / 3] * 3] * workload.AGENTS
    yield workload.Peer(
        f"{gossipy.__version__} from git",
        lambda rounds: simulator.start(weights, rounds),
        lambda: [workload.flat(node.model_handler.model) for node in nodes.values()],
    )


if __name__ == "__main__":
    workload.main("gossipy", start)
