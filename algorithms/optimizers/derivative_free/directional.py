"""Base class of optimizers that step along a random direction, from two evaluations of the loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from basinet.algorithms import draws
from basinet.algorithms.optimizers.groups import ABOVE_0, AT_LEAST_0, FLAG, RATE, WHOLE, Rule, StackedOptimizer, rate_of
from basinet.algorithms.optimizers.optimizer_traits import OptimizerTraits

__all__ = ["PIECE", "DirectionalOptimizer", "Keys"]

PIECE = 2**16
"""About how many entries of a direction are made at a time: it is never held as a whole."""


class Keys(NamedTuple):
    """Keys of a group's directions: agents with the same key share a direction, which is drawn once.

    Attributes:
        own: Distinct keys, int64 [G].
        members: Index of each agent's key, int64 [N].
    """

    own: Tensor
    members: Tensor

    def fold(self, data: Tensor | int) -> "Keys":
        """Fold data into the keys.

        Args:
            data: See `draws.fold`.

        Returns:
            New keys.
        """
        return Keys(draws.fold(self.own, data), self.members)

    def spread(self, drawn: Tensor) -> Tensor:
        """Expand what the keys have drawn to their agents.

        Args:
            drawn: [G, ...].

        Returns:
            [N, ...].
        """
        return drawn.expand(len(self.members), *drawn.shape[1:]) if len(drawn) == 1 else drawn[self.members]


class DirectionalOptimizer(StackedOptimizer, ABC):
    """Step by the derivative along a random direction, c = (f(x + ε z) − f(x − ε z)) / 2, which a subclass draws.

    Both evaluations use the same batch, in inference mode, so that no activations are kept. The parameters move in
    place and are restored bit for bit from a copy, whose memory stays allocated on the CPU; undoing the moves by
    subtraction would let them drift, by 0.05 (rms) in a thousand steps of bfloat16.

    Args:
        params: Parameters, or groups of them; those that require no gradient stay as they are.
        lr: Learning rate μ.
        eps: Radius ε of the difference.
        weight_decay: Decoupled weight decay λ.
        maximize: Whether to step uphill.
        seed: Seed of the directions on a plain model.
        shared: Whether all agents draw the same directions. Their coefficients can then be averaged instead of
            gradients, so that a single number is sent.
        agents: Number of agents on the leading axis of each parameter; None for a plain model.
        keys: The agents' keys for the draws, int64 [N, 2], instead of the seed: the agent's own, and one shared by its
            replica.

    Attributes:
        coefficients: c of the prepared step, [N, 1]; None before.

    Raises:
        ValueError: A setting is out of its range.
    """

    traits = OptimizerTraits(stacked="layers", keyed=True, evaluates=True, derivative_free=True)
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
        *,
        agents: int | None,
        keys: Tensor | None,
        **settings: Any,
    ) -> None:
        self.coefficients: Tensor | None = None
        self._keys: dict[tuple[Any, ...], Keys] = {}
        self._kept: list[Tensor] = []
        super().__init__(params, {**settings, "step": 0}, agents=agents, keys=keys)

    def __getstate__(self) -> dict[str, Any]:
        own: dict[str, Any] = {"coefficients": self.coefficients, "_keys": self._keys, "_kept": []}
        return {**super().__getstate__(), **own}

    @property
    def in_common(self) -> bool:
        """Whether all agents step along the same directions."""
        return all(group["shared"] for group in self.param_groups)

    @abstractmethod
    def _explore(self, group: dict[str, Any], keys: Keys) -> None:
        """Move the parameters of a group by ε z."""

    @abstractmethod
    def _follow(self, group: dict[str, Any], keys: Keys, slopes: Tensor) -> None:
        """Step along the estimate ĝ that belongs to the slopes c/ε, [N, 1]."""

    @torch.no_grad()
    def prepare(self, closure: Callable[[], Tensor]) -> Tensor:
        """Compute the coefficients of the next step, and leave the parameters as they are.

        Args:
            closure: Evaluates the loss, or the losses [N] of stacked agents, and nothing else: both times on the same
                batch and with the same dropout masks, which the difference would otherwise measure.

        Returns:
            The mean of both evaluations, f(x) to second order in ε.

        Raises:
            ValueError: The closure does not return one loss per agent.
        """
        moved: list[Tensor] = [p for group in self.param_groups for p in self._stepped(group)]
        kept = self._room(moved)
        if not moved:  # everything is frozen
            self.coefficients = torch.zeros(self.agents or 1, 1)
            return self._losses(closure)
        torch._foreach_copy_(kept, moved)
        try:
            for group, keys in self._keyed_groups():
                self._explore(group, keys)
            above = self._losses(closure)
            # x − (p − x): exactly as far to the other side as rounding let it go to this one.
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
            closure: See `prepare`; without it, the prepared step is taken.

        Returns:
            The result of `prepare`, if a closure is given.

        Raises:
            RuntimeError: There is neither a closure nor a prepared step.
        """
        loss = None if closure is None else self.prepare(closure)
        if self.coefficients is None:
            raise RuntimeError(f"{type(self).__name__} evaluates by itself: its step needs a closure")
        for group, keys in self._keyed_groups():
            if group["weight_decay"]:
                for p in self._stepped(group):
                    p.mul_(1 - rate_of(group) * group["weight_decay"])
            for first in self._stepped(group)[:1]:
                slopes = self.coefficients.to(first.device) / group["eps"]
                self._follow(group, keys, slopes.to(self._precise(first)))
            group["step"] += 1
        self.coefficients = None
        return loss

    def _room(self, moved: list[Tensor]) -> list[Tensor]:
        """Return memory for a copy; on the CPU it is kept, as allocating it would take longer than the step."""
        kept = self._kept
        if [(x.shape, x.dtype, x.device) for x in kept] != [(p.shape, p.dtype, p.device) for p in moved]:
            with torch.inference_mode(False):  # it outlives this step
                kept = [torch.empty_like(p) for p in moved]
            self._kept = kept if all(p.is_cpu for p in moved) else []
        return kept

    def _losses(self, closure: Callable[[], Any]) -> Tensor:
        """Evaluate in at least single precision, since the difference of two losses has few digits."""
        with torch.inference_mode():
            found = closure()
        if found is None:
            raise ValueError(f"{type(self).__name__}: the closure must return the loss, got None")
        losses = found if isinstance(found, Tensor) else torch.tensor(found, dtype=torch.float64)
        if losses.numel() != (self.agents or 1) or (self.agents and losses.ndim != 1):
            wanted = f"losses of shape ({self.agents},), one per agent" if self.agents else "a single loss"
            raise ValueError(f"{type(self).__name__}: the closure must return {wanted}, got {tuple(losses.shape)}")
        return losses.to(torch.promote_types(losses.dtype, torch.float32))

    def _keyed_groups(self) -> Iterator[tuple[dict[str, Any], Keys]]:
        """Iterate over the groups that are trained, each with its keys."""
        for place, group in enumerate(self.param_groups):
            for p in self._stepped(group)[:1]:
                which = (group["shared"], p.device, group["seed"], place)
                if which not in self._keys:
                    own, members = torch.unique(self._keys_of(group, p.device), return_inverse=True)
                    self._keys[which] = Keys(own, members).fold(place)
                yield group, self._keys[which]

    def _rate(self, group: dict[str, Any]) -> float:
        """Return the factor on the estimate in a step."""
        return rate_of(group) if group["maximize"] else -rate_of(group)

    def _stepped(self, group: dict[str, Any]) -> list[nn.Parameter]:
        """Return the parameters of a group that are trained."""
        return [p for p in group["params"] if p.requires_grad and p.numel() > 0]

    def _matrix(self, p: Tensor) -> Tensor:
        """View a parameter as matrices [N, m, n] with m its first axis: a vector is a column."""
        stacked = p if self.agents else p.unsqueeze(0)
        return stacked.reshape(len(stacked), stacked.shape[1] if stacked.ndim > 1 else 1, -1)

    def _put_back(self, p: Tensor, x: Tensor) -> None:
        """Write back to a parameter whose memory format cannot be viewed as a matrix."""
        if x.data_ptr() != p.data_ptr():
            p.copy_(x.view(p.shape))

    def _precise(self, p: Tensor) -> torch.dtype:
        """Return the type in which directions are made: float32 for shorter ones."""
        return torch.promote_types(p.dtype, torch.float32)
