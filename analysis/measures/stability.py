"""Stability limits: the largest curvatures at which plain SGD stays at a minimum."""

from typing import ClassVar

from basinet.analysis.measures.measure import Needs, NetworkMeasure
from basinet.analysis.measures.measured import Network
from basinet.sim.run.quantity import Quantity
from basinet.sim.run.records import Row
from basinet.sim.setup.setup import Setup
from basinet.topologies import smallest_eigenvalue

__all__ = ["StabilityLimit", "stability_limits"]


def stability_limits(setup: Setup, step: int) -> Row:
    r"""Find the largest curvature at which the last learning rate μ is stable.

    On a quadratic of curvature h, gradient descent with diffusion or centralized averaging is stable for
    h < 2 / μ, consensus for h < (1 + λ_min(W)) / μ (Tu, Sayed: Diffusion strategies outperform consensus strategies
    for distributed estimation over adaptive networks, IEEE Transactions on Signal Processing 60, 2012,
    arXiv:1205.3993). They hold for plain SGD, whose step is μ times the gradient.

    Args:
        setup: The parts of the run.
        step: Number of steps taken.

    Returns:
        `stability_limit`, and if W is symmetric and constant `consensus_stability_limit`; nothing for an optimizer
        other than plain SGD, or for a rate that is not known before the run.
    """
    optimizer = setup.config.optimizer
    settings = optimizer.describe()
    changed = ("momentum", "weight_decay", "maximize", "groups", "layer_decay")
    plain = optimizer.name == "sgd" and not any(settings.get(name) for name in changed)
    plain &= setup.config.clipping is None and not setup.rates_depend_on_evaluations
    rate = float(settings.get("lr", 0.0)) * setup.rate_factor(max(0, step - 1))
    if not plain or rate <= 0:
        return {}
    limits = {"stability_limit": 2 / rate}
    w = setup.weights
    if len(setup.sequence) == 1 and abs(w - w.T).max() < 1e-12:
        limits["consensus_stability_limit"] = (1 + smallest_eigenvalue(w)) / rate
    return limits


class StabilityLimit(NetworkMeasure):
    """2 / μ and (1 + λ_min(W)) / μ, the largest curvatures at which plain SGD is stable.

    References:
        Tu, Sayed: Diffusion strategies outperform consensus strategies for distributed estimation over adaptive
        networks, IEEE Transactions on Signal Processing 60, 2012, arXiv:1205.3993.
    """

    quantities: ClassVar = {
        "stability_limit": Quantity(
            "limit of stability 2 / μ",
            "2/μ",
            about="2 / μ and (1 + λ_min(W)) / μ, the largest curvatures at which plain SGD is stable",
            compared=False,
        )
    }
    beside: ClassVar = {
        "consensus_stability_limit": Quantity(
            "limit of stability of consensus (1 + λ_min(W)) / μ", "(1+λ_min(W))/μ", compared=False
        )
    }
    needs = Needs(graph=True, mode=False)

    def of(self, network: Network) -> Row:
        """See `NetworkMeasure`."""
        return stability_limits(network.setup, network.step)
