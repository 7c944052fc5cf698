"""LOZO: MeZO along directions of low rank, whose one factor is kept for some steps; with momentum, LOZO-M."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from basinet.algorithms import draws
from basinet.algorithms.optimizers.mezo import _PIECE, Block, MeZO, _matrix, _precise, _stepped

__all__ = ["LOZO", "LOZOM"]


class LOZO(MeZO):
    r"""Step by the derivative along a random direction of low rank r in each matrix of parameters X, [m, n].

    $$
    c_t = \frac{f(X_t + ε U_t V_t^⊤) - f(X_t - ε U_t V_t^⊤)}{2}, \qquad
    X_{t+1} = (1 - μ λ) X_t - μ \frac{c_t}{ε} \frac{U_t V_t^⊤}{r}
    $$

    U [m, r] is drawn anew at each step and V [n, r] at each ν-th, from N(0, 1) and by keys of their own; while V
    stays, X moves in the subspace {B Vᵀ}. Vectors have the full direction of MeZO. More than two axes are taken as
    the first one by all others. The estimate has the mean G as ε → 0, and for one matrix E‖ĝ‖² =
    (mn + 2 + 2(m + n + 1)/r) ‖G‖². Nothing is kept between steps: factors are drawn again from their keys.

    Args:
        params: See `MeZO`.
        lr: Learning rate μ. That of codes without the factor 1/r is μ/r.
        eps: Radius ε of the difference.
        rank: r.
        period: ν, steps for which V stays.
        weight_decay: See `MeZO`.
        maximize: See `MeZO`.
        seed: See `MeZO`.
        shared: See `MeZO`.
        agents: See `MeZO`.
        keys: See `MeZO`.

    Raises:
        ValueError: A setting is out of its range.

    References:
        Y. Chen, Y. Zhang, L. Cao, K. Yuan, Z. Wen: Enhancing zeroth-order fine-tuning for language models with low-rank
        structures, ICLR 2025, arXiv:2410.07698.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        eps: float = 1e-3,
        rank: int = 2,
        period: int = 50,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        seed: int = 0,
        shared: bool = False,
        agents: int | None = None,
        keys: Tensor | None = None,
    ) -> None:
        for name, value in {"rank": rank, "period": period}.items():
            if not value >= 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        super().__init__(
            params, lr, eps, weight_decay, maximize=maximize, seed=seed, shared=shared, agents=agents, keys=keys
        )
        self._set_defaults(rank=rank, period=period)

    def _left(self, group: dict[str, Any], keys: Tensor) -> list[Tensor]:
        """Draw U of this step for each parameter, [G, m, r]; that of a vector is a column."""
        layers = _stepped(group)
        heights = [_matrix(p, self.agents).shape[1] for p in layers]
        u = self._rows(group, draws.fold(draws.fold(keys, 0), group["step"]), sum(heights))
        return [
            part if self._is_matrix(p) else part[:, :, :1]
            for p, part in zip(layers, torch.split(u, heights, dim=1), strict=True)
        ]

    def _right(self, group: dict[str, Any], keys: Tensor, period: int) -> list[Tensor]:
        """Draw V of a period for each parameter, [G, n, r]; that of a vector is 1."""
        layers = _stepped(group)
        widths = [_matrix(p, self.agents).shape[2] if self._is_matrix(p) else 0 for p in layers]
        v = self._rows(group, draws.fold(draws.fold(keys, 1), period), sum(widths))
        return [
            part if n else part.new_ones(len(part), 1, 1)
            for n, part in zip(widths, torch.split(v, widths, dim=1), strict=True)
        ]

    def _rows(self, group: dict[str, Any], keys: Tensor, count: int) -> Tensor:
        """Draw rows of r numbers, those of all parameters at once: [G, count, r]."""
        row_keys = draws.fold(keys[:, None], torch.arange(count, device=keys.device))
        return draws.normal(row_keys, (group["rank"],), dtype=_precise(_stepped(group)[0]))

    def _is_matrix(self, p: Tensor) -> bool:
        return p.ndim > (2 if self.agents else 1)

    def _directions(self, group: dict[str, Any], keys: Tensor) -> Iterator[Block]:
        u, v = self._left(group, keys), self._right(group, keys, group["step"] // group["period"])
        for place, numbers, direction in self._products(u, v):
            yield place, numbers, direction[self.members]

    def _estimates(self, group: dict[str, Any], keys: Tensor, slopes: Tensor) -> Iterator[Block]:
        ranks = [group["rank"] if self._is_matrix(p) else 1 for p in _stepped(group)]
        for place, numbers, direction in self._directions(group, keys):
            yield place, numbers, direction * (slopes / ranks[place])

    def _products(self, left: list[Tensor], right: list[Tensor]) -> Iterator[Block]:
        """Multiply the factors of each parameter, some rows of the product at a time."""
        for place, (u, v) in enumerate(zip(left, right, strict=True)):
            n = v.shape[1]
            length = max(1, _PIECE // (len(self.members) * n))
            for first in range(0, u.shape[1], length):
                product = torch.bmm(u[:, first : first + length], v.mT).flatten(1)
                yield place, slice(first * n, first * n + product.shape[1]), product


class LOZOM(LOZO):
    r"""LOZO with momentum, which is of low rank, too: LOZO-M.

    $$
    N_t = β N_{t-1} + (1 - β) \frac{c_t}{ε} U_t, \qquad X_{t+1} = (1 - μ λ) X_t - μ \frac{N_t V_t^⊤}{r}
    $$

    N [m, r] is all that is kept. When V changes, N becomes N V_oldᵀ V_new / n, the momentum N V_oldᵀ seen in the new
    subspace by least squares, as VᵀV ≈ n I. Of its energy the share r/n survives: ν should be well above 1/(1 − β).

    Args:
        params: See `MeZO`.
        lr: See `LOZO`.
        eps: See `LOZO`.
        rank: See `LOZO`.
        period: See `LOZO`.
        momentum: β.
        weight_decay: See `MeZO`.
        maximize: See `MeZO`.
        seed: See `MeZO`.
        shared: See `MeZO`.
        agents: See `MeZO`.
        keys: See `MeZO`.

    Raises:
        ValueError: A setting is out of its range.

    References:
        Y. Chen, Y. Zhang, L. Cao, K. Yuan, Z. Wen: Enhancing zeroth-order fine-tuning for language models with low-rank
        structures, ICLR 2025, arXiv:2410.07698.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        eps: float = 1e-3,
        rank: int = 2,
        period: int = 50,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        seed: int = 0,
        shared: bool = False,
        agents: int | None = None,
        keys: Tensor | None = None,
    ) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        common: dict[str, Any] = {"maximize": maximize, "seed": seed, "shared": shared, "agents": agents, "keys": keys}
        super().__init__(params, lr, eps, rank, period, weight_decay, **common)
        self._set_defaults(momentum=momentum)

    def _estimates(self, group: dict[str, Any], keys: Tensor, slopes: Tensor) -> Iterator[Block]:
        period, place = divmod(group["step"], group["period"])
        left, right = self._left(group, keys), self._right(group, keys, period)
        refreshed = period > 0 and place == 0
        before = self._right(group, keys, period - 1) if refreshed else right
        momenta, factors = [], []
        for p, u, v, old in zip(_stepped(group), left, right, before, strict=True):
            held = self.state[p].setdefault("momentum", p.new_zeros(len(self.members), *u.shape[1:]))
            momentum = held.to(u.dtype)
            if refreshed:
                momentum = torch.bmm(momentum, (old.mT @ v / v.shape[1])[self.members])
            momentum = group["momentum"] * momentum + (1 - group["momentum"]) * slopes[:, :, None] * u[self.members]
            held.copy_(momentum)
            momenta.append(momentum)
            factors.append(v[self.members] / v.shape[2])
        yield from self._products(momenta, factors)
