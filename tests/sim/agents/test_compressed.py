"""Strategies that send compressed messages: recursions by hand, twins without compression, rates, and bytes."""

import numpy as np
import pytest
import torch

from basinet.algorithms import draws
from basinet.sim.experiment.component import ExperimentError

K, M, LR = 6, 8, 0.1
CURVATURE = np.linspace(0.5, 2.0, M).tolist()
LAPLACIAN = {"name": "ring", "agents": K, "policy": {"name": "laplacian", "step": 0.25}}


@pytest.fixture
def quadratic_block(make_block):
    def make(strategy, noise=1.0, **keys):
        return make_block(
            task={"name": "quadratic", "curvature": CURVATURE, "noise": noise, "heterogeneity": 0.7},
            model={"name": "point", "start": 2.0},
            topology=LAPLACIAN,
            strategy=strategy,
            optimizer={"name": "sgd", "lr": LR},
            **keys,
        )

    return make


def top(v, k):
    """Keep the k largest numbers of each row."""
    return np.where(np.argsort(np.argsort(-abs(v), axis=-1), axis=-1) < k, v, 0.0)


def kept(block, t, share):
    """Draw which numbers random_k keeps in a step."""
    keys = draws.fold(draws.agent_keys(block.setup.config.seed, "compression", *block.placement.index("cpu")), t)
    return top(draws.uniform(keys, (M,)).numpy().reshape(2, K, M), int(share * M)) > 0


def choco(x, g, w, old):
    x = x - LR * g
    old["hat"] = old.get("hat", old["x0"]) + top(x - old.get("hat", old["x0"]), 2)
    return x + 0.2 * (w @ old["hat"] - old["hat"])


def beer(x, g, w, old):
    # As in the paper: H and G are brought up to date at the end of a step, and used in the next one. Only the start
    # differs: H_0 = X_0, which is the paper's H_0 = 0 seen from X_0, and G_0 = C(V_0) in the place of 0.
    h, big_g = old.get("h", old["x0"]), old.get("G", 0 * g)
    v = old["v"] + 0.2 * (w @ big_g - big_g) + g - old["g"] if "v" in old else g
    after = x + 0.2 * (w @ h - h) - LR * v
    old |= {"h": h + top(after - h, 2), "G": big_g + top(v - big_g, 2), "v": v, "g": g}
    return after


def deepsqueeze(x, g, w, old):
    x = x - LR * g
    v = x + old.get("delta", 0)
    message = top(v, 2)
    old["delta"] = v - message
    return x + 0.2 * (w @ message - message)


def dcd(x, g, w, old):
    return x + top(w @ x - LR * g - x, 2)


@pytest.mark.parametrize("recursion", [choco, beer, deepsqueeze, dcd])
def test_the_recursions_are_those_of_the_papers(quadratic_block, recursion):
    gamma = {"gamma": 0.2} if recursion is not dcd else {}
    block = quadratic_block({"name": recursion.__name__, "compressor": "top_k", "share": 0.25, **gamma})
    w = block.setup.weights.toarray()
    x = np.full((2, K, M), 2.0)
    old = {"x0": x}
    for t in range(60):
        g = (x - 1) * CURVATURE + block.oracle.sampler.batch(t)[1].numpy().mean(1).reshape(2, K, M)
        x = recursion(x, g, w, old)
    block.advance(60)
    np.testing.assert_allclose(block.x.numpy(), x.reshape(-1, M), rtol=1e-10, atol=1e-10)


def test_lead_is_the_recursion_of_its_paper(quadratic_block):
    """D, H and α as there, with the dual variable itself and an unbiased compressor drawn by hand."""
    gamma, share = 0.3, 0.5
    block = quadratic_block({"name": "lead", "compressor": "random_k", "share": share, "gamma": gamma})
    w = block.setup.weights.toarray()
    x = h = np.full((2, K, M), 2.0)
    dual = np.zeros_like(x)
    for t in range(60):
        g = (x - 1) * CURVATURE + block.oracle.sampler.batch(t)[1].numpy().mean(1).reshape(2, K, M)
        y = x - LR * g - LR * dual
        q = np.where(kept(block, t, share), y - h, 0) / share
        y_hat = h + q
        h = h + share * q
        dual = dual + gamma / (2 * LR) * (y_hat - w @ y_hat)
        x = x - LR * g - LR * dual
    block.advance(60)
    np.testing.assert_allclose(block.x.numpy(), x.reshape(-1, M), rtol=1e-10, atol=1e-10)


