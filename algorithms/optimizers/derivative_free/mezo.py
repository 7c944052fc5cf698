"""MeZO: SGD along a random direction, by two evaluations of the loss and no gradient."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import ceil
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from basinet.algorithms import draws
from basinet.algorithms.optimizers.groups import (
    ABOVE_0,
    AT_LEAST_0,
    FLAG,
    RATE,
    WHOLE,
    Rule,
    check_settings,
    checked_parameters,
    rate_of,
    seeded_keys,
)

__all__ = ["MeZO"]

_PIECE = 2**16
"""About so many numbers of a direction are made at a time: it is never held as a whole."""

_ROW = 64
"""Numbers that are drawn from one key."""

Block = tuple[int, slice, Tensor]
"""Which parameter of a group, which of its numbers, and a part of a direction there, [N, numbers]."""


class Keys(NamedTuple):
    """Keys of a group's directions, one a direction: agents of one key have one direction, which is drawn once.

    Attributes:
        own: int64 [G].
        members: Which of them is each agent's, int64 [N].
    """

    own: Tensor
    members: Tensor

    def fold(self, data: Tensor | int) -> "Keys":
        """Derive keys for something else.

        Args:
            data: See `draws.fold`.

        Returns:
            Keys.
        """
        return Keys(draws.fold(self.own, data), self.members)

    def spread(self, drawn: Tensor) -> Tensor:
        """Give each agent what its key has drawn.

        Args:
            drawn: [G, ...].

        Returns:
            [N, ...].
        """
        return drawn.expand(len(self.members), *drawn.shape[1:]) if len(drawn) == 1 else drawn[self.members]


class MeZO(Optimizer):
    r"""Step by the derivative along a random direction, which two evaluations of the loss tell.

    $$
    c_t = \frac{f(x_t + ε z_t) - f(x_t - ε z_t)}{2}, \qquad x_{t+1} = (1 - μ λ) x_t - μ \frac{c_t}{ε} z_t,
    \qquad z_t ∼ N(0, I)
    $$

    One number c a step serves all layers. As ε → 0 the estimate ĝ = (c/ε) z has the mean g and E‖ĝ‖² = (d + 2) ‖g‖²
    over d parameters. Nothing is kept between steps: z is drawn again from its key whenever it is needed, a piece at a
    time. Both evaluations are of the same batch, in inference mode, so that no activations are kept. The parameters
    move in place, and come back bit by bit from a copy, whose room stays allocated on the CPU; going back by
    subtraction would let them drift, by 0.05 (rms) in a thousand steps of bfloat16.

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
    rules: ClassVar[Mapping[str, Rule]] = {
        "lr": RATE,
        "eps": ABOVE_0,
        "weight_decay": AT_LEAST_0,
        "maximize": FLAG,
        "shared": FLAG,
        "seed": WHOLE,
    }

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
        self.agents = agents
        self.keys = keys
        self.coefficients: Tensor | None = None
        self._keys: dict[tuple[Any, ...], Keys] = {}
        self._kept: list[Tensor] = []
        defaults = {
            "lr": lr, "eps": eps, "weight_decay": weight_decay, "maximize": maximize, "shared": shared, "seed": seed,
            "step": 0,
        }  # fmt: skip
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own.

        Args:
            param_group: `params`, and the settings that differ.

        Raises:
            ValueError: A setting is out of its range, or a parameter cannot be stepped.
        """
        param_group = checked_parameters(param_group, self.agents)
        check_settings({**self.defaults, **param_group}, self.rules)
        super().add_param_group(param_group)

    @property
    def in_common(self) -> bool:
        """Whether all agents step along the same directions."""
        return all(group["shared"] for group in self.param_groups)

    def _set_defaults(self, **settings: Any) -> None:
        """Give the groups settings of a kind of MeZO, where they have none of their own."""
        check_settings(settings, self.rules)
        self.defaults.update(settings)
        for group in self.param_groups:
            group.update({**settings, **group})

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("agents", "keys", "coefficients", "_keys")}
        return {**super().__getstate__(), **own, "_kept": []}

    @torch.no_grad()
    def prepare(self, closure: Callable[[], Tensor]) -> Tensor:
        """Find the coefficients of the next step, and leave the parameters as they are.

        Args:
            closure: Evaluates the loss, or the losses [N] of stacked agents, and nothing else: both times of the same
                batch, and without dropout or with the same masks, or their difference tells of the masks.

        Returns:
            The mean of both evaluations, f(x) to second order in ε.

        Raises:
            ValueError: The closure returns something else than a loss an agent.
        """
        moved: list[Tensor] = [p for group in self.param_groups for p in _stepped(group)]
        kept = self._room(moved)
        if not moved:  # everything is frozen
            self.coefficients = torch.zeros(self.agents or 1, 1)
            return self._losses(closure)
        torch._foreach_copy_(kept, moved)
        try:
            for group, keys in self._keyed_groups():
                self._explore(group, keys)
            above = self._losses(closure)
            # x − (p − x): as far to the other side as rounding has let it go to this one.
            torch._foreach_lerp_(moved, kept, 2)
            below = self._losses(closure)
        finally:
            torch._foreach_copy_(moved, kept)
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
                    p.mul_(1 - rate_of(group) * group["weight_decay"])
            for first in _stepped(group)[:1]:
                slopes = self.coefficients.to(first.device) / group["eps"]
                self._follow(group, keys, slopes.to(_precise(first)))
            group["step"] += 1
        self.coefficients = None
        return loss

    def _room(self, moved: list[Tensor]) -> list[Tensor]:
        """Give room for a copy; on the CPU it stays, as new memory takes longer than all that a step does with it."""
        kept = self._kept
        if [(x.shape, x.dtype, x.device) for x in kept] != [(p.shape, p.dtype, p.device) for p in moved]:
            with torch.inference_mode(False):  # it outlives this step
                kept = [torch.empty_like(p) for p in moved]
            self._kept = kept if all(p.is_cpu for p in moved) else []
        return kept

    def _losses(self, closure: Callable[[], Any]) -> Tensor:
        """Evaluate; the difference of two losses has few digits, of which none are to be lost."""
        with torch.inference_mode():
            found = closure()
        if found is None:
            raise ValueError(f"{type(self).__name__}: the closure must return the loss, got None")
        losses = found if isinstance(found, Tensor) else torch.tensor(found, dtype=torch.float64)
        if losses.numel() != (self.agents or 1) or (self.agents and losses.ndim != 1):
            wanted = f"losses of shape ({self.agents},), one an agent" if self.agents else "a single loss"
            raise ValueError(f"{type(self).__name__}: the closure must return {wanted}, got {tuple(losses.shape)}")
        return losses.to(torch.promote_types(losses.dtype, torch.float32))

    def _keyed_groups(self) -> Iterator[tuple[dict[str, Any], Keys]]:
        """Go through the groups that are trained, each with its keys."""
        for place, group in enumerate(self.param_groups):
            for p in _stepped(group)[:1]:
                which = (group["shared"], p.device, group["seed"], place)
                if which not in self._keys:
                    keys = seeded_keys(group["seed"], self.agents) if self.keys is None else self.keys
                    own, members = torch.unique(keys[:, int(group["shared"])].to(p.device), return_inverse=True)
                    self._keys[which] = Keys(own, members).fold(place)
                yield group, self._keys[which]

    def _explore(self, group: dict[str, Any], keys: Keys) -> None:
        """Move the parameters of a group by ε z."""
        self._add(group, keys, group["eps"])

    def _follow(self, group: dict[str, Any], keys: Keys, slopes: Tensor) -> None:
        """Step along the estimate ĝ that belongs to the slopes c/ε, [N, 1]."""
        self._add(group, keys, slopes * _rate(group))

    def _add(self, group: dict[str, Any], keys: Keys, factor: Tensor | float) -> None:
        """Add the direction times a factor, which may be one an agent, [N, 1]."""
        layers = _stepped(group)
        flat = [_matrix(p, self.agents).flatten(1) for p in layers]
        for place, numbers, z in self._directions(group, keys):
            flat[place][:, numbers] += z * factor
        for p, x in zip(layers, flat, strict=True):
            _put_back(p, x)

    def _directions(self, group: dict[str, Any], keys: Keys) -> Iterator[Block]:
        """Draw this step's direction z, in blocks."""
        layers = _stepped(group)
        sizes = [_matrix(p, self.agents)[0].numel() for p in layers]
        rows = ceil(sum(sizes) / _ROW)
        length = max(1, _PIECE // (len(keys.members) * _ROW))
        own = draws.fold(keys.own, group["step"])[:, None]
        for first in range(0, rows, length):
            row_keys = draws.fold(own, torch.arange(first, min(first + length, rows), device=own.device))
            z = keys.spread(draws.normal(row_keys, (_ROW,), dtype=_precise(layers[0])).flatten(1))
            start, offset = first * _ROW, 0
            for place, size in enumerate(sizes):
                low, high = max(start, offset), min(start + z.shape[1], offset + size)
                if low < high:
                    yield place, slice(low - offset, high - offset), z[:, low - start : high - start]
                offset += size


def _rate(group: dict[str, Any]) -> float:
    """Give what a step multiplies the estimate with."""
    return rate_of(group) if group["maximize"] else -rate_of(group)


def _put_back(p: Tensor, x: Tensor) -> None:
    """Write to a parameter what has its memory already, but in a memory format in which it is no matrix."""
    if x.data_ptr() != p.data_ptr():
        p.copy_(x.view(p.shape))


def _stepped(group: dict[str, Any]) -> list[nn.Parameter]:
    """Give the parameters of a group that are trained."""
    return [p for p in group["params"] if _is_stepped(p)]


def _is_stepped(p: Tensor) -> bool:
    return p.requires_grad and p.numel() > 0


def _matrix(p: Tensor, agents: int | None) -> Tensor:
    """See a parameter as matrices [N, m, n], m being its first axis: a vector is a column."""
    stacked = p if agents else p.unsqueeze(0)
    return stacked.reshape(len(stacked), stacked.shape[1] if stacked.ndim > 1 else 1, -1)


def _precise(p: Tensor) -> torch.dtype:
    """Choose the type in which directions are made: float32 for a shorter one."""
    return torch.promote_types(p.dtype, torch.float32)
