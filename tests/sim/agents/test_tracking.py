"""Strategies that track gradients or relay them, on undirected and on directed graphs."""

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

from basinet.sim.experiment.component import ExperimentError

LR = 0.2
DIRECTED = nx.DiGraph([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2), (3, 4), (4, 1)])
EXACT = {
    "task": {"name": "quadratic", "heterogeneity": 0.7, "noise": 0.0, "curvature": [2.0, 1.0, 0.5]},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "replicas": 1,
}


class Gradients:
    """The gradients of a block's quadratic task at given points, on the same draws."""

    def __init__(self, block):
        self.block, self.task = block, block.task
        self.shape = block.placement.replicas, block.num_agents, 3

    def __call__(self, x, t):
        shifts = self.block.oracle.sampler.batch(t)[1].numpy().mean(1).reshape(self.shape)
        return (x - self.task.minimum.numpy()) @ self.task.hessian.numpy() + shifts


def close(block, x):
    np.testing.assert_allclose(block.x.numpy(), x.reshape(-1, 3), rtol=1e-11, atol=1e-11)


def test_momentum_tracking_follows_its_paper(quadratic_block):
    """The correction c, not the tracker u − c, is what Takezawa et al. write down."""
    block = quadratic_block({"name": "gradient_tracking", "order": "dsgt", "momentum": 0.5}, "lazy")
    block.advance(50)
    g, w = Gradients(block), block.setup.weights.toarray()
    x, u, c = np.full(g.shape, 2.0), 0, np.zeros(g.shape)
    for t in range(50):
        u = 0.5 * u + g(x, t)
        x, c = w @ (x - LR * (u - c)), w @ (c - u) + u
    close(block, x)


@pytest.mark.parametrize("order", ["atc", "diging"])
def test_momentum_is_tracked_as_a_whole(quadratic_block, order):
    block = quadratic_block({"name": "gradient_tracking", "order": order, "momentum": 0.5}, "lazy")
    block.advance(50)
    g, w = Gradients(block), block.setup.weights.toarray()
    x, m, y = np.full(g.shape, 2.0), 0, 0
    for t in range(50):
        new = 0.5 * m + g(x, t)
        if order == "atc":
            y = w @ (y + new - m)
            x = w @ (x - LR * y)
        else:
            y = w @ y + new - m if t else new
            x = w @ x - LR * y
        m = new
    close(block, x)


