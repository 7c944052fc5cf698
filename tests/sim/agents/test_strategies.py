"""Strategies against recursions written by hand, and their exact identities."""

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from basinet.algorithms.strategies import StrategyTraits
from basinet.sim.agents.messages.mixer import Mixer
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.worker import Worker
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.tasks import Quadratic
from tests.stepped import STEPPED

STEPS = 100
K, M, LR = 6, 3, 0.2


RECURSIONS = {
    "centralized": lambda w, x, g, old: x[-1] - LR * g[-1].mean(1, keepdims=True),
    "isolated": lambda w, x, g, old: x[-1] - LR * g[-1],
    "consensus": lambda w, x, g, old: w @ x[-1] - LR * g[-1],
    "diffusion": lambda w, x, g, old: w @ (x[-1] - LR * g[-1]),
    "exact_diffusion": lambda w, x, g, old: _corrected((np.eye(K) + w) / 2, x, g),
    "nids": lambda w, x, g, old: x[-1] - LR * g[-1] if len(x) == 1 else _corrected((np.eye(K) + w) / 2, x, g),
    "d2": lambda w, x, g, old: _corrected(w, x, g),
    "extra": lambda w, x, g, old: (
        w @ x[-1] - LR * g[-1]
        if len(x) == 1
        else (np.eye(K) + w) @ x[-1] - (np.eye(K) + w) / 2 @ x[-2] - LR * (g[-1] - g[-2])
    ),
    "local_sgd": lambda w, x, g, old: _averaged(x[-1] - LR * g[-1], len(x) % 4 == 0),
    "gossip_pga": lambda w, x, g, old: _averaged(x[-1] - LR * g[-1], len(x) % 8 == 0, w),
    "gradient_tracking": lambda w, x, g, old: w @ (x[-1] - LR * _tracked(old, w @ (old.get("y", 0) + _change(g)))),
    "gradient_tracking-aug_dgm": lambda w, x, g, old: (
        w @ (x[-1] - LR * _tracked(old, w @ (old["y"] + _change(g)) if "y" in old else g[-1]))
    ),
    "gradient_tracking-dsgt": lambda w, x, g, old: (
        w @ (x[-1] - LR * _tracked(old, w @ old["y"] + _change(g) if "y" in old else g[-1]))
    ),
    "gradient_tracking-diging": lambda w, x, g, old: (
        w @ x[-1] - LR * _tracked(old, w @ old["y"] + _change(g) if "y" in old else g[-1])
    ),
}
"""x_{n+1} from all x, g(x) and draws so far, as the papers write it; `old` keeps what else a method carries."""


def _corrected(w, x, g):
    return w @ (x[-1] - LR * g[-1] if len(x) == 1 else 2 * x[-1] - x[-2] - LR * (g[-1] - g[-2]))


def _averaged(x, now, otherwise=None):
    return x.mean(1, keepdims=True) + 0 * x if now else x if otherwise is None else otherwise @ x


def _change(g):
    return g[-1] - (g[-2] if len(g) > 1 else 0)


def _tracked(old, y):
    old["y"] = y
    return y


def recursion(block, strategy, step):
    """Run the same draws through a line of numpy."""
    task = block.task
    assert isinstance(task, Quadratic)
    h, w_star, mixing = task.hessian.numpy(), task.minimum.numpy(), block.setup.weights.toarray()
    replicas = block.placement.replicas
    x, g, old = [np.full((replicas, K, M), 2.0)], [], {}
    for t in range(step):
        shifts = block.oracle.sampler.batch(t)[1].numpy().mean(1).reshape(replicas, K, M)
        if strategy == "diffusion-cta":
            x.append(mixing @ x[-1])
            x.append(x[-1] - LR * ((x[-1] - w_star) @ h + shifts))
        else:
            g.append((x[-1] - w_star) @ h + shifts)
            x.append(RECURSIONS[strategy](mixing, x, g, old))
    return x[-1].reshape(-1, M)


