"""Robust aggregation: rules that combine neighbours' rows, some of which may be false.

A neighbourhood is an agent and those it receives from, with v_0 its own row and v_1 … v_D theirs; n is its size, and up
to f of the neighbours may be attackers. Rules have three forms:

- coordinate-wise: from the values [N, 1 + D, w] of some columns to the result;
- pairwise: from the distances between all rows to the coefficients a of the result Σ_l a_l v_l;
- clipping: from the distances to the agent's centre v to the coefficients of v + Σ_l a_l (v_l − v).

References:
    median (stays between honest values where n > 2 f): D. Yin, Y. Chen, K. Ramchandran, P. Bartlett: Byzantine-robust
    distributed learning: towards optimal statistical rates, ICML 2018, arXiv:1803.01498.
    trimmed_mean (likewise, with more than 2 f neighbours): C. Fang, Z. Yang, W. U. Bajwa: BRIDGE: Byzantine-resilient
    decentralized gradient descent, IEEE TSIPN 8 (2022), arXiv:1908.08098.
    krum, multi_krum (n > 2 f + 2): P. Blanchard, E. M. El Mhamdi, R. Guerraoui, J. Stainer: Machine learning with
    adversaries: Byzantine tolerant gradient descent, NeurIPS 2017, arXiv:1703.02757.
    geometric_median (n > 2 f): K. Pillutla, S. M. Kakade, Z. Harchaoui: Robust aggregation for federated learning, IEEE
    TSP 70 (2022), arXiv:1912.13445.
    ios (bounds where any f neighbours weigh less than 1/3): Z. Wu, T. Chen, Q. Ling: Byzantine-resilient decentralized
    stochastic optimization with robust aggregation rules, IEEE TSP 71 (2023), arXiv:2206.04568.
    centered_clipping: S. P. Karimireddy, L. He, M. Jaggi: Learning from history for Byzantine robust optimization, ICML
    2021, arXiv:2012.10333.
    self_centered_clipping: L. He, S. P. Karimireddy, M. Jaggi: Byzantine-robust decentralized learning via
    ClippedGossip, 2022, arXiv:2202.01545.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CLIPPED", "COORDINATEWISE", "PAIRWISE", "Neighborhood"]

_WEISZFELD = 64
"""Iterations of the geometric median: far rows lose at least a factor f / (n − f) in each."""


@dataclass(frozen=True)
class Neighborhood:
    """The neighbourhood of each agent: the agent itself, then one slot per neighbour, some of them empty.

    Attributes:
        members: Whether the slot is occupied, bool [N, 1 + D].
        weights: The agent's row of W, float64 [N, 1 + D]; 0 in empty slots.
        tolerated: f, attackers tolerated among the neighbours, int64 [N].
        most: The largest f.
    """

    members: Tensor
    weights: Tensor
    tolerated: Tensor
    most: int

    @property
    def size(self) -> Tensor:
        """n, int64 [N]."""
        return self.members.sum(1)


def _median(values: Tensor, hood: Neighborhood) -> Tensor:
    """Take the coordinate-wise median; of an even number of values, the mean of the two in the middle."""
    ordered = values.masked_fill(~hood.members[..., None], torch.inf).sort(1).values
    middle = [((hood.size - 1 + upper) // 2)[:, None, None].expand(-1, 1, values.shape[2]) for upper in (0, 1)]
    lower, upper = (ordered.gather(1, place)[:, 0] for place in middle)
    return (lower + upper) / 2


def _trimmed_mean(values: Tensor, hood: Neighborhood) -> Tensor:
    """Average the own value and the neighbours', leaving out the f largest and f smallest in each coordinate."""
    own, others = values[:, :1], values[:, 1:].masked_fill(~hood.members[:, 1:, None], torch.inf)
    rank = torch.arange(others.shape[1], device=values.device)
    f = hood.tolerated[:, None]
    kept = (rank >= f) & (rank < hood.size[:, None] - 1 - f)
    differences = (others.sort(1).values - own).masked_fill_(~kept[..., None], 0)
    return own[:, 0] + differences.sum(1) / (1 + kept.sum(1, keepdim=True))


COORDINATEWISE: dict[str, Callable[[Tensor, Neighborhood], Tensor]] = {"median": _median, "trimmed_mean": _trimmed_mean}
"""From values [N, 1 + D, w] and the neighbourhoods to the results [N, w]."""


def _ranks(keys: Tensor) -> Tensor:
    """Rank the entries of each row in ascending order; ties keep their order."""
    return keys.argsort(dim=1, stable=True).argsort(dim=1)


def _closest(squares: Tensor, hood: Neighborhood, count: Tensor) -> Tensor:
    """Average the rows whose n − f − 2 closest others are the closest, by the sum of their squared distances."""
    outside = ~hood.members
    itself = torch.eye(squares.shape[1], dtype=torch.bool, device=squares.device)
    others = squares.masked_fill(outside[:, None] | itself, torch.inf).sort(2).values
    near = torch.arange(squares.shape[1], device=squares.device) < (hood.size - hood.tolerated - 2)[:, None, None]
    scores = others.masked_fill(~near, 0).sum(2).masked_fill(outside, torch.inf)
    return (_ranks(scores) < count[:, None]) / count[:, None].double()


