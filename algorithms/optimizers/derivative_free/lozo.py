"""LOZO: MeZO along directions of low rank, one factor of which is kept for some steps; with momentum, LOZO-M."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from basinet.algorithms import draws
from basinet.algorithms.optimizers.derivative_free.directional import PIECE, DirectionalOptimizer, Keys
from basinet.algorithms.optimizers.groups import BELOW_1, COUNT, Rule
from basinet.algorithms.optimizers.local import restore_types
from basinet.algorithms.optimizers.optimizer_traits import OPTIMIZERS
from basinet.algorithms.row_norms import has_loops

__all__ = ["LOZO", "LOZOM"]


Factors = tuple[list[Tensor], list[Tensor]]
"""U [N, m, r] and Vᵀ [N, r, n] of each parameter of a group."""

_FEW = 4
"""Up to this rank compiled loops are faster than products of matrices."""


class LowRankOptimizer(DirectionalOptimizer):
    """Draw directions of low rank r, U Vᵀ in each matrix of parameters; that of a vector is the column U.

    Args:
        params: See `DirectionalOptimizer`.
        lr: Learning rate μ. Implementations without the factor 1/r use μ/r.
        rank: r.
        period: ν, steps for which V is kept.
        **settings: See `DirectionalOptimizer`.

    Raises:
        ValueError: A setting is out of its range.
    """

    rules: ClassVar[Mapping[str, Rule]] = {
        **DirectionalOptimizer.rules,
        "rank": COUNT,
        "period": COUNT,
        "momentum": BELOW_1,
    }

    def __init__(self, params: Iterable[nn.Parameter], **settings: Any) -> None:
        self._held: dict[int, Factors] = {}  # from the evaluations to their step
        self._period: dict[int, tuple[Any, list[Tensor]]] = {}
        super().__init__(params, **settings)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_held": {}, "_period": {}}

    @torch.no_grad()
    def next_factors(self) -> list[Factors]:
        """Draw U and V of the next step, whose direction is U Vᵀ in each matrix.

        Returns:
            U [N, m, r] and Vᵀ [N, r, n] of each parameter that is trained, one pair of lists a group; a row for each
            key that there is.
        """
        return [self._draw(group, keys) for group, keys in self._keyed_groups()]

    def _explore(self, group: dict[str, Any], keys: Keys) -> None:
        left, right = self._held[id(group)] = self._draw(group, keys)
        self._add_products(group, left, right, None, [group["eps"]] * len(left))

    def _factors(self, group: dict[str, Any], keys: Keys) -> Factors:
        """Return U and Vᵀ of this step: those of its evaluations if still held, otherwise drawn again."""
        return self._held.pop(id(group)) if id(group) in self._held else self._draw(group, keys)

    def _draw(self, group: dict[str, Any], keys: Keys) -> Factors:
        number = group["step"] // group["period"]
        wanted = number, group["rank"], [(id(p), p.shape, p.dtype) for p in self._stepped(group)]
        # Drawn by keys, which live as long as this optimizer.
        drawn = self._period.get(id(keys.own))
        if drawn is None or drawn[0] != wanted:
            drawn = self._period[id(keys.own)] = wanted, self._right(group, keys, number)
        return self._left(group, keys), drawn[1]

    def _left(self, group: dict[str, Any], keys: Keys) -> list[Tensor]:
        """Draw U of this step for each parameter, [N, m, r]; that of a vector is a column."""
        layers = self._stepped(group)
        u = self._rows(group, keys.fold(0).fold(group["step"]), layers, lambda p: self._sides(p)[0])
        return [part if self._is_matrix(p) else part[:, :, :1] for p, part in zip(layers, u, strict=True)]

    def _right(
        self, group: dict[str, Any], keys: Keys, period: Tensor | int, some: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """Draw Vᵀ of a period, or of one per key, for each parameter or for some, [N, r, n]; that of a vector is 1."""
        layers = self._stepped(group) if some is None else some
        v = self._rows(
            group, keys.fold(1).fold(period), layers, lambda p: self._sides(p)[1] if self._is_matrix(p) else 0
        )
        return [
            part.mT.contiguous() if self._is_matrix(p) else part.new_ones(len(part), 1, 1)
            for p, part in zip(layers, v, strict=True)
        ]

    def _rows(
        self, group: dict[str, Any], keys: Keys, some: Sequence[Tensor], count: Callable[[Tensor], int]
    ) -> tuple[Tensor, ...]:
        """Draw rows of r numbers for some parameters, [N, count, r], independently of the others."""
        counts, device = list(map(count, some)), keys.own.device
        if len(some) == len(group["params"]):
            places = torch.arange(sum(counts), device=device)
        else:
            ends = dict(zip(map(id, group["params"]), itertools.accumulate(map(count, group["params"])), strict=True))
            own = [torch.arange(ends[id(p)] - n, ends[id(p)], device=device) for p, n in zip(some, counts, strict=True)]
            places = torch.cat(own)
        row_keys = draws.fold(keys.own[:, None], places)
        rows = keys.spread(draws.normal(row_keys, (group["rank"],), dtype=self._precise(some[0])))
        return torch.split(rows, counts, dim=1)

    def _sides(self, p: Tensor) -> tuple[int, int]:
        """Return m and n of a parameter, see `_matrix`."""
        shape = p.shape[1:] if self.agents else p.shape
        return (shape[0], math.prod(shape[1:])) if shape else (1, 1)

    def _is_matrix(self, p: Tensor) -> bool:
        return p.ndim > (2 if self.agents else 1)

    def _add_products(
        self,
        group: dict[str, Any],
        left: list[Tensor],
        right: list[Tensor],
        factors: Tensor | None,
        scales: list[float],
    ) -> None:
        """Add c_n U Vᵀ times a scale to the parameters of a group, without materialising the product."""
        layers: list[Tensor] = list(self._stepped(group))
        if group["rank"] <= _FEW and has_loops([*layers, *left]) and all(map(self._is_laid_out, layers)):
            from basinet.algorithms import row_kernels

            c = left[0].new_ones(len(left[0])) if factors is None else factors
            row_kernels.add_products(layers, left, right, c, scales)
            return
        for p, u, w, scale in zip(layers, left, right, scales, strict=True):
            x = self._matrix(p)
            _add_product(x, u if factors is None else u * factors[:, None, None], w, scale)
            self._put_back(p, x)

    def _is_laid_out(self, p: Tensor) -> bool:
        return p.is_contiguous() or (self.agents is not None and p[0].is_contiguous())


def _add_product(x: Tensor, u: Tensor, w: Tensor, scale: float) -> None:
    if x.dtype == u.dtype:
        x.baddbmm_(u, w, alpha=scale)
        return
    length = max(1, PIECE // (len(x) * w.shape[2]))
    for first in range(0, x.shape[1], length):  # round only the sum to a shorter type
        rows = slice(first, first + length)
        x[:, rows] += torch.bmm(u[:, rows], w).mul_(scale)


@OPTIMIZERS.register("lozo")
class LOZO(LowRankOptimizer):
    r"""Step by the derivative along a random direction of low rank r in each matrix of parameters X, [m, n].

    $$
    c_t = \frac{f(X_t + ε U_t V_t^⊤) - f(X_t - ε U_t V_t^⊤)}{2}, \qquad
    X_{t+1} = (1 - μ λ) X_t - μ \frac{c_t}{ε} \frac{U_t V_t^⊤}{r}
    $$

    U [m, r] is drawn anew at each step and V [n, r] at each ν-th, from N(0, 1) and by keys of their own; while V stays,
    X moves in the subspace {B Vᵀ}. Vectors have the full direction of MeZO. Parameters with more axes are viewed as the
    first one by all others. The estimate has the mean G as ε → 0, and for one matrix E‖ĝ‖² = (mn + 2 + 2(m + n + 1)/r)
    ‖G‖². No state is kept: factors are drawn again from their keys, V once a period.

    Args:
        params: See `DirectionalOptimizer`.
        lr: See `LowRankOptimizer`.
        eps: See `DirectionalOptimizer`.
        rank: See `LowRankOptimizer`.
        period: See `LowRankOptimizer`.
        weight_decay: See `DirectionalOptimizer`.
        maximize: See `DirectionalOptimizer`.
        seed: See `DirectionalOptimizer`.
        shared: See `DirectionalOptimizer`.
        agents: See `DirectionalOptimizer`.
        keys: See `DirectionalOptimizer`.

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
        super().__init__(
            params, lr=lr, eps=eps, rank=rank, period=period, weight_decay=weight_decay, maximize=maximize,
            shared=shared, seed=seed, agents=agents, keys=keys,
        )  # fmt: skip

    def _follow(self, group: dict[str, Any], keys: Keys, slopes: Tensor) -> None:
        left, right = self._factors(group, keys)
        self._add_products(group, left, right, slopes[:, 0], [self._rate(group) / u.shape[2] for u in left])


