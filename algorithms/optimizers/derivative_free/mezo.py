"""MeZO: SGD along a random direction, from two evaluations of the loss and no gradient."""

from collections.abc import Iterable, Iterator
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from basinet.algorithms import draws
from basinet.algorithms.optimizers.derivative_free.directional import PIECE, DirectionalOptimizer, Keys
from basinet.algorithms.optimizers.optimizer_traits import OPTIMIZERS

__all__ = ["MeZO"]

_ROW = 64
"""Numbers drawn from one key."""

Block = tuple[int, slice, Tensor]
"""A parameter of a group, a slice of its entries, and the direction there, [N, numbers]."""


@OPTIMIZERS.register("mezo")
class MeZO(DirectionalOptimizer):
    r"""Step by the derivative along a random direction, found from two evaluations of the loss.

    $$
    c_t = \frac{f(x_t + ε z_t) - f(x_t - ε z_t)}{2}, \qquad x_{t+1} = (1 - μ λ) x_t - μ \frac{c_t}{ε} z_t,
    \qquad z_t ∼ N(0, I)
    $$

    One number c per step serves all layers. As ε → 0 the estimate ĝ = (c/ε) z has the mean g and E‖ĝ‖² = (d + 2) ‖g‖²
    over d parameters. Nothing is kept between steps: z is drawn again from its key whenever it is needed, a piece at a
    time. See `DirectionalOptimizer` for the evaluations.

    Args:
        params: See `DirectionalOptimizer`.
        lr: See `DirectionalOptimizer`.
        eps: See `DirectionalOptimizer`.
        weight_decay: See `DirectionalOptimizer`.
        maximize: See `DirectionalOptimizer`.
        seed: See `DirectionalOptimizer`.
        shared: See `DirectionalOptimizer`.
        agents: See `DirectionalOptimizer`.
        keys: See `DirectionalOptimizer`.

    Raises:
        ValueError: A setting is out of its range.

    Example:
        >>> x = nn.Parameter(torch.tensor([3.0, -4.0]))
        >>> optimizer = MeZO([x], lr=0.1)
        >>> for _ in range(200):
        ...     loss = optimizer.step(lambda: x.square().sum() / 2)
        >>> bool(loss < 1e-3)
        True

    References:
        S. Malladi, T. Gao, E. Nichani, A. Damian, J. D. Lee, D. Chen, S. Arora: Fine-tuning language models with just
        forward passes, NeurIPS 2023, arXiv:2305.17333. J. C. Spall: Multivariate stochastic approximation using a
        simultaneous perturbation gradient approximation, IEEE TAC 37 (1992), doi:10.1109/9.119632. Y. Nesterov,
        V. Spokoiny: Random gradient-free minimization of convex functions, Found. Comput. Math. 17 (2017),
        doi:10.1007/s10208-015-9296-2.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        eps: float = 1e-3,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        seed: int = 0,
        shared: bool = False,
        agents: int | None = None,
        keys: Tensor | None = None,
    ) -> None:
        super().__init__(
            params, lr=lr, eps=eps, weight_decay=weight_decay, maximize=maximize, shared=shared, seed=seed,
            agents=agents, keys=keys,
        )  # fmt: skip

    def _explore(self, group: dict[str, Any], keys: Keys) -> None:
        self._add(group, keys, group["eps"])

    def _follow(self, group: dict[str, Any], keys: Keys, slopes: Tensor) -> None:
        self._add(group, keys, slopes * self._rate(group))

    def _add(self, group: dict[str, Any], keys: Keys, factor: Tensor | float) -> None:
        """Add the direction times a factor, or one factor per agent, [N, 1]."""
        layers = self._stepped(group)
        flat = [self._matrix(p).flatten(1) for p in layers]
        for place, numbers, z in self._directions(group, keys):
            flat[place][:, numbers] += z * factor
        for p, x in zip(layers, flat, strict=True):
            self._put_back(p, x)

    def _directions(self, group: dict[str, Any], keys: Keys) -> Iterator[Block]:
        """Draw this step's direction z, in blocks."""
        layers = self._stepped(group)
        sizes = [self._matrix(p)[0].numel() for p in layers]
        rows = ceil(sum(sizes) / _ROW)
        length = max(1, PIECE // (len(keys.members) * _ROW))
        own = draws.fold(keys.own, group["step"])[:, None]
        for first in range(0, rows, length):
            row_keys = draws.fold(own, torch.arange(first, min(first + length, rows), device=own.device))
            z = keys.spread(draws.normal(row_keys, (_ROW,), dtype=self._precise(layers[0])).flatten(1))
            start, offset = first * _ROW, 0
            for place, size in enumerate(sizes):
                low, high = max(start, offset), min(start + z.shape[1], offset + size)
                if low < high:
                    yield place, slice(low - offset, high - offset), z[:, low - start : high - start]
                offset += size