CENTRAL = ("centralized", "isolated", "local_sgd")
ORDERS = ("gradient_tracking", *(f"gradient_tracking-{order}" for order in ("aug_dgm", "dsgt", "diging")))
SYMMETRIC = ("exact_diffusion", "nids", "d2", "extra", *ORDERS)


@pytest.mark.parametrize("strategy", [*RECURSIONS, "diffusion-cta"])
@pytest.mark.parametrize("policy", ["laplacian", "uniform"])
def test_a_quadratic_follows_the_recursion(quadratic_block, strategy, policy):
    name, _, order = strategy.partition("-")
    component = {"name": name, "order": order} if order else name
    policy = {"name": "laplacian", "step": 0.25} if policy == "laplacian" else policy
    topology = nx.barbell_graph(3, 0)
    if policy == "uniform" and strategy in SYMMETRIC:
        with pytest.raises(ExperimentError, match=f"strategy: {name} needs (symmetric )?weights.*metropolis"):
            quadratic_block(component, policy, topology=topology, trial=True)
        return
    block = quadratic_block(component, policy, topology=topology)
    block.advance(STEPS)
    np.testing.assert_allclose(block.x.numpy(), recursion(block, strategy, STEPS), rtol=1e-11, atol=1e-11)


def test_decentlam_needs_symmetric_weights_that_stay(quadratic_block):
    with pytest.raises(ExperimentError, match="strategy: decentlam needs symmetric weights"):
        quadratic_block("decentlam", "uniform", topology="exponential", trial=True)
    with pytest.raises(ExperimentError, match="decentlam needs the same graph at every step"):
        quadratic_block("decentlam", None, topology="one_peer_exponential")


def test_d2_needs_weights_that_are_not_too_alternating(quadratic_block):
    with pytest.raises(ExperimentError, match=r"d2 needs weights whose smallest eigenvalue is above -1/3.*-0.3333"):
        quadratic_block("d2", trial=True)  # Metropolis weights on a ring of six agents


NOISELESS = {
    "task": {"name": "quadratic", "heterogeneity": 0.7, "noise": 0.0, "curvature": [2.0, 1.0, 0.5]},
    "model": {"name": "point", "start": 2.0},
    "topology": {"name": "ring", "agents": K, "policy": {"name": "laplacian", "step": 0.25}},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "replicas": 1,
    "trial": False,
}


@pytest.mark.parametrize("strategy", SYMMETRIC)
def test_exact_methods_reach_the_minimum(make_block, strategy):
    name, _, order = strategy.partition("-")
    exact = make_block(strategy={"name": name, "order": order} if order else name, **NOISELESS)
    exact.advance(400)
    assert float((exact.x - exact.task.minimum).abs().max()) < 1e-7


def test_diffusion_reaches_its_bias(make_block):
    diffusion = make_block(strategy="diffusion", **NOISELESS)
    diffusion.advance(500)  # the slowest part shrinks by 0.95 a step, to 1e-11
    # The fixed point of x = W (x − μ (H (x − w*) + b)), solved as one linear system.
    w, h = diffusion.setup.weights.toarray(), diffusion.task.hessian.numpy()
    b = diffusion.task.shifts.numpy()
    system = np.eye(K * M) - np.kron(w, np.eye(M) - 0.1 * h)
    bias = np.linalg.solve(system, (-0.1 * w @ b).ravel()).reshape(K, M)
    np.testing.assert_allclose((diffusion.x - diffusion.task.minimum).numpy(), bias, rtol=0, atol=1e-10)
    assert abs(bias).max() > 1e-3