def test_dcd_makes_changes_without_bias(quadratic_block):
    block = quadratic_block({"name": "dcd", "compressor": "random_k", "share": 0.75})
    w = block.setup.weights.toarray()
    x = np.full((2, K, M), 2.0)
    for t in range(60):
        g = (x - 1) * CURVATURE + block.oracle.sampler.batch(t)[1].numpy().mean(1).reshape(2, K, M)
        x = x + np.where(kept(block, t, 0.75), w @ x - LR * g - x, 0) / 0.75
    block.advance(60)
    np.testing.assert_allclose(block.x.numpy(), x.reshape(-1, M), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("strategy", "twin"),
    [
        ({"name": "beer", "gamma": 1.0}, {"name": "gradient_tracking", "order": "diging"}),
        ({"name": "lead", "gamma": 1.0}, "exact_diffusion"),
        ({"name": "deepsqueeze", "gamma": 1.0}, "diffusion"),
        ({"name": "dcd"}, "consensus"),
    ],
)
def test_without_compression_they_are_their_twins(make_block, strategy, twin):
    one, other = make_block(strategy={**strategy, "compressor": "none"}), make_block(strategy=twin)
    for block in (one, other):
        block.advance(30)
    torch.testing.assert_close(one.x, other.x, rtol=1e-11, atol=1e-12)
    assert one.channel.bytes_sent == other.channel.bytes_sent


@pytest.mark.parametrize(
    "strategy",
    [
        {"name": "beer", "compressor": "top_k", "share": 0.25, "gamma": 0.5},
        {"name": "lead", "compressor": "quantize", "levels": 2},
        {"name": "lead", "compressor": "random_k", "share": 0.5, "gamma": 0.5},
    ],
)
def test_beer_and_lead_reach_the_minimum_at_a_linear_rate(quadratic_block, strategy):
    block = quadratic_block(strategy, noise=0.0, replicas=1)
    errors = []
    for step in (0, 200, 400, 800):
        block.advance(step)
        errors.append(float((block.x - 1).abs().max()))
    assert errors[1] < errors[0] / 100 and errors[2] < errors[1] / 100 and errors[3] < 1e-10


def test_choco_stops_at_a_bias(quadratic_block):
    biased = quadratic_block({"name": "choco", "share": 0.25, "gamma": 0.5}, noise=0.0, replicas=1)
    biased.advance(800)
    assert float((biased.x - 1).abs().max()) > 1e-2


def test_lead_refuses_compressors_with_a_bias(make_setup):
    with pytest.raises(ExperimentError, match=r"strategy\.compressor: got 'top_k', which should be .* or 'quantize'"):
        make_setup(strategy={"name": "lead", "compressor": "top_k"})


@pytest.mark.parametrize("strategy", ["beer", "choco", "deepsqueeze", "dcd", "lead"])
def test_bytes_are_those_of_the_compressed_messages(quadratic_block, strategy):
    compressor = "quantize" if strategy == "lead" else "top_k"
    block = quadratic_block({"name": strategy, "compressor": compressor, "share": 0.25, "levels": 7}, replicas=1)
    block.advance(10)
    # Two of eight numbers with three bits each for their places; or eight numbers of four bits each, and a scale.
    size = 8 * 4 // 8 + 8 if strategy == "lead" else 2 * 8 + 1
    messages = 20 if strategy == "beer" else 10  # its trackers travel, too
    assert block.channel.bytes_sent == messages * 2 * K * size


SIX = ["beer", "choco", "dcd", "deepsqueeze", "lead", "powergossip"]


@pytest.mark.parametrize("strategy", SIX)
def test_a_checkpoint_holds_what_they_remember(make_block, strategy):
    component = {"name": strategy, "rounds": 1} if strategy == "powergossip" else strategy
    unbroken, first, second = (make_block(strategy=component) for _ in range(3))
    unbroken.advance(6)
    first.advance(3)
    second.load_state_dict(first.state_dict())
    second.advance(6)
    assert torch.equal(second.x, unbroken.x) and second.channel.bytes_sent == unbroken.channel.bytes_sent


ONE_GRAPH = ["beer", "choco", "d2", "dcd", "exact_diffusion", "extra", "lead", "nids", "powergossip"]


@pytest.mark.parametrize("strategy", ONE_GRAPH)
def test_copies_and_corrections_need_one_graph(make_setup, strategy):
    topology = {"name": "one_peer_hypercube", "agents": 4}
    with pytest.raises(ExperimentError, match=f"strategy: {strategy} needs the same graph at every step"):
        make_setup(topology=topology, strategy=strategy)
    make_setup(topology=topology, strategy="deepsqueeze")  # which keeps no copies


@pytest.mark.parametrize("strategy", SIX)
def test_no_parameters_can_be_left_out_of_a_message(make_setup, strategy):
    with pytest.raises(ExperimentError, match=f"personal: {strategy} cannot leave some parameters out"):
        make_setup(personal=["*bias"], strategy=strategy)


# --- PowerGossip -----------------------------------------------------------------------------------------------------


