"""MeZO: SGD along a random direction, by two evaluations of the loss and no gradient."""

from collections.abc import Callable, Iterable, Iterator
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from basinet.algorithms import draws

__all__ = ["MeZO"]

_PIECE = 2**16
"""About so many numbers of a direction are made at a time: it is never held as a whole."""

_ROW = 64
"""Numbers that are drawn from one key."""

Block = tuple[int, slice, Tensor]
"""Which parameter of a group, which of its numbers, and a part of a direction there, [N, numbers]."""


class MeZO(Optimizer):
    r"""Step by the derivative along a random direction, which two evaluations of the loss tell.

    $$
    c_t = \frac{f(x_t + ε z_t) - f(x_t - ε z_t)}{2}, \qquad x_{t+1} = (1 - μ λ) x_t - μ \frac{c_t}{ε} z_t,
    \qquad z_t ∼ N(0, I)
    $$

    One number c a step serves all layers. As ε → 0 the estimate ĝ = (c/ε) z has the mean g and E‖ĝ‖² = (d + 2) ‖g‖²
    over d parameters. Nothing is kept between steps: z is drawn again from its key whenever it is needed, a piece at a
    time. Both evaluations are of the same batch, without autograd, so that no activations are kept. The parameters
    move in place, and come back bit by bit from a copy that lives while a step evaluates; going back by subtraction
    would let them drift, by 0.05 (rms) in a thousand steps of bfloat16.

    Args:
        params: Parameters, or groups of them; those that require no gradient stay as they are.
        lr: Learning rate μ.
        eps: Radius ε of the difference.
        weight_decay: λ, of the parameters themselves.
        maximize: Whether to step uphill.
        seed: Seed of the directions on a plain model.
        shared: Whether all agents draw the same directions. Their coefficients then can be averaged in the place of
            gradients, and one number is all that travels.
        agents: How many agents the leading axis of each parameter counts; None for a plain model.
        keys: The agents' keys for the draws, int64 [N, 2], in the place of the seed: the agent's own, and one that all
            agents of its replica share.

    Attributes:
        coefficients: c of the step that is prepared, [N, 1]; None before.

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

    stacked = "layers"
    derivative_free = True
    keyed = True

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
        for name, value in {"lr": lr, "weight_decay": weight_decay}.items():
            if not value >= 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        if not eps > 0:
            raise ValueError(f"eps must be above 0, got {eps}")
        if keys is None:
            common = torch.full((agents or 1,), draws.key(seed, "optimizer"))
            keys = torch.stack([draws.fold(common, torch.arange(len(common))), common], 1)
        self.agents = agents
        self.shared = shared
        # Agents of one key have one direction, which is drawn once.
        self.keys, self.members = torch.unique(keys[:, int(shared)], return_inverse=True)
        self.coefficients: Tensor | None = None
        defaults = {"lr": lr, "eps": eps, "weight_decay": weight_decay, "maximize": maximize, "step": 0}
        super().__init__(params, defaults)

    @property
    def in_common(self) -> bool:
        """Whether all agents step along the same directions."""
        return self.shared

    def _set_defaults(self, **settings: Any) -> None:
        """Give the groups settings of a kind of MeZO, where they have none of their own."""
        self.defaults.update(settings)
        for group in self.param_groups:
            group.update({**settings, **group})

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("agents", "shared", "keys", "members", "coefficients")}
        return {**super().__getstate__(), **own}

    @torch.no_grad()
    def prepare(self, closure: Callable[[], Tensor]) -> Tensor:
        """Find the coefficients of the next step, and leave the parameters as they are.

        Args:
            closure: Evaluates the loss, or the losses [N] of stacked agents, and nothing else.

        Returns:
            The mean of both evaluations, f(x) to second order in ε.
        """
        kept = [(p, p.clone()) for group in self.param_groups for p in _stepped(group)]
        try:
            for group, keys in self._keyed_groups():
                self._add(group, self._directions(group, keys), group["eps"])
            above = torch.as_tensor(closure())
            for p, x in kept:
                p.neg_().add_(x, alpha=2)  # x − (p − x): as far to the other side as rounding has let it go to this one
            below = torch.as_tensor(closure())
        finally:
            for p, x in kept:
                p.copy_(x)
        # The difference of two losses has few digits: none are to be lost here.
        above, below = (f.to(torch.promote_types(f.dtype, torch.float32)) for f in (above, below))
        self.coefficients = ((above - below) / 2).reshape(-1, 1)
        return (above + below) / 2

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Take a step.

        Args:
            closure: See `prepare`; without it the step that is prepared is taken.

        Returns:
            What `prepare` returned, if a closure is given.

        Raises:
            RuntimeError: There is neither a closure nor a prepared step.
        """
        loss = None if closure is None else self.prepare(closure)
        if self.coefficients is None:
            raise RuntimeError(f"{type(self).__name__} evaluates by itself: its step needs a closure")
        for group, keys in self._keyed_groups():
            if group["weight_decay"]:
                for p in _stepped(group):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
            estimates = self._estimates(group, keys, self.coefficients.to(keys.device) / group["eps"])
            self._add(group, estimates, group["lr"] if group["maximize"] else -group["lr"])
            group["step"] += 1
        self.coefficients = None
        return loss

    def _keyed_groups(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        """Go through the groups, each with its keys, one a direction."""
        for place, group in enumerate(self.param_groups):
            for p in _stepped(group)[:1]:
                if self.keys.device != p.device:
                    self.keys, self.members = self.keys.to(p.device), self.members.to(p.device)
                yield group, draws.fold(self.keys, place)

    def _directions(self, group: dict[str, Any], keys: Tensor) -> Iterator[Block]:
        """Draw this step's direction z, in blocks."""
        layers = _stepped(group)
        sizes = [_matrix(p, self.agents)[0].numel() for p in layers]
        rows = ceil(sum(sizes) / _ROW)
        length = max(1, _PIECE // (len(self.members) * _ROW))
        for first in range(0, rows, length):
            numbers = torch.arange(first, min(first + length, rows), device=keys.device)
            row_keys = draws.fold(draws.fold(keys, group["step"])[:, None], numbers)
            z = draws.normal(row_keys, (_ROW,), dtype=_precise(layers[0])).flatten(1)[self.members]
            start, offset = first * _ROW, 0
            for place, size in enumerate(sizes):
                low, high = max(start, offset), min(start + z.shape[1], offset + size)
                if low < high:
                    yield place, slice(low - offset, high - offset), z[:, low - start : high - start]
                offset += size

    def _estimates(self, group: dict[str, Any], keys: Tensor, slopes: Tensor) -> Iterator[Block]:
        """Make what the step goes along from the slopes c/ε, [N, 1]: the estimate ĝ."""
        for place, numbers, direction in self._directions(group, keys):
            yield place, numbers, direction * slopes

    def _add(self, group: dict[str, Any], blocks: Iterator[Block], scale: float) -> None:
        """Add blocks to the parameters of a group."""
        layers = _stepped(group)
        flat = [_matrix(p, self.agents).flatten(1) for p in layers]
        for place, numbers, block in blocks:
            flat[place][:, numbers] += block.mul_(scale)
        for p, x in zip(layers, flat, strict=True):
            if x.data_ptr() != p.data_ptr():  # p has a memory format in which it is no matrix
                p.copy_(x.view(p.shape))


def _stepped(group: dict[str, Any]) -> list[nn.Parameter]:
    """Give the parameters of a group that are trained."""
    return [p for p in group["params"] if p.requires_grad]


def _matrix(p: Tensor, agents: int | None) -> Tensor:
    """See a parameter as matrices [N, m, n], m being its first axis: a vector is a column."""
    stacked = p if agents else p.unsqueeze(0)
    return stacked.reshape(len(stacked), stacked.shape[1] if stacked.ndim > 1 else 1, -1)


def _precise(p: Tensor) -> torch.dtype:
    """Choose the type in which directions are made: float32 for a shorter one."""
    return torch.promote_types(p.dtype, torch.float32)
