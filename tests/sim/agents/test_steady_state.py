"""Steady states on quadratics: what a strategy's own step does, solved exactly, against closed forms and simulation.

A strategy that is affine on quadratics is probed: its step is run from the unit vectors of its whole state and noise,
which gives the matrices of its recursion; the discrete Lyapunov equation then gives mean and covariance.
"""

import numpy as np
import pytest
import torch

from basinet.algorithms.strategies import STRATEGIES
from tests.stepped import STEPPED

K, M, LR, BATCH = 6, 3, 0.1, 2
CURVATURE, NOISE = np.array([2.0, 1.0, 0.5]), np.array([1.0, 0.5, 2.0])
SETTINGS = {
    "slowmo": {"momentum": 0.3, "period": 4},
    "gossip_pga": {"period": 3},
    "quasi_global_momentum": {"momentum": 0.5},
    "gt_hsgd": {"beta": 0.3},
    "k_gt": {"period": 3},
    "beer": {"compressor": "none"},  # compression is not affine
    "choco": {"compressor": "none"},
}
TOPOLOGIES = {"relay": "path"}
NOT_PROBED = {
    "isolated": "its agents share no minimum",
    "push_sum": "it divides by what it remembers",
    "push_diging": "it divides by what it remembers",
    "dcd": "without compression it is consensus",
    "deepsqueeze": "without compression it is choco",
    "lead": "without compression it is exact diffusion",
    "powergossip": "on vectors it is diffusion",
    "sam": "it divides by the norm of the gradient",
    "gt_sarah": "it needs a training set",
    "asynchronous": "its mixing is random",
    "robust": "it clips",
    "subspace_centralized": "it is for matrices",
    "subspace_consensus": "it is for matrices",
    "subspace_diffusion": "it is for matrices",
}
POLICY = {"name": "laplacian", "step": 0.3}


def _name(strategy):
    return strategy if isinstance(strategy, str) else strategy["name"]


def make(make_block, strategy, replicas, heterogeneity=0.5, lr=LR, noise=NOISE, start=1.0, topology=None):
    return make_block(
        task={
            "name": "quadratic",
            "curvature": CURVATURE.tolist(),
            "noise": noise.tolist(),
            "heterogeneity": heterogeneity,
        },
        model={"name": "point", "start": start},
        topology=topology or {"name": TOPOLOGIES.get(_name(strategy), "ring"), "agents": K, "policy": POLICY},
        strategy=strategy,
        optimizer={"name": "sgd", "lr": lr},
        batch_size=BATCH,
        replicas=replicas,
        steps=10**6,
    )


class Given:
    """A sampler that returns the gradient shifts it is given, one [N, M] a step."""

    def __init__(self, shifts, first):
        self.shifts, self.first = shifts, first

    def batch(self, step, size=None):
        return torch.zeros(len(self.shifts[0]), 1, M, dtype=torch.float64), self.shifts[step - self.first][:, None]


def get(block, replicas):
    parts = [block.x, *(block.memory[name] for name in sorted(block.memory))]
    return torch.cat([part.reshape(replicas, -1) for part in parts], dim=1).numpy().copy()


def put(block, states):
    parts = [block.x, *(block.memory[name] for name in sorted(block.memory))]
    for part, values in zip(
        parts, np.split(states, np.cumsum([p[0].numel() * K for p in parts])[:-1], axis=1), strict=True
    ):
        part.copy_(torch.from_numpy(values.copy()).view(part.shape))