@pytest.mark.parametrize("strategy", ["quasi_global_momentum", "decentlam", "slowmo"])
def test_momentum_of_the_network_follows_the_papers(quadratic_block, strategy):
    block = quadratic_block(strategy)
    h, w_star, w = block.task.hessian.numpy(), block.task.minimum.numpy(), block.setup.weights.toarray()
    x = np.full((2, K, M), 2.0)
    start, m = x, np.zeros_like(x)
    for t in range(40):
        g = (x - w_star) @ h + block.oracle.sampler.batch(t)[1].numpy().mean(1).reshape(2, K, M)
        if strategy == "quasi_global_momentum":
            moved = w @ (x - LR * (0.9 * m + g))
            m, x = 0.9 * m + 0.1 * (x - moved) / LR, moved
        elif strategy == "decentlam":
            m = 0.9 * m + (x - w @ (x - LR * g)) / LR
            x = x - LR * m
        elif (t + 1) % 8:
            x = w @ (x - LR * g)
        else:
            mean = (x - LR * g).mean(1, keepdims=True)
            m = 0.5 * m + (start - mean) / LR
            x = start = start - LR * m
    block.advance(40)
    np.testing.assert_allclose(block.x.numpy(), x.reshape(-1, M), rtol=1e-11, atol=1e-11)


def test_tracking_on_the_complete_graph_is_centralized(make_block):
    keys = {"topology": {"name": "complete", "agents": 4}, "optimizer": {"name": "sgd", "lr": 0.1}}
    tracking = make_block(strategy="gradient_tracking", **keys)
    centralized = make_block(strategy="centralized", **keys)
    local = make_block(strategy={"name": "local_sgd", "period": 1}, **keys)
    for block in (tracking, centralized, local):
        block.advance(30)
    torch.testing.assert_close(tracking.x, centralized.x, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(local.x, centralized.x, rtol=1e-11, atol=1e-12)


def test_atc_with_the_exact_average_is_centralized(make_block):
    average = np.full((4, 4), 1 / 4)
    topology = {"name": nx.complete_graph(4), "policy": average}
    atc = make_block(strategy="diffusion", topology=topology)
    centralized = make_block(strategy="centralized", topology=topology)
    atc.advance(40)
    centralized.advance(40)
    torch.testing.assert_close(atc.x, centralized.x, rtol=1e-12, atol=1e-13)


def test_atc_is_cta_read_after_mixing(make_block):
    atc = make_block(strategy={"name": "diffusion", "order": "atc"})
    cta = make_block(strategy={"name": "diffusion", "order": "cta"})
    atc.advance(30)
    cta.advance(30)
    cta.combine(cta.x)
    torch.testing.assert_close(atc.x, cta.x, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "sgd", "lr": 0.3},
        {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3},
        {"name": "adam", "lr": 0.01},
        {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
    ],
)
@pytest.mark.parametrize("model", [{"name": "mlp", "hidden": [6]}, {"name": "cnn", "channels": [4]}])
def test_centralized_is_plain_pytorch_on_all_samples(make_block, optimizer, model):
    block = make_block(strategy="centralized", optimizer=optimizer, model=model, schedule="cosine")
    plain = block.setup.model().double()
    torch.nn.utils.vector_to_parameters(block.x[0].clone(), plain.parameters())
    reference = block.setup.optimizer(plain.parameters())
    base = reference.param_groups[0]["lr"]
    for step in range(20):
        reference.param_groups[0]["lr"] = base * block.setup.rate_factor(step)
        inputs, targets = (t[:4].flatten(0, 1) for t in block.oracle.sampler.batch(step))
        reference.zero_grad()
        torch.nn.functional.cross_entropy(plain(inputs), targets).backward()
        reference.step()
        block.advance(step + 1)
        flat = torch.nn.utils.parameters_to_vector(plain.parameters())
        for agent in range(4):
            torch.testing.assert_close(block.x[agent], flat.detach(), rtol=1e-11, atol=1e-12)


def test_copies_of_the_centralized_model_stay_equal_bit_by_bit(make_block):
    block = make_block(strategy="centralized", optimizer={"name": "adam", "lr": 0.01})
    block.advance(30)
    assert torch.equal(block.x[:4], block.x[:1].expand(4, -1))
    assert not torch.equal(block.x[0], block.x[4])