@OPTIMIZERS.register("lozo_m")
class LOZOM(LowRankOptimizer):
    r"""LOZO with momentum, of low rank too: LOZO-M.

    $$
    N_t = β N_{t-1} + (1 - β) \frac{c_t}{ε} U_t, \qquad X_{t+1} = (1 - μ λ) X_t - μ \frac{N_t V_t^⊤}{r}
    $$

    Only N [m, r] is kept, and the index of its V. When V changes, N becomes N V_oldᵀ V_new / n, the momentum N V_oldᵀ
    projected on the new subspace by least squares, as VᵀV ≈ n I. A share r/n of its energy survives: ν should be well
    above 1/(1 − β).

    Args:
        params: See `DirectionalOptimizer`.
        lr: See `LowRankOptimizer`.
        eps: See `DirectionalOptimizer`.
        rank: See `LowRankOptimizer`.
        period: See `LowRankOptimizer`.
        momentum: β.
        weight_decay: See `DirectionalOptimizer`.
        maximize: See `DirectionalOptimizer`.
        seed: See `DirectionalOptimizer`.
        shared: See `DirectionalOptimizer`.
        agents: See `DirectionalOptimizer`.
        keys: See `DirectionalOptimizer`.

    Raises:
        ValueError: A setting is out of its range.

    References:
        Y. Chen, Y. Zhang, L. Cao, K. Yuan, Z. Wen: Enhancing zeroth-order fine-tuning for language models with low-rank
        structures, ICLR 2025, arXiv:2410.07698.
    """

    traits = replace(LowRankOptimizer.traits, fixed_state=frozenset({"period"}))

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
        super().__init__(
            params, lr=lr, eps=eps, rank=rank, period=period, momentum=momentum, weight_decay=weight_decay,
            maximize=maximize, shared=shared, seed=seed, agents=agents, keys=keys,
        )  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state, with momentum in the types of the parameters.

        Args:
            state_dict: What `state_dict` returned.
        """
        super().load_state_dict(state_dict)
        restore_types(self, state_dict, floating=False)

    def _follow(self, group: dict[str, Any], keys: Keys, slopes: Tensor) -> None:
        layers, period, beta = self._stepped(group), group["step"] // group["period"], group["momentum"]
        left, right = self._factors(group, keys)
        momenta = [self._momentum(p, u) for p, u in zip(layers, left, strict=True)]
        # An inactive agent or frozen parameter keeps its momentum, which may belong to any earlier V.
        own = Keys(keys.own[keys.members], torch.arange(len(keys.members), device=keys.members.device))
        for place, (p, v) in enumerate(zip(layers, right, strict=True)):
            with torch.inference_mode(False):  # it outlives this step
                since = self.state[p].setdefault("period", torch.full_like(keys.members, period))
            changed = since != period
            if since.device.type == "cpu" and not changed.any():  # on a GPU, asking costs more than drawing
                continue
            (old,) = self._right(group, own, since, [p])
            carried = torch.bmm(momenta[place], old @ v.mT / v.shape[2])
            momenta[place] = torch.where(changed[:, None, None], carried, momenta[place])
            since.fill_(period)
        momenta = [beta * m + (1 - beta) * slopes[:, :, None] * u for m, u in zip(momenta, left, strict=True)]
        for p, momentum in zip(layers, momenta, strict=True):
            self.state[p]["momentum"].copy_(momentum)
        self._add_products(group, momenta, right, None, [self._rate(group) / m.shape[2] for m in momenta])

    def _momentum(self, p: Tensor, like: Tensor) -> Tensor:
        with torch.inference_mode(False):
            held: Tensor = self.state[p].setdefault("momentum", p.new_zeros(like.shape))
        return held.to(like.dtype)
