"""Steady states on quadratics: closed forms, the probed recursion, scipy's Lyapunov solver and simulation."""

import itertools

import numpy as np
import pytest
from scipy.linalg import block_diag, solve_discrete_lyapunov

from basinet.analysis.theory import (
    Quadratics,
    disagreement_variance,
    excess_risk_after,
    first_order_excess_risk,
    network_factor,
    probe,
    probed_excess_risk,
    probed_stability_limit,
    rule_of,
    stability_limit,
    steady_excess_risk,
)
from basinet.sim.experiment.component import ExperimentError
from basinet.topologies import grid, hypercube, lazy, metropolis, path, ring, star

RULES = {
    "centralized": "centralized",
    "consensus": "consensus",
    "atc": "diffusion",
    "cta": {"name": "diffusion", "order": "cta"},
}
H, R, LR = np.array([2.0, 1.0, 0.2]), np.array([1.0, 0.5, 2.0]), 0.1


def lyapunov(rule, W, hessians, noises, b, lr, weights):
    """The stacked system in R^{KM}, written out, and solved by scipy."""
    K, M = b.shape
    A, eye = np.kron(W, np.eye(M)), np.eye(K * M)
    calH = block_diag(*hessians)
    if rule == "centralized":
        mean = np.full((K, K), 1 / K)
        h, g = hessians.mean(0), np.kron(np.ones((1, K)) / K, np.eye(M))
        B, G = np.eye(M) - lr * h, -lr * g
        spread = np.kron(np.ones((K, 1)), np.eye(M))
        assert mean.shape == W.shape
    else:
        B, G = {
            "consensus": (A - lr * calH, -lr * eye),
            "atc": (A @ (eye - lr * calH), -lr * A),
            "cta": ((eye - lr * calH) @ A, -lr * eye),
        }[rule]
        spread = eye
    P = spread @ solve_discrete_lyapunov(B, G @ block_diag(*noises) @ G.T) @ spread.T
    m = (spread @ np.linalg.solve(np.eye(len(B)) - B, G @ b.ravel())).reshape(K, M)
    risk = np.einsum("k,kij->ij", weights, hessians)
    blocks = P.reshape(K, M, K, M)
    every = 0.5 * sum(w * (np.trace(risk @ (blocks[k, :, k] + np.outer(m[k], m[k])))) for k, w in enumerate(weights))
    centre = weights @ m
    cov = np.einsum("k,l,kilj->ij", weights, weights, blocks)
    return every, 0.5 * np.trace(risk @ (cov + np.outer(centre, centre)))


@pytest.mark.parametrize(
    ("rule", "published"), [("centralized", 0.011430), ("consensus", 0.028091), ("atc", 0.016629), ("cta", 0.027919)]
)
def test_known_values_on_a_ring_of_eight(rule, published):
    # H = diag(2, 1, 0.2), R = diag(1, 0.5, 2), step 0.1; checked elsewhere against two million simulated samples.
    risk = steady_excess_risk(rule, metropolis(ring(8)), lr=LR, curvature=H, noise=R)
    assert risk.total == pytest.approx(published, abs=5e-7)
    assert risk.centroid == pytest.approx(0.011430, abs=5e-7)