def _krum(squares: Tensor, hood: Neighborhood) -> Tensor:
    """Take the row whose n − f − 2 closest others are the closest."""
    return _closest(squares, hood, torch.ones_like(hood.size))


def _multi_krum(squares: Tensor, hood: Neighborhood) -> Tensor:
    """Average the n − f best rows by Krum's score."""
    return _closest(squares, hood, hood.size - hood.tolerated)


def _geometric_median(squares: Tensor, hood: Neighborhood) -> Tensor:
    """Find argmin_z Σ_l ‖v_l − z‖ from the mean on: z ← Σ_l (v_l / d_l) / Σ_l (1 / d_l), d_l = ‖v_l − z‖."""
    # Rows a million times farther from the others than these are from each other are left out: they would count as unit
    # vectors, and rounding would lose the distances between the others.
    middle = _medians(squares.masked_fill(~hood.members[:, None], torch.inf), hood.size)
    near = hood.members & (middle <= 1e12 * _medians(middle.masked_fill(~hood.members, torch.inf), hood.size)[:, None])
    squares = squares.masked_fill(~(near[:, None] & near[:, :, None]), 0)
    members = near.double()
    a = members / members.sum(1, keepdim=True)
    # Rows equal to the median have distance zero.
    smallest = 1e-10 * squares.amax((1, 2)).sqrt()[:, None] + torch.finfo(squares.dtype).tiny ** 0.5
    for _ in range(_WEISZFELD):
        a = members / _distances_to_mean(squares, a).clamp_min_(0).sqrt_().maximum(smallest)
        a = a / a.sum(1, keepdim=True)
    return a


def _medians(values: Tensor, size: Tensor) -> Tensor:
    """Take the upper median of the n members along the last axis, the others being infinite."""
    place = (size // 2).view(-1, *(1 for _ in values.shape[1:])).expand(*values.shape[:-1], 1)
    return values.sort(-1).values.gather(-1, place)[..., 0]


def _distances_to_mean(squares: Tensor, a: Tensor) -> Tensor:
    """Compute ‖v_l − Σ_m a_m v_m‖² of all rows from the squared distances between them, for coefficients of sum one."""
    mean = (squares @ a[..., None])[..., 0]
    return mean - (a * mean).sum(1, keepdim=True) / 2


def _ios(squares: Tensor, hood: Neighborhood) -> Tensor:
    """Drop the neighbour farthest from the weighted mean of those left, f times, and take that mean."""
    weights = hood.weights.clone()
    neighbors = hood.members.clone()
    neighbors[:, 0] = False
    for dropped in range(hood.most):
        a = weights / weights.sum(1, keepdim=True)
        far = _distances_to_mean(squares, a).masked_fill_(~neighbors, -torch.inf).argmax(1, keepdim=True)
        drop = torch.zeros_like(neighbors).scatter_(1, far, (dropped < hood.tolerated)[:, None])
        weights, neighbors = weights.masked_fill(drop, 0), neighbors & ~drop
    return weights / weights.sum(1, keepdim=True)


PAIRWISE: dict[str, Callable[[Tensor, Neighborhood], Tensor]] = {
    "geometric_median": _geometric_median,
    "ios": _ios,
    "krum": _krum,
    "multi_krum": _multi_krum,
}
"""From squared distances [N, 1 + D, 1 + D], in float64, and the neighbourhoods to coefficients [N, 1 + D]."""


def _clip(squares: Tensor, radius: Tensor) -> Tensor:
    """Compute min(1, τ / d)."""
    return (radius[:, None] / squares.sqrt().clamp_min(torch.finfo(squares.dtype).tiny)).clamp_max(1)


def _centered_clipping(squares: Tensor, hood: Neighborhood, radius: float | None) -> Tensor:
    """Move the centre by (1/n) Σ_l clip(v_l − v, τ), where v is the agent's last combined row."""
    assert radius is not None
    members = hood.members.double()
    return members / members.sum(1, keepdim=True) * _clip(squares, squares.new_tensor([radius]))


def _self_centered_clipping(squares: Tensor, hood: Neighborhood, radius: float | None) -> Tensor:
    """Move the agent's own row by Σ_l W[k, l] clip(v_l − v_0, τ)."""
    if radius is not None:
        return hood.weights * _clip(squares, squares.new_tensor([radius]))
    # τ² = Σ_{l ∉ F} W[k, l] ‖v_l − v_0‖² / Σ_{l ∈ F} W[k, l]: the paper's choice, the f farthest for the attackers F.
    far = _ranks(-squares.masked_fill(~hood.members, -1)) < hood.tolerated[:, None]
    near = (hood.weights * squares).masked_fill(far, 0).sum(1)
    weight = hood.weights.masked_fill(~far, 0).sum(1)
    return hood.weights * _clip(squares, torch.where(weight > 0, near / weight, torch.inf).sqrt())


CLIPPED: dict[str, Callable[[Tensor, Neighborhood, float | None], Tensor]] = {
    "centered_clipping": _centered_clipping,
    "self_centered_clipping": _self_centered_clipping,
}
"""From squared distances to the centre [N, 1 + D], in float64, the neighbourhoods and τ to coefficients [N, 1 + D]."""