def test_hybrid_gradients_follow_the_paper(quadratic_block):
    block = quadratic_block({"name": "gt_hsgd", "beta": 0.2}, "lazy")
    block.advance(50)
    g, w = Gradients(block), block.setup.weights.toarray()
    x, v, y, old = np.full(g.shape, 2.0), 0, 0, None
    for t in range(50):
        new = g(x, t) if old is None else g(x, t) + 0.8 * (v - g(old, t))
        y = w @ (y + new - v)
        x, v, old = w @ (x - LR * y), new, x
    close(block, x)
    same = quadratic_block({"name": "gt_hsgd", "beta": 1.0}, "lazy")
    plain = quadratic_block("gradient_tracking", "lazy")
    same.advance(50)
    plain.advance(50)
    torch.testing.assert_close(same.x, plain.x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("strategy", ["exact_diffusion", "d2"])
def test_local_exact_diffusion_follows_the_paper(quadratic_block, strategy):
    block = quadratic_block({"name": strategy, "period": 3}, "lazy")
    block.advance(60)
    g, w = Gradients(block), block.setup.weights.toarray()
    w = (np.eye(6) + w) / 2 if strategy == "exact_diffusion" else w
    x, y = np.full(g.shape, 2.0), 0
    for t in range(60):
        x = x - LR * g(x, t) - y / 3
        if t % 3 == 2:
            mixed = w @ x
            y, x = y + x - mixed, mixed
    close(block, x)


def test_d2_with_lazy_weights_is_exact_diffusion(quadratic_block):
    lazy, exact = quadratic_block("d2", "lazy"), quadratic_block("exact_diffusion", "metropolis")
    for block in (lazy, exact):
        block.advance(50)
    torch.testing.assert_close(lazy.x, exact.x, rtol=1e-12, atol=1e-12)


def test_with_full_averages_local_d2_is_scaffold(quadratic_block):
    """Option II of the paper, with all clients and the server rate 1."""
    block = quadratic_block({"name": "d2", "period": 3}, topology="complete")
    block.advance(60)
    g = Gradients(block)
    x, c = np.full((g.shape[0], 1, 3), 2.0), np.zeros(g.shape)
    for round_ in range(20):
        y = x + np.zeros(g.shape)
        for t in range(3 * round_, 3 * round_ + 3):
            y = y - LR * (g(y, t) - c + c.mean(1, keepdims=True))
        c = c - c.mean(1, keepdims=True) + (x - y) / (3 * LR)
        x = y.mean(1, keepdims=True)
    close(block, x + np.zeros(g.shape))


def test_local_sgd_with_period_one_is_centralized(quadratic_block):
    local, central = quadratic_block({"name": "local_sgd", "period": 1}), quadratic_block("centralized")
    for block in (local, central):
        block.advance(50)
    torch.testing.assert_close(local.x, central.x, rtol=1e-12, atol=1e-12)


def test_local_tracking_follows_the_paper(quadratic_block):
    block = quadratic_block({"name": "k_gt", "period": 3}, "lazy")
    block.advance(60)
    g, w = Gradients(block), block.setup.weights.toarray()
    x, c = np.full(g.shape, 2.0), np.zeros(g.shape)
    for round_ in range(20):
        start = x
        for t in range(3 * round_, 3 * round_ + 3):
            x = x - LR * (g(x, t) + c)
        z = (start - x) / (3 * LR)
        c = c - z + w @ z
        x = w @ (start - 3 * LR * z)
    close(block, x)


@pytest.mark.parametrize("strategy", ["exact_diffusion", "k_gt"])
def test_corrected_local_steps_reach_the_minimum(quadratic_block, strategy):
    block = quadratic_block({"name": strategy, "period": 3}, **EXACT)
    block.advance(900)
    assert float((block.x - block.task.minimum).abs().max()) < 1e-10
    assert block.channel.bytes_sent == 300 * 12 * 3 * 8 * (2 if strategy == "k_gt" else 1)


@pytest.fixture
def regression():
    """Least squares with a unique minimum, which the agents' data do not share."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    targets = inputs @ torch.ones(4, 1, dtype=torch.float64) + torch.randn(60, 1, generator=generator).double()

    class Squares(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(4, 1, bias=False)
            nn.init.zeros_(self.line.weight)

        def forward(self, inputs):
            return self.line(inputs)

    from basinet.sim.tasks import Task

    class Regression(Task):
        def loss(self, outputs, batch):
            return 0.5 * (outputs - batch[1]).square().sum(1)

    task = Regression(train=(inputs, targets), num_outputs=1, classification=False)
    minimum = torch.linalg.lstsq(inputs, targets).solution[:, 0]
    return {
        "task": task,
        "model": Squares,
        "batch_size": 3,
        "replicas": 1,
        "topology": {"name": "path", "agents": 4},
    }, minimum


def test_recursive_gradients_reach_the_minimum_of_all_data(make_block, regression):
    keys, minimum = regression
    optimizer = {"name": "sgd", "lr": 0.1}
    block = make_block(strategy={"name": "gt_sarah", "period": 15}, optimizer=optimizer, **keys)
    noisy = make_block(strategy="gradient_tracking", optimizer=optimizer, **keys)
    for b in (block, noisy):
        b.advance(800)
    assert float((block.x - minimum).abs().max()) < 1e-10
    assert float((noisy.x - minimum).abs().max()) > 1e-3
    every = make_block(strategy={"name": "gt_sarah", "period": 1}, optimizer=optimizer, **keys)
    every.advance(5)
    # With the gradient of all data at every step it is the recursion of gradient tracking, without noise.
    w = every.setup.weights.toarray()
    data = [tuple(t[torch.from_numpy(held)].numpy() for t in every.task.train) for held in every.setup.holdings[0]]
    x, g, y = np.zeros((4, 4)), 0, 0
    for _ in range(5):
        new = np.stack([a.T @ (a @ x[k] - b[:, 0]) / len(b) for k, (a, b) in enumerate(data)])
        y = w @ (y + new - g)
        x, g = w @ (x - 0.1 * y), new
    np.testing.assert_allclose(every.x.numpy(), x, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("order", ["atc", "ab"])
def test_push_pull_follows_the_papers_on_a_directed_graph(quadratic_block, order):
    block = quadratic_block({"name": "push_pull", "order": order}, "uniform", topology=DIRECTED)
    block.advance(50)
    hears = nx.to_numpy_array(DIRECTED).T + np.eye(5)
    pull, push = hears / hears.sum(1, keepdims=True), hears / hears.sum(0, keepdims=True)
    g = Gradients(block)
    x, old, y = np.full(g.shape, 2.0), 0, 0
    for t in range(50):
        new = g(x, t)
        y = push @ y + new - old if t else new
        x, old = pull @ (x - LR * y) if order == "atc" else pull @ x - LR * y, new
    close(block, x)


def test_push_diging_follows_the_paper_on_a_directed_graph(quadratic_block):
    block = quadratic_block("push_diging", "push", topology=DIRECTED, optimizer={"name": "sgd", "lr": 0.05})
    block.advance(50)
    hears = nx.to_numpy_array(DIRECTED).T + np.eye(5)
    push = hears / hears.sum(0, keepdims=True)
    g = Gradients(block)
    u, v, z, old, y = np.full(g.shape, 2.0), np.ones((5, 1)), np.full(g.shape, 2.0), 0, 0
    for t in range(50):
        new = g(z, t)
        y = push @ y + new - old if t else new
        u, v = push @ (u - 0.05 * y), push @ v
        z, old = u / v, new
    close(block, z)


@pytest.mark.parametrize(("strategy", "policy"), [("push_pull", "uniform"), ("push_diging", "push")])
def test_trackers_on_directed_graphs_reach_the_minimum_of_the_mean(quadratic_block, strategy, policy):
    block = quadratic_block(strategy, policy, topology=DIRECTED, **EXACT)
    block.advance(900)
    # The shifts of the agents' gradients sum to zero: all agents count the same.
    assert float((block.x - block.task.minimum).abs().max()) < 1e-10


def test_push_pull_with_weights_of_both_kinds_is_gradient_tracking_with_mixed_parameters(quadratic_block):
    block = quadratic_block("push_pull", "metropolis")
    block.advance(30)
    g, w = Gradients(block), block.setup.weights.toarray()
    x, old, y = np.full(g.shape, 2.0), 0, 0
    for t in range(30):
        new = g(x, t)
        y = w @ y + new - old if t else new
        x, old = w @ (x - LR * y), new
    close(block, x)


@pytest.mark.parametrize("tree", ["path", "star", "tree"])
def test_relayed_updates_are_as_old_as_they_are_far_away(quadratic_block, tree):
    block = quadratic_block("relay", topology=tree)
    block.advance(40)
    g, agents = Gradients(block), block.num_agents
    distance = np.array(nx.floyd_warshall_numpy(block.setup.graph)).astype(int)
    x, adapted = np.full(g.shape, 2.0), []
    for t in range(40):
        adapted.append(x - LR * g(x, t))
        x = np.full(g.shape, 0.0)
        for k in range(agents):
            for other in range(agents):
                delay = max(0, distance[k, other] - 1)  # neighbours hear of the same step
                x[:, k] += (adapted[t - delay][:, other] if delay <= t else 2.0) / agents
    close(block, x)


def test_relaying_reaches_the_minimum_without_bias(quadratic_block):
    block = quadratic_block("relay", topology="path", **EXACT)
    block.advance(600)
    centroid = block.x.mean(0)
    assert float((centroid - block.task.minimum).abs().max()) < 1e-2  # its agents differ by delayed gradients
    assert block.channel.bytes_sent == 600 * 2 * 5 * 3 * 8


@pytest.mark.parametrize("topology", ["ring", "complete", nx.DiGraph([(0, 1), (1, 2), (2, 0), (1, 0)])])
def test_relaying_needs_a_tree(quadratic_block, topology):
    with pytest.raises(ExperimentError, match="strategy: relay needs a tree"):
        quadratic_block("relay", "uniform", topology=topology, trial=True)


@pytest.mark.parametrize(
    "optimizer", [{"name": "sgd", "lr": LR, "momentum": 0.9}, {"name": "nsgd", "lr": 0.1, "momentum": 0.5}]
)
def test_agents_that_rest_keep_everything(quadratic_block, optimizer):
    block = quadratic_block({"name": "asynchronous", "activity": 0.4}, optimizer=optimizer)
    for _ in range(5):
        before, state = block.x.clone(), [t.clone() for t in block.optimizer.rows()]
        from basinet.algorithms import draws

        active = draws.uniform(block.keys("activation"), ()) < 0.4
        block.advance(block.step + 1)
        moved = (block.x != before).any(1)
        assert torch.equal(moved, active)
        assert 0 < int(active.sum()) < len(active)
        for now, then in zip(block.optimizer.rows(), state, strict=False):
            assert torch.equal((now != then).any(1), active)


def test_active_agents_mix_among_themselves(quadratic_block):
    block = quadratic_block({"name": "asynchronous", "activity": 0.5})
    from basinet.algorithms import draws

    g, w = Gradients(block), block.setup.weights.toarray()
    x = np.full(g.shape, 2.0)
    for t in range(60):
        keys = draws.fold(draws.agent_keys(0, "activation", *block.placement.index("cpu")), t)
        a = (draws.uniform(keys, ()) < 0.5).numpy().reshape(g.shape[:2]).astype(float)
        x = x - LR * a[..., None] * g(x, t)
        mixing = w * a[:, :, None] * a[:, None, :] * (1 - np.eye(6))
        mixing += np.eye(6) * (1 - mixing.sum(2))[:, :, None]
        x = mixing @ x
    block.advance(60)
    close(block, x)
    always, diffusion = quadratic_block({"name": "asynchronous", "activity": 1.0}), quadratic_block("diffusion")
    always.advance(50)
    diffusion.advance(50)
    torch.testing.assert_close(always.x, diffusion.x, rtol=1e-12, atol=1e-12)
    assert always.channel.bytes_sent == diffusion.channel.bytes_sent