@pytest.mark.parametrize("rule", RULES)
def test_modes_recursion_and_lyapunov_agree_for_a_common_hessian(make_setup, rule):
    """Noise that differs from agent to agent, a Hessian that is not diagonal, and shifts."""
    rng = np.random.default_rng(3)
    K, M = 6, 3
    setup = make_setup(
        task="quadratic",
        topology={"name": "ring", "agents": K},
        strategy=RULES[rule],
        optimizer={"name": "sgd", "lr": LR},
    )
    roots = rng.standard_normal((K, M, M))
    noises = roots @ roots.swapaxes(1, 2)
    b = rng.standard_normal((K, M))
    b -= b.mean(0)
    q, _ = np.linalg.qr(rng.standard_normal((M, M)))
    hessian = (q * H) @ q.T
    W = setup.weights.toarray()
    total, centroid = lyapunov(rule, W, np.broadcast_to(hessian, (K, M, M)), noises, b, LR, np.full(K, 1 / K))
    recursion = probe(setup, Quadratics.of(hessian, noises, b, agents=K))
    found = recursion.excess_risk(recursion.settled())
    h, v = np.linalg.eigh(hessian)
    modes = steady_excess_risk(
        rule, W, lr=LR, curvature=h, noise=np.einsum("kij,ib,jb->kb", noises, v, v), shifts=b @ v
    )
    assert (found.total, found.centroid) == pytest.approx((total, centroid), rel=1e-9)
    assert (modes.total, modes.centroid) == pytest.approx((total, centroid), rel=1e-9)
    assert modes.disagreement_bias == pytest.approx(found.disagreement_bias, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("policy", ["metropolis", "uniform"])
def test_different_hessians_and_perron_weights(make_setup, rule, policy):
    """A star with uniform weights is not doubly stochastic: the hub counts more."""
    if (rule, policy) == ("centralized", "uniform"):
        pytest.skip("centralised steps know no weights")
    rng = np.random.default_rng(5)
    K, M = 5, 2
    setup = make_setup(
        task="quadratic", topology={"name": "star", "agents": K, "policy": policy}, strategy=RULES[rule],
        optimizer={"name": "sgd", "lr": 0.05},
    )  # fmt: skip
    roots = rng.standard_normal((2, K, M, M))
    hessians = roots[0] @ roots[0].swapaxes(1, 2) + 0.5 * np.eye(M)
    noises = roots[1] @ roots[1].swapaxes(1, 2)
    pi = setup.centroid_weights
    assert (pi.max() - pi.min() > 0.1) == (policy == "uniform")
    b = rng.standard_normal((K, M))
    b -= pi @ b
    total, centroid = lyapunov(rule, setup.weights.toarray(), hessians, noises, b, 0.05, pi)
    recursion = probe(setup, Quadratics.of(hessians, noises, b, agents=K))
    found = recursion.excess_risk(recursion.settled())
    assert (found.total, found.centroid) == pytest.approx((total, centroid), rel=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_after_some_steps(make_setup, rule):
    """From the minimum, the modes, the recursion and the closed form 1 − β^2n agree."""
    setup = make_setup(
        task="quadratic",
        topology={"name": "ring", "agents": 5},
        strategy=RULES[rule],
        optimizer={"name": "sgd", "lr": LR},
    )
    rng = np.random.default_rng(0)
    b = rng.standard_normal((5, 3))
    b -= b.mean(0)
    recursion = probe(setup, Quadratics.of(H, R, b, agents=5))
    W = setup.weights
    for steps in (1, 7, 30):
        modes = excess_risk_after(rule, W, rates=[LR] * steps, curvature=H, noise=R, shifts=b)
        assert recursion.excess_risk(recursion.after(steps)).total == pytest.approx(modes.total, rel=1e-10)
        closed = (LR * R / (2 - LR * H) * (1 - (1 - LR * H) ** (2 * steps))).sum() / (2 * 5)
        assert modes.centroid == pytest.approx(closed, rel=1e-12)
    late = excess_risk_after(rule, W, rates=[LR] * 3000, curvature=H, noise=R, shifts=b)
    assert late.total == pytest.approx(steady_excess_risk(rule, W, lr=LR, curvature=H, noise=R, shifts=b).total)


def in_steps(strategy, W, number):
    """Return A, B of s ← A s − B (μ g(x)), written out for one coordinate; the state begins with x, [K]."""
    K = len(W[0])
    one, no, mean = np.eye(K), np.zeros((K, K)), np.full((K, K), 1 / K)
    w = W[number % len(W)]
    last = (number + 1) % 4 == 0
    if strategy == "local_sgd":
        return (mean, mean) if last else (one, one)
    if strategy == "gossip_pga":
        return (mean, mean) if last else (w, w)
    if strategy == "slowmo":  # x, x', u: u ← u / 2 + x' − mean(x − μ g), x = x' ← x' − u
        if last:
            u = np.hstack([-mean, one, 0.5 * one])
            x = np.hstack([no, one, no]) - u
            return np.vstack([x, x, u]), np.vstack([mean, mean, -mean])
        return np.block([[w, no, no], [no, one, no], [no, no, one]]), np.vstack([w, no, no])
    if strategy == "momentum":  # v ← v / 2 + 0.7 g, at first v = g; x ← W (x − μ v)
        share = 0.7 if number else 1.0
        return np.block([[w, -0.5 * w], [no, 0.5 * one]]), np.vstack([share * w, -share * one])
    if strategy == "exact_diffusion":  # x, x − ψ'
        half = (one + w) / 2
        return np.block([[half, half], [half - one, half]]), np.vstack([half, half - one])
    assert strategy == "diffusion"
    return w, w


def written_out(strategy, W, rates, hessians, noise, b):
    """Mean and covariance of the state, step by step; agents have the curvatures h_k along each coordinate."""
    K, M = b.shape
    total, centre = 0.0, 0.0
    for j in range(M):
        size = len(in_steps(strategy, W, 0)[0])
        m, P = np.zeros(size), np.zeros((size, size))
        for number, rate in enumerate(rates):
            A, B = in_steps(strategy, W, number)
            scale = np.ones(size)
            if strategy == "momentum":  # what is remembered is v, and here μ v
                scale[K:] = rate / (rates[number - 1] if number else rate)
            F = A * scale
            F[:, :K] -= B @ np.diag(rate * hessians[:, j])
            m = F @ m - rate * B @ b[:, j]
            P = F @ P @ F.T + rate**2 * B @ np.diag(noise[:, j]) @ B.T
        h = hessians[:, j].mean()
        second = P[:K, :K] + np.outer(m[:K], m[:K])
        total += 0.5 * h * np.trace(second) / K
        centre += 0.5 * h * second.mean()
    return total, centre


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize(
    ("strategy", "keys", "period"),
    [
        ("local_sgd", {"strategy": {"name": "local_sgd", "period": 4}}, 4),
        ("gossip_pga", {"strategy": {"name": "gossip_pga", "period": 4}}, 4),
        ("slowmo", {"strategy": {"name": "slowmo", "period": 4}}, 4),
        ("diffusion", {"topology": {"name": "one_peer_exponential", "agents": 4}}, 2),
        ("gossip_pga", {"strategy": {"name": "gossip_pga", "period": 4},
                        "topology": {"name": "one_peer_exponential", "agents": 4}}, 4),
        ("momentum", {"optimizer": {"name": "sgd", "lr": LR, "momentum": 0.5, "dampening": 0.3}}, 1),
        ("exact_diffusion", {"strategy": "exact_diffusion"}, 1),
    ],
)  # fmt: skip
def test_every_number_of_steps(make_setup, strategy, keys, period, schedule):
    """Less than a period, whole periods and what is left, at any learning rates, with Hessians of the agents' own."""
    setup = make_setup(
        **{
            "task": "quadratic", "topology": {"name": "ring", "agents": 4}, "strategy": "diffusion", "steps": 40,
            "optimizer": {"name": "sgd", "lr": LR}, "schedule": schedule,
        } | keys
    )  # fmt: skip
    rng = np.random.default_rng(0)
    b, noise = rng.standard_normal((4, 2)), rng.uniform(0, 1, (4, 2))
    b -= b.mean(0)
    W = [w.toarray() for w in setup.sequence]
    rates = [LR * setup.rate_factor(step) for step in range(setup.num_steps)]
    for hessians in (np.tile([2.0, 0.3], (4, 1)), rng.uniform(0.1, 3, (4, 2))):
        if (hessians == hessians[0]).all():
            quadratics = Quadratics.of(hessians[0], noise, b, agents=4)
        else:
            own = [np.array([np.diag(row) for row in rows]) for rows in (hessians, noise)]
            quadratics = Quadratics.of(*own, b, agents=4)
        for steps in (1, 7, 8):
            found = probed_excess_risk(setup, quadratics, steps)
            wanted = written_out(strategy, W, rates[:steps], hessians, noise, b)
            assert (found.total, found.centroid) == pytest.approx(wanted, rel=1e-9, abs=1e-14), steps
            if schedule == "constant" and steps % period == 0 and strategy != "momentum":
                recursion = probe(setup, quadratics)
                whole = recursion.excess_risk(recursion.after(steps // recursion.steps))
                assert whole.total == pytest.approx(found.total, rel=1e-9)


def test_small_steps_tend_to_the_first_order():
    W = metropolis(ring(8))
    rng = np.random.default_rng(1)
    b = rng.standard_normal((8, 3))
    b -= b.mean(0)
    for rule, shifts in itertools.product(RULES, (None, b)):
        errors = []
        for lr in (1e-2, 1e-3):
            exact = steady_excess_risk(rule, W, lr=lr, curvature=H, noise=R, shifts=shifts)
            leading = first_order_excess_risk(rule, W, lr=lr, curvature=H, noise=R, shifts=shifts)
            errors.append([exact.centroid / leading.centroid - 1])
            if rule != "centralized":
                errors[-1].append(exact.disagreement / leading.disagreement - 1)
        # The relative error is of the order of the step.
        assert np.abs(np.divide(*errors) - 10).max() < 1.5
    # The gap of consensus and ATC is (μ²/2K) Tr(HR) (K − 1), whatever the graph.
    for graph in (ring(16), path(16), star(16), grid(16), hypercube(16)):
        weights = lazy(graph)
        gap = network_factor("consensus", weights) - network_factor("atc", weights)
        assert gap == pytest.approx(15)


@pytest.mark.parametrize("strategy", ["centralized", "consensus", "diffusion"])
def test_simulated_risk_has_the_predicted_parts(make_block, strategy):
    """The library's own quadratic task, thousands of replicas from the minimum, after enough steps to have settled."""
    replicas, K = 1000, 6
    block = make_block(
        task={"name": "quadratic", "curvature": H.tolist(), "noise": R.tolist(), "heterogeneity": 1.0, "minimum": 0.0},
        model={"name": "point", "start": 0.0},
        topology={"name": "ring", "agents": K},
        strategy=strategy,
        optimizer={"name": "sgd", "lr": LR},
        batch_size=2,
        replicas=replicas,
        steps=200,
    )
    rule, _ = rule_of(block.strategy)
    steps = 80
    wanted = excess_risk_after(
        rule, block.setup.weights, rates=[LR] * steps, curvature=H, noise=R / 2, shifts=block.task.shifts.numpy()
    )
    block.advance(steps)
    x = block.x.view(replicas, K, 3)
    centroid = x.mean(1)
    value = block.task.value
    samples = {"centroid": value(centroid), "disagreement": value(x).mean(1) - value(centroid)}
    for part, found in samples.items():
        error = found.std() / np.sqrt(replicas)
        if error > 0:
            assert abs(float((found.mean() - getattr(wanted, part)) / error)) < 4, part
    assert float(value(x.mean(0)).mean()) == pytest.approx(
        wanted.disagreement_bias,
        abs=8 * np.sqrt(wanted.disagreement_bias * wanted.total / replicas) + 8 * wanted.total / replicas,
    )


@pytest.mark.parametrize(("rule", "limit"), [("centralized", 2.0), ("consensus", 2 / 3), ("atc", 2.0), ("cta", 2.0)])
def test_stability_limits(make_setup, rule, limit):
    setup = make_setup(task="quadratic", topology={"name": "ring", "agents": 16}, strategy=RULES[rule])
    # λ_min of a ring of 16 with thirds is −1/3.
    assert stability_limit(rule, setup.weights, 4.0) == pytest.approx(limit / 4)
    assert probed_stability_limit(setup, 4.0) == pytest.approx(limit / 4, rel=1e-4)
    with pytest.raises(ValueError, match=r"no steady state"):
        steady_excess_risk(rule, setup.weights, lr=1.01 * limit / 2, curvature=[2.0, 1.0], noise=[1.0, 1.0])


@pytest.mark.parametrize(
    ("strategy", "optimizer", "limit"),
    [
        # x⁺ = x − μ (β m + h x): 2 (1 + β) for one model; with modes of W below 0, (1 − β) (1 + |λ|) / |λ| may be less.
        ("centralized", {"name": "sgd", "lr": 0.1, "momentum": 0.5}, 3.0),
        ("diffusion", {"name": "sgd", "lr": 0.1, "momentum": 0.5}, 2.0),
        # Local SGD: stable as a single model is, up to 2.
        ({"name": "local_sgd", "period": 3}, {"name": "sgd", "lr": 0.1}, 2.0),
    ],
)
def test_stability_limits_by_the_strategys_own_step(make_setup, strategy, optimizer, limit):
    setup = make_setup(task="quadratic", topology={"name": "ring", "agents": 6}, strategy=strategy, optimizer=optimizer)
    assert probed_stability_limit(setup, 1.0) == pytest.approx(limit, rel=2e-3)


@pytest.mark.parametrize("strategy", ["exact_diffusion", "extra", "gradient_tracking"])
def test_corrected_methods_have_no_bias(make_setup, strategy):
    setup = make_setup(
        task="quadratic", topology={"name": "ring", "agents": 6}, strategy=strategy, optimizer={"name": "sgd", "lr": LR}
    )
    b = np.random.default_rng(0).standard_normal((6, 3))
    recursion = probe(setup, Quadratics.of(H, R, b - b.mean(0), agents=6))
    risk = recursion.excess_risk(recursion.settled())
    assert risk.disagreement_bias == pytest.approx(0, abs=1e-12)
    assert risk.disagreement_noise > 1e-3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"optimizer": {"name": "adam", "lr": 0.1}}, "diffusion with adam is not affine"),
        ({"strategy": "choco"}, "choco with sgd is not affine"),
        ({"strategy": "beer"}, "beer with sgd is not affine"),
        ({"strategy": "powergossip", "task": "digits"}, "layers one by one"),
    ],
)
def test_what_is_not_affine_is_refused(make_setup, keys, message):
    setup = make_setup(**{"task": "quadratic", "topology": {"name": "ring", "agents": 4}} | keys)
    with pytest.raises(ExperimentError, match=message):
        probe(setup, Quadratics.of(H, R, agents=4))


def test_where_gradients_are_evaluated():
    """Both orders of diffusion evaluate after combining; consensus before: its agents are further apart."""
    W = metropolis(ring(16))
    spread = {
        rule: disagreement_variance(rule, W, lr=LR, curvature=[1.0], noise=[1.0])[0]
        for rule in ("centralized", "consensus", "atc", "cta")
    }
    assert spread["centralized"] == 0
    assert spread["atc"] == spread["cta"] < spread["consensus"]
    risk = steady_excess_risk("consensus", W, lr=LR, curvature=[1.0], noise=[1.0])
    assert spread["consensus"] / 2 == pytest.approx(risk.disagreement)


def test_shapes_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="do not match"):
        Quadratics.of(np.ones(3), np.ones((2, 3, 3)), agents=2)
    with pytest.raises(ValueError, match="are not"):
        Quadratics.of(np.ones(3), np.ones(3), np.ones((4, 3)), agents=2)