@pytest.fixture
def still_block(make_block):
    """Build a block whose agents differ and do not learn: its strategy only mixes."""

    def make(strategy, **keys):
        block = make_block(strategy=strategy, **keys)
        block.adapt = lambda gradients: None
        block.x.copy_(torch.randn(block.x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
        return block

    return make


def by_edges(block, rank, rounds):
    """Let the two ends of each edge meet, in numpy: X_k ← X_k + w (X_l − X_k) V Vᵀ, V ← orth((X_l − X_k) V)."""
    w = block.setup.weights.toarray()
    keys = block.keys("directions")
    names = [layer.shape[1:] for layer in block.layers(block.x)]
    state = [layer.numpy().copy() for layer in block.layers(block.x)]
    matrices = [i for i, shape in enumerate(names) if len(shape) == 2 and rank < min(shape)]
    edges = [(k, other) for k in range(len(w)) for other in range(k) if w[k, other]]
    columns = [names[i][1] for i in matrices]
    shared = {}
    for k, other in edges:
        drawn = draws.normal((keys[k] + keys[other])[None], (sum(columns) * rank,))[0].numpy()
        for i, v in zip(matrices, np.split(drawn, np.cumsum([c * rank for c in columns])[:-1]), strict=True):
            shared[k, other, i] = v.reshape(-1, rank)
    for turn in range(rounds):
        before = [layer.copy() for layer in state]
        for k, other in edges:
            for i in matrices:
                difference = before[i][other] - before[i][k]
                difference = difference.T if turn % 2 else difference
                v, _ = np.linalg.qr(shared[k, other, i])
                shared[k, other, i] = difference @ v
                change = w[k, other] * shared[k, other, i] @ v.T
                change = change.T if turn % 2 else change
                state[i][k] += change
                state[i][other] -= change
    rest = [layer if i in matrices else np.einsum("kl,l...->k...", w, layer) for i, layer in enumerate(state)]
    return np.concatenate([layer.reshape(len(w), -1) for layer in rest], axis=1)


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("rounds", [1, 5])
def test_power_gossip_is_power_iteration_on_each_edge(still_block, rank, rounds):
    block = still_block({"name": "powergossip", "rank": rank, "rounds": rounds}, replicas=1)
    wanted = by_edges(block, rank, rounds)
    block.advance(1)
    np.testing.assert_allclose(block.x.numpy(), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("model", [{"name": "mlp", "hidden": [6]}, {"name": "cnn", "channels": [4]}])
def test_power_gossip_of_full_rank_is_diffusion(make_block, model):
    full, diffusion = (make_block(strategy=s, model=model) for s in ({"name": "powergossip", "rank": 99}, "diffusion"))
    for block in (full, diffusion):
        block.advance(20)
    torch.testing.assert_close(full.x, diffusion.x, rtol=1e-11, atol=1e-12)
    assert full.channel.bytes_sent == diffusion.channel.bytes_sent


@pytest.mark.parametrize("model", [{"name": "mlp", "hidden": [6]}, {"name": "cnn", "channels": [4]}])
def test_rank_one_agrees_and_keeps_the_mean(still_block, model):
    block = still_block({"name": "powergossip", "rounds": 1}, model=model)
    mean = block.x.view(2, 4, -1).mean(1)
    distances = []
    for step in range(150):
        distances.append(block.channel.replicas.distances(block.x, block.channel.replicas.centroid(block.x)))
        block.advance(step + 1)
    distances = torch.stack(distances)
    # A step takes away a projection of each difference: no distance grows, whatever the directions.
    assert (distances[1:] <= distances[:-1] * (1 + 1e-12)).all() and (distances[-1] < 1e-4 * distances[0]).all()
    torch.testing.assert_close(block.x.view(2, 4, -1).mean(1), mean, rtol=0, atol=1e-13)


def test_two_rounds_find_a_difference_of_rank_one(still_block):
    block = still_block({"name": "powergossip", "rounds": 2}, topology={"name": "complete", "agents": 2}, replicas=1)
    x = block.x[:1].expand(2, -1).clone()
    for layer in block.layers(x):
        layer[1] += torch.outer(torch.arange(1.0, 1 + len(layer[1])), layer[0, 0]) if layer.ndim == 3 else 1.0
    block.x.copy_(x)
    block.advance(1)
    torch.testing.assert_close(block.x, x.mean(0).expand(2, -1), rtol=0, atol=1e-11)


@pytest.mark.parametrize("rounds", [1, 4])
def test_power_gossip_sends_few_numbers(make_block, rounds):
    block = make_block(strategy={"name": "powergossip", "rounds": rounds})
    block.advance(2)
    # Matrices of 6 x 64 and 10 x 6 are told by their rows or columns in turns, the other layers whole; keys at first.
    rows, columns, rest = 6 + 10, 64 + 6, 6 + 10
    turns = rows + columns if rounds == 1 else 4 * (rows + columns)
    assert block.channel.bytes_sent == 8 * (8 * (turns + 2 * rest) + 8)


def test_agents_that_agree_stay_where_they_are(make_block):
    block = make_block(strategy="powergossip", runtime={"dtype": "float32"})
    block.adapt = lambda gradients: None
    before = block.x.clone()
    block.advance(5)
    assert torch.equal(block.x, before)


def test_power_gossip_wants_edges_that_pull_alike(make_setup):
    with pytest.raises(ExperimentError, match="powergossip needs symmetric weights"):
        make_setup(topology={"name": "star", "agents": 5, "policy": "uniform"}, strategy="powergossip")