def probe(make_block, strategy, period=1, heterogeneity=0.5, lr=LR, topology=None):
    """Return F, G, c of s ← F s + G ξ + c over a period, with s the whole state and ξ the noise of its steps."""
    small = make(make_block, strategy, 1, heterogeneity, lr, topology=topology)
    small.advance(period)
    size, noises = get(small, 1).shape[1], period * K * M
    replicas = size + noises + 1
    block = make(make_block, strategy, replicas, heterogeneity, lr, topology=topology)
    block.advance(period)
    states = np.zeros((replicas, size))
    states[:size] = np.eye(size)
    put(block, states)
    own = block.task.shifts.repeat(replicas, 1)
    shifts = np.zeros((period, replicas, K * M))
    for j in range(noises):
        shifts[j // (K * M), size + j, j % (K * M)] = 1.0
    block.oracle.sampler = Given([own + torch.from_numpy(s).view(-1, M) for s in shifts], period)
    block.advance(2 * period)
    after = get(block, replicas)
    c = after[-1]
    return (after[:size] - c).T, (after[size:-1] - c).T, c


def steady_state(F, G, c):
    """Mean and covariance of the recursion, by doubling; unexcited modes that do not decay do no harm."""
    P, m = G @ np.diag(np.tile(NOISE / BATCH, G.shape[1] // M)) @ G.T, c
    for _ in range(15):
        P, m, F = P + F @ P @ F.T, m + F @ m, F @ F
    return m[: K * M].reshape(K, M) - 1.0, P[: K * M, : K * M]


def excess_risk(mean, covariance):
    h = np.tile(CURVATURE, K)
    return float(h @ (np.diag(covariance) + mean.ravel() ** 2) / (2 * K))


def period_of(strategy):
    component = STRATEGIES[strategy](**SETTINGS.get(strategy, {}))
    return getattr(component, "period", 1)


def name_of(strategy):
    return {"name": strategy, **SETTINGS.get(strategy, {})}


def closed_form(strategy, w, b):
    """Excess risk from the eigenvalues of W: one scalar recursion for each mode of W and of H."""
    lambdas, vectors = np.linalg.eigh(w)
    central = (LR * NOISE / BATCH / (2 - LR * CURVATURE)).sum() / (2 * K)
    if strategy == "centralized":
        return central
    total = central
    for value, vector in zip(lambdas, vectors.T, strict=True):
        if np.isclose(value, 1):
            continue
        shift = vector @ b
        if strategy == "consensus":
            beta, gain = value - LR * CURVATURE, 1.0
            mean = -LR * shift / (1 - value + LR * CURVATURE)
        else:
            beta = value * (1 - LR * CURVATURE)
            gain = value if strategy == "diffusion" else 1.0
            mean = -LR * gain * shift / (1 - beta)
        variance = LR**2 * gain**2 * NOISE / BATCH / (1 - beta**2)
        total += (CURVATURE * (variance + mean**2)).sum() / (2 * K)
    return total


@pytest.mark.parametrize("strategy", ["centralized", "consensus", "diffusion", "cta"])
@pytest.mark.parametrize("heterogeneity", [0.0, 0.5])
def test_the_probe_agrees_with_the_closed_form(make_block, strategy, heterogeneity):
    component = {"name": "diffusion", "order": "cta"} if strategy == "cta" else strategy
    block = make(make_block, component, 1, heterogeneity)
    found = excess_risk(*steady_state(*probe(make_block, component, heterogeneity=heterogeneity)))
    wanted = closed_form(strategy, block.setup.weights.toarray(), block.task.shifts.numpy())
    assert found == pytest.approx(wanted, rel=1e-10)


def test_atc_is_below_consensus_and_cta(make_block):
    risks = {
        name: excess_risk(*steady_state(*probe(make_block, component)))
        for name, component in {
            "consensus": "consensus", "atc": "diffusion", "cta": {"name": "diffusion", "order": "cta"},
        }.items()
    }  # fmt: skip
    assert risks["atc"] < min(risks["consensus"], risks["cta"])


@pytest.mark.parametrize("strategy", ["centralized", "diffusion", "consensus"])
def test_stability_ends_where_theory_says(make_block, strategy):
    weights = make(make_block, strategy, 1).setup.weights.toarray()
    # Consensus is stable while |λ − μ h| < 1 for all eigenvalues λ of W and h of H, the others while |1 − μ h| < 1.
    bound = 1 + np.linalg.eigvalsh(weights)[0] if strategy == "consensus" else 2.0
    for share, stable in ((0.99, True), (1.01, False)):
        F, _, _ = probe(make_block, strategy, lr=share * bound / CURVATURE.max())
        if strategy == "centralized":  # its copies start equal, and differences between them would stay
            F = np.kron(np.full((1, K), 1 / K), np.eye(M)) @ F @ np.kron(np.ones((K, 1)), np.eye(M))
        assert (np.abs(np.linalg.eigvals(F)).max() < 1) == stable


EXACT = ("exact_diffusion", "d2", "extra", "gradient_tracking", "gt_hsgd", "k_gt", "push_pull", "relay")


@pytest.mark.parametrize("strategy", EXACT)
def test_exact_methods_converge_at_the_rate_of_their_iteration_matrix(make_block, strategy):
    """Without noise the error shrinks like the largest eigenvalue below one: those at one belong to what stays."""
    period = period_of(strategy)
    F, _, _ = probe(make_block, name_of(strategy), period)
    sizes = np.abs(np.linalg.eigvals(F))
    wanted = np.log(sizes[sizes < 1 - 1e-6].max()) / period
    block = make(make_block, name_of(strategy), 1, noise=0 * NOISE, start=3.0)
    steps = np.arange(192, 301, 12)  # multiples of every period
    errors = []
    for step in steps:
        block.advance(step)
        errors.append(float((block.x - 1).norm()))
    assert errors[-1] > 1e-10  # far above rounding
    assert np.polyfit(steps, np.log(errors), 1)[0] == pytest.approx(wanted, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [name for name in STEPPED if name not in NOT_PROBED])
def test_every_strategy_settles_where_its_recursion_says(make_block, strategy):
    period = period_of(strategy)
    mean, covariance = steady_state(*probe(make_block, name_of(strategy), period))
    replicas = 120
    block = make(make_block, name_of(strategy), replicas)
    block.advance(-(-120 // period) * period)
    error = block.x.numpy().reshape(replicas, K, M) - 1.0
    risks = (CURVATURE * error**2).sum((1, 2)) / (2 * K)
    z = (risks.mean() - excess_risk(mean, covariance)) / (risks.std(ddof=1) / np.sqrt(replicas))
    # Some 20 strategies: the largest of so many standard normal numbers exceeds 4 with a probability near 1e-3.
    assert abs(z) < 4
    spread = error.std(0, ddof=1) / np.sqrt(replicas)
    assert np.abs((error.mean(0) - mean) / spread).max() < 4.5  # 18 numbers a strategy


MAIN = ("centralized", "consensus", "diffusion", "cta", "exact_diffusion", "gradient_tracking")
CASES = [("star", 0.1, 0.5), ("complete", 0.2, 0.0), ("path", 0.2, 0.5)]
PAIRS = [(strategy, case) for k, strategy in enumerate(MAIN) for case in (CASES if 0 < k < 4 else CASES[k % 3 :][:1])]
"""Strategies whose step has closed forms in all cases, the others in one each."""


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "case"), PAIRS, ids=str)
def test_risk_and_deviation_are_those_of_the_lyapunov_equation(make_block, strategy, case):
    """On other graphs, at two step sizes, with equal and with different data."""
    graph, lr, heterogeneity = case
    component = {"name": "diffusion", "order": "cta"} if strategy == "cta" else strategy
    topology = {"name": graph, "agents": K}
    mean, covariance = steady_state(*probe(make_block, component, 1, heterogeneity, lr, topology))
    replicas = 200
    block = make(make_block, component, replicas, heterogeneity, lr, topology=topology)
    block.advance(round(10 / lr))  # the slowest variance is then within exp(−10) of its limit
    squares = (block.x.numpy().reshape(replicas, K, M) - 1.0) ** 2
    deviation = float(np.trace(covariance) + (mean**2).sum()) / K
    measured = {"risk": (CURVATURE * squares).sum((1, 2)) / (2 * K), "deviation": squares.sum((1, 2)) / K}
    for name, wanted in {"risk": excess_risk(mean, covariance), "deviation": deviation}.items():
        z = (measured[name].mean() - wanted) / (measured[name].std(ddof=1) / np.sqrt(replicas))
        assert abs(z) < 4.5, name  # 24 numbers
