"""Measures of a network as a whole: what disagreement costs, and the limits of stability beside λ_max."""

import math
from collections.abc import Callable

import torch

from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.measures.disagreement import Disagreement, disagreement, implicit_regularization
from basinet.analysis.measures.families import Attempts
from basinet.analysis.measures.snapshot import NUM_EIGENVALUES
from basinet.analysis.runs.sites import Bench, Sites, repeated
from basinet.sim.run.records import Row
from basinet.sim.setup.setup import Setup
from basinet.topologies import smallest_eigenvalue

__all__ = ["measure_network", "stability_limits"]


def measure_network(
    bench: Bench, step: int, replica: int, center: Sites, agents: Callable[[], Curvature], attempts: Attempts
) -> Row:
    """Measure a replica's network.

    Args:
        bench: Model, task and samples.
        step: How many steps have been taken.
        replica: Which replica it is.
        center: Its centroid, under all samples.
        agents: Gives its honest agents.
        attempts: Takes note of what fails.

    Returns:
        Values by name, which belong to the row of the centroid.
    """
    centroid, weights = center.hessian, bench.weights(replica)

    known: list[Disagreement] = []  # by the first of the two measures that need it

    def sharpness() -> Row:
        costs = known[0] if known else disagreement(agents(), centroid, weights)
        found: Row = {"consensus_sharpness": costs.sharpness, "consensus_sharpness_quadratic": costs.quadratic}
        if "own" in bench.setup.config.analysis_views:
            own = bench.objective(len(weights), bench.holdings(replica))
            gain = _own_gain(Curvature(own, agents().points, agents().buffers), centroid, weights)
            found["consensus_sharpness_own"] = gain
        return found

    def alignment() -> Row:
        space, (spectrum,) = center.snapshot
        costs = disagreement(agents(), centroid, weights, space.vectors(0, space.ritz(0)[1][:, -NUM_EIGENVALUES:]))
        known.append(costs)
        value = costs.alignment(spectrum.trace.value, centroid.points.shape[1])
        return {"disagreement_alignment": value, "disagreement_captured": costs.captured}

    def regularization() -> Row:
        added, slope = implicit_regularization(agents().points, centroid, weights)
        return {"implicit_regularization": added, "implicit_regularization_gradient": float(slope.norm())}

    found: Row = {}
    parts = {
        "disagreement_alignment": alignment,
        "consensus_sharpness": sharpness,
        "implicit_regularization": regularization,
    }
    for name, part in parts.items():
        rows, _ = attempts.take([name], lambda part=part: ([part()], []))  # type: ignore[misc]
        for row in rows:
            found |= {f"{key}{bench.suffix}": value for key, value in row.items() if math.isfinite(value)}
    rows, _ = attempts.take(["stability_limit"], lambda: ([stability_limits(bench.setup, step)], []))
    return {key: value for row in rows for key, value in row.items()} | found


def _own_gain(agents: Curvature, centroid: Curvature, weights: torch.Tensor) -> float:
    """Compute Σ π_k [L_k(θ_k) − L_k(θ̄)]."""
    there = Curvature(agents.objective, *repeated(centroid, agents.num_points))
    return float(weights.to(agents.points.device, torch.float64) @ (agents.losses() - there.losses()))


def stability_limits(setup: Setup, step: int) -> Row:
    r"""Find the largest curvature at which the last learning rate μ is stable.

    On a quadratic of curvature h, gradient descent with diffusion or centralized averaging is stable for
    h < 2 / μ, consensus for h < (1 + λ_min(W)) / μ (Tu, Sayed: Diffusion strategies outperform consensus strategies
    for distributed estimation over adaptive networks, IEEE Transactions on Signal Processing 60, 2012,
    arXiv:1205.3993). They hold for plain SGD, whose step is μ times the gradient.

    Args:
        setup: The parts of the run.
        step: How many steps have been taken.

    Returns:
        `stability_limit`, and where W is symmetric and the same in each step `consensus_stability_limit`; nothing for
        an optimizer other than plain SGD.
    """
    optimizer = setup.config.optimizer
    settings = optimizer.describe()
    plain = optimizer.name == "sgd" and not any(settings.get(name) for name in ("momentum", "weight_decay", "maximize"))
    rate = float(settings.get("lr", 0.0)) * setup.rate_factor(max(0, step - 1))
    if not plain or rate <= 0:
        return {}
    limits = {"stability_limit": 2 / rate}
    w = setup.weights
    if len(setup.sequence) == 1 and abs(w - w.T).max() < 1e-12:
        limits["consensus_stability_limit"] = (1 + smallest_eigenvalue(w)) / rate
    return limits