@pytest.mark.parametrize("agents", [4, 70])
@pytest.mark.parametrize("policy", ["metropolis", "laplacian"])
def test_combine_conserves_the_average_of_the_agents(make_block, agents, policy):
    block = make_block(topology={"name": "ring", "agents": agents, "policy": policy})
    x = torch.randn(block.x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = x.view(2, agents, -1).mean(1)
    block.combine(x)
    torch.testing.assert_close(x.view(2, agents, -1).mean(1), before, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dense_share", [0.0, 2.0])
@pytest.mark.parametrize("policy", ["uniform", "push"])
def test_dense_and_sparse_products_are_that_of_the_matrix(make_setup, policy, dense_share):
    weights = make_setup(topology={"name": "wheel", "agents": 5, "policy": "uniform"}).weights
    weights = weights if policy == "uniform" else csr_array(weights.T)  # rows that do not sum to one
    x = torch.randn(10, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mixer = Mixer(weights, Placement.split(2, 5), x, dense_share=dense_share)
    assert (mixer.dense is None) == (dense_share > 1)
    result = torch.empty_like(x)
    mixer.combine(x, result)
    wanted = torch.from_numpy(weights.toarray()) @ x.view(2, 5, 7)
    torch.testing.assert_close(result.view(2, 5, 7), wanted, rtol=0, atol=1e-14)


def test_directed_weights_conserve_the_perron_average(make_block):
    graph = nx.DiGraph([(0, 1), (1, 2), (2, 0), (0, 2)])
    block = make_block(topology={"name": graph, "policy": "uniform"})
    x = torch.randn(block.x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = block.channel.replicas.centroid(x)
    block.combine(x)
    torch.testing.assert_close(block.channel.replicas.centroid(x), before, rtol=1e-13, atol=1e-14)


def test_bytes_are_counted_as_they_would_travel(make_block):
    size = make_block().x.shape[1] * 8
    for strategy, messages in (("diffusion", 8), ("consensus", 8), ("centralized", 8), ("isolated", 0)):
        block = make_block(strategy=strategy)
        block.advance(3)
        assert block.channel.bytes_sent == 3 * messages * size


@pytest.mark.parametrize("strategy", ["consensus", "diffusion", {"name": "diffusion", "order": "cta"}])
def test_views_follow_where_the_parameters_move(make_block, strategy):
    block = make_block(strategy=strategy)
    block.advance(3)
    state = block.state
    for flat, views in ((state.parameters, state.parameter_views), (state.gradients, state.gradient_views)):
        joined = torch.cat([view.detach().flatten(1) for view in views.values()], dim=1)
        assert torch.equal(joined, flat)
        storage = flat.untyped_storage().data_ptr()
        assert all(view.untyped_storage().data_ptr() == storage for view in views.values())
    assert block.x is state.parameters and state.parameters.data_ptr() != state.gradients.data_ptr()


def test_any_rows_can_be_mixed(make_block):
    block = make_block(strategy="isolated")
    block.advance(2)
    x, memory = block.x.clone(), torch.randn_like(block.x)
    mixed = torch.stack([torch.from_numpy(block.setup.weights.toarray()) @ part for part in memory.split(4)]).flatten(
        0, 1
    )
    g = block.gradients().clone()
    block.combine(memory)
    torch.testing.assert_close(memory, mixed, rtol=1e-12, atol=1e-13)
    assert torch.equal(block.x, x) and torch.equal(block.state.gradients, g)  # the gradients are still needed


@pytest.mark.parametrize("policy", ["keep", "mix", "reset"])
@pytest.mark.parametrize("strategy", ["diffusion", "local_sgd"])
def test_momentum_under_mixing_is_as_declared(quadratic_block, policy, strategy):
    block = quadratic_block(strategy, optimizer={"name": "sgd", "lr": LR, "momentum": 0.5}, optimizer_state=policy)
    h, w_star, w = block.task.hessian.numpy(), block.task.minimum.numpy(), block.setup.weights.toarray()
    x, m = np.full((2, K, M), 2.0), np.zeros((2, K, M))
    for t in range(20):
        m = 0.5 * m + (x - w_star) @ h + block.oracle.sampler.batch(t)[1].numpy().mean(1).reshape(2, K, M)
        x = x - LR * m
        now = w if strategy == "diffusion" else np.full((K, K), 1 / K) if (t + 1) % 4 == 0 else None
        if now is not None:
            x = now @ x
            m = {"keep": m, "mix": now @ m, "reset": 0 * m}[policy]
    block.advance(20)
    np.testing.assert_allclose(block.x.numpy(), x.reshape(-1, M), rtol=1e-11, atol=1e-11)
    messages = 20 * 2 * K if strategy == "diffusion" else 5 * 2 * K
    assert block.channel.bytes_sent == messages * M * 8 * (2 if policy == "mix" else 1)


def test_running_statistics_can_be_mixed(make_block):
    model = {"name": "mlp", "hidden": [6], "norm": "batch"}
    mixed, kept = (make_block(model=model, buffers=how, strategy="diffusion") for how in ("mix", "keep"))
    for block in (mixed, kept):
        block.advance(1)
    w = torch.from_numpy(kept.setup.weights.toarray())
    for name, buffer in kept.state.buffers.items():
        if buffer.is_floating_point():
            expected = torch.cat([w @ part for part in buffer.split(4)])
            torch.testing.assert_close(mixed.state.buffers[name], expected, rtol=1e-12, atol=1e-13)
        else:
            assert torch.equal(mixed.state.buffers[name], buffer)


def test_state_of_separate_optimizers_cannot_be_mixed(make_setup):
    class Separate(torch.optim.SGD):
        pass

    with pytest.raises(ExperimentError, match=r"Separate cannot work here .*once per agent"):
        make_setup(optimizer={"name": Separate, "lr": 0.1}, optimizer_state="mix")


def _split(graph):
    sends = nx.to_numpy_array(graph).T + np.eye(len(graph))
    return sends / sends.sum(0)


LOPSIDED = nx.DiGraph([(0, 1), (1, 2), (2, 0), (0, 3), (3, 0), (2, 4), (4, 5), (5, 2), (0, 5)])


def test_push_sum_follows_the_paper_on_a_directed_graph(quadratic_block):
    block = quadratic_block("push_sum", "push", topology=LOPSIDED)
    h, w_star, p = block.task.hessian.numpy(), block.task.minimum.numpy(), _split(LOPSIDED)
    np.testing.assert_allclose(block.setup.weights.toarray(), p)
    u, v = np.full((2, K, M), 2.0), np.ones((K, 1))
    for t in range(60):
        g = (u / v - w_star) @ h + block.oracle.sampler.batch(t)[1].numpy().mean(1).reshape(2, K, M)
        u, v = p @ (u - LR * g), p @ v
    block.advance(60)
    np.testing.assert_allclose(block.x.numpy(), (u / v).reshape(-1, M), rtol=1e-11, atol=1e-11)
    assert abs(v - 1).max() > 0.2  # the weights matter


def test_push_sum_with_doubly_stochastic_weights_is_diffusion(make_block):
    one, other = (make_block(strategy=strategy) for strategy in ("push_sum", "diffusion"))
    for block in (one, other):
        block.advance(30)
    torch.testing.assert_close(one.x, other.x, rtol=1e-11, atol=1e-12)


def test_push_sum_wants_columns_that_sum_to_one(quadratic_block):
    with pytest.raises(ExperimentError, match=r"topology.policy: row 0 .*push_sum needs columns that sum to one"):
        quadratic_block("push_sum", "uniform", topology=LOPSIDED)


def test_choco_without_compression_is_diffusion(make_block):
    choco = make_block(strategy={"name": "choco", "compressor": "none", "gamma": 1.0})
    diffusion = make_block(strategy="diffusion")
    for block in (choco, diffusion):
        block.advance(30)
    torch.testing.assert_close(choco.x, diffusion.x, rtol=1e-11, atol=1e-12)
    assert choco.channel.bytes_sent == diffusion.channel.bytes_sent


@pytest.mark.parametrize("compressor", ["top_k", "random_k", "sign", "qsgd"])
def test_choco_agrees_in_fewer_bytes(quadratic_block, compressor):
    strategy = {"name": "choco", "compressor": compressor, "share": 0.34, "gamma": 0.2}
    still = {"name": "quadratic", "heterogeneity": 0.7, "noise": 0.0}
    block = quadratic_block(strategy, task=still, optimizer={"name": "sgd", "lr": 0.02})
    block.advance(400)
    alone = block.task.minimum - torch.linalg.solve(block.task.hessian, block.task.shifts.T).T  # where each would end
    assert float(block.x[:K].var(0, correction=0).sum()) < float(alone.var(0, correction=0).sum()) / 50
    messages = 400 * 2 * K
    assert block.channel.bytes_sent == messages * {"top_k": 17, "random_k": 24, "sign": 9, "qsgd": 11}[compressor]


@pytest.mark.parametrize("policy", ["metropolis", {"name": "laplacian", "step": 0.2}])
@pytest.mark.parametrize(
    "case", ["narrow", "wide", "transposed", "strided", "another type", "view of x", "gradients", "x"]
)
def test_whatever_is_combined_is_mixed_and_nothing_else_moves(make_block, case, policy):
    block = make_block(topology={"name": "ring", "agents": 10, "policy": policy}, strategy="diffusion", replicas=1)
    block.advance(1)
    g = block.gradients()  # now the gradients are needed
    rows, size = block.x.shape
    x = {
        "narrow": torch.randn(rows, 1, dtype=torch.float64),
        "wide": torch.randn(rows, 2 * size, dtype=torch.float64),
        "transposed": torch.randn(size, rows, dtype=torch.float64).mT,
        "strided": torch.randn(rows, 2 * size, dtype=torch.float64)[:, ::2],
        "another type": torch.randn(rows, size),
        "view of x": block.x.detach(),
        "gradients": g,
        "x": block.x,
    }[case]
    w = torch.from_numpy(block.setup.weights.toarray())
    mixed = w @ x.double()
    others = [t.clone() for t in (block.x, g)]
    block.combine(x)
    torch.testing.assert_close(x.double(), mixed, rtol=1e-6 if case == "another type" else 1e-12, atol=1e-7)
    if case not in ("x", "view of x"):
        assert torch.equal(block.x, others[0])
    if case != "gradients":
        assert torch.equal(block.state.gradients, others[1])
    block.adapt(g)
    before = block.x.clone()
    block.combine(block.x)
    torch.testing.assert_close(block.x, w @ before, rtol=1e-12, atol=1e-13)
    joined = torch.cat([view.detach().flatten(1) for view in block.state.parameter_views.values()], dim=1)
    assert torch.equal(joined, block.x)


@pytest.mark.parametrize("network", ["diffusion", "centralized"])
def test_sam_steps_with_the_gradient_uphill(quadratic_block, network):
    block = quadratic_block({"name": "sam", "rho": 0.3, "network": network})
    h, w_star, w = block.task.hessian.numpy(), block.task.minimum.numpy(), block.setup.weights.toarray()
    x = np.full((2, K, M), 2.0)
    for t in range(40):
        shifts = block.oracle.sampler.batch(t)[1].numpy().mean(1).reshape(2, K, M)
        g = (x - w_star) @ h + shifts
        g = (x + 0.3 * g / np.linalg.norm(g, axis=-1, keepdims=True) - w_star) @ h + shifts
        x = w @ (x - LR * g) if network == "diffusion" else x - LR * g.mean(1, keepdims=True)
    block.advance(40)
    np.testing.assert_allclose(block.x.numpy(), x.reshape(-1, M), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("order", ["atc", "cta"])
def test_rounds_of_combination_are_powers_of_the_weights(quadratic_block, order):
    twice = quadratic_block({"name": "diffusion", "order": order, "rounds": 2})
    w = twice.setup.weights.toarray()
    squared = quadratic_block({"name": "diffusion", "order": order}, lambda graph: w @ w, topology=nx.complete_graph(K))
    for block in (twice, squared):
        block.advance(20)
    torch.testing.assert_close(twice.x, squared.x, rtol=1e-11, atol=1e-12)


def test_consensus_with_adam_is_dadam(quadratic_block):
    """x ← W x − μ m / (√v̂ + ε), v̂ the largest v so far, with the bias correction of Adam."""
    block = quadratic_block("consensus", "lazy", optimizer={"name": "adam", "lr": 0.05, "amsgrad": True})
    block.advance(40)
    task, w = block.task, block.setup.weights.toarray()
    x, m, v, largest = np.full((2, K, M), 2.0), 0, 0, 0
    for t in range(40):
        shifts = block.oracle.sampler.batch(t)[1].numpy().mean(1).reshape(x.shape)
        g = (x - task.minimum.numpy()) @ task.hessian.numpy() + shifts
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        largest = np.maximum(largest, v)
        root = np.sqrt(largest / (1 - 0.999 ** (t + 1))) + 1e-8
        x = w @ x - 0.05 * m / (1 - 0.9 ** (t + 1)) / root
    np.testing.assert_allclose(block.x.numpy(), x.reshape(-1, M), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("strategy", ["exact_diffusion", "extra", "gradient_tracking"])
def test_corrections_do_not_drift_in_single_precision(make_block, strategy):
    block = make_block(
        task={"name": "quadratic", "curvature": [1.0, 0.5], "noise": [0.0, 0.0], "heterogeneity": 0.5},
        model={"name": "point", "start": 3.0},
        topology={"name": "ring", "agents": 6},
        strategy=strategy,
        batch_size=1,
        steps=10**6,
        replicas=1,
        runtime={"dtype": "float32"},
    )
    block.advance(400)
    settled = block.x.clone()
    block.advance(900)
    # Weights of 1/3 in single precision sum to 1 + 3e-8: so much of x, added up over 500 steps, would move x by 5e-5.
    assert (block.x - settled).abs().max() < 1e-5


@pytest.mark.parametrize("strategy", [*STEPPED, "sam-centralized"])
def test_a_strategy_says_whether_it_uses_the_graph(make_setup, strategy):
    """Two trees, for which all strategies work; with lazy Metropolis weights all agents count the same."""
    name, _, network = strategy.partition("-")
    settings = {"sam-centralized": {"network": network}, "robust": {"tolerated": 0}}.get(strategy, {})
    golore = {"name": "golore", "lr": 0.1, "rank": 2, "period": 3, "shared": True}
    rows = []
    for topology in ("path", "star"):
        setup = make_setup(
            strategy={"name": name} | settings,
            topology={"name": topology, "agents": K, "policy": "lazy"},
            model={"name": "mlp", "hidden": [4], "norm": "none" if name == "gt_sarah" else "batch"},
            optimizer=golore if name.startswith("subspace_") else {"name": "sgd", "lr": 0.1, "momentum": 0.5},
            runtime={"dtype": "float64", "device": "cpu", "engine": "stacked"},
            trial=False,
        )
        worker = Worker(setup, Placement.split(2, K), "stacked")
        worker.advance(6)  # within the second period of local SGD, so that its agents differ
        rows.append(worker.measure())
    assert (rows[0] != rows[1]) == StrategyTraits.of(setup.strategy()).uses_graph
