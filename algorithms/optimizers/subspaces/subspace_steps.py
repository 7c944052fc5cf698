"""Optimizers whose state lives in subspaces of the matrices, which are chosen anew periodically."""

import fnmatch
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from basinet.algorithms import draws
from basinet.algorithms.optimizers.groups import (
    ABOVE_0,
    AT_LEAST_0,
    BELOW_1,
    COUNT,
    FLAG,
    RATE,
    WHOLE,
    Rule,
    StackedOptimizer,
    named_parameters,
    rate_of,
)
from basinet.algorithms.optimizers.local import restore_types
from basinet.algorithms.optimizers.optimizer_traits import OptimizerTraits
from basinet.algorithms.optimizers.subspaces.bases import base_direction
from basinet.algorithms.optimizers.subspaces.projection import LowRank, Sparse, Subspace, as_matrices, as_stack

__all__ = ["SubspaceOptimizer"]

_KINDS: dict[str, type[Subspace]] = {"low_rank": LowRank, "sparse": Sparse}

_RULES: dict[str, Rule] = {
    "lr": RATE,
    "rank": (lambda value: value is None or COUNT[0](value), f"{COUNT[1]}, or None"),
    "period": COUNT,
    "scale": ABOVE_0,
    "momentum": BELOW_1,
    "base": (lambda value: value in ("sgd", "adamw"), "sgd or adamw"),
    "betas": (lambda value: len(value) == 2 and all(map(BELOW_1[0], value)), "two numbers in [0, 1)"),
    "eps": AT_LEAST_0,
    "weight_decay": AT_LEAST_0,
    "maximize": FLAG,
    "subspace": (lambda value: value in _KINDS, " or ".join(_KINDS)),
    "random_from": (
        lambda value: value is None or (WHOLE[0](value) and value >= 0),
        "a whole number of at least 0, or None",
    ),
    "refresh_batch": (lambda value: value is None or COUNT[0](value), f"{COUNT[1]}, or None"),
    "whole": (
        lambda value: isinstance(value, tuple | list) and all(isinstance(name, str) for name in value),
        "a list of names",
    ),
    "shared": FLAG,
    "seed": WHOLE,
}


class SubspaceOptimizer(StackedOptimizer):
    r"""Step inside a subspace of each matrix, which changes every τ steps.

    $$
    R_t = P_t^⊤ G_t, \qquad N_t = \mathrm{base}(R_t), \qquad X_{t+1} = X_t - μ α P_t N_t
    $$

    P [s, r] is orthonormal, on the short side of the matrix. When it changes, the base's momentum is projected from the
    old subspace to the new one, M ← P_newᵀ P_old M; second moments stay as they are. A random subspace keeps only r / s
    of the momentum's energy, so that most of it is lost.

    Parameters with fewer than two axes, and matrices whose short side is at most the rank, get the base optimizer
    itself, without the scale α; convolutions are matrices [outputs, the rest]. An embedding is better left out, too: by
    its name, or by a group with rank None. Besides the parameters, a matrix s × l takes s·r numbers for the projection
    (r·l positions if it is sparse), r·l for a momentum, 2·r·l for AdamW.

    Args:
        params: Parameters, with or without names, or groups of them.
        lr: Learning rate μ.
        rank: r, or None for no subspace.
        period: τ, steps between choices of the subspaces.
        scale: α. A random subspace keeps r / s of a gradient on average, which s / r compensates.
        momentum: β of SGD, as torch has it: M ← β M + R. (The papers write M ← β M + (1 − β) R, with a learning rate
            that is 1 / (1 − β) times as large.)
        base: "sgd" or "adamw", as torch defines them.
        betas: β₁ and β₂ of AdamW.
        eps: ε of AdamW.
        weight_decay: λ: added to the gradient as λ X before the projection by SGD, decoupled in AdamW.
        maximize: Whether to step uphill.
        subspace: "low_rank", or "sparse": as many entries as rank r has coordinates, r·l, of largest magnitude or at
            random, instead of P Pᵀ.
        random_from: The step from which subspaces are drawn at random; GoLore@x% of T steps is (1 − x) T. By default
            never (GaLore) or from the start (GoLore).
        refresh_batch: Number of samples of a gradient that chooses subspaces; None for the usual batch. In a simulation
            this is done; elsewhere `next_batch_size` is for the loop that makes the batches.
        whole: Names of parameters that get the base optimizer itself, with * as wildcard; parameters then need names,
            as from `named_parameters`.
        shared: Whether all agents draw the same subspaces.
        seed: Seed of the draws on a plain model: processes with the same seed draw the same subspaces.
        agents: Number of agents on the leading axis of each parameter; None for a plain model.
        keys: The agents' keys for random draws, int64 [N, 2]: an agent's own, and one shared by its replica; instead of
            the seed.

    Raises:
        ValueError: A setting is out of its range.
    """

    traits = OptimizerTraits(stacked="layers", keyed=True, named=True, fixed_state=frozenset({"basis"}))
    rules = _RULES
    always_random: ClassVar[bool] = False

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 0.01,
        rank: int | None = 4,
        period: int = 200,
        scale: float = 1.0,
        momentum: float = 0.0,
        base: Literal["sgd", "adamw"] = "sgd",
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        maximize: bool = False,
        subspace: Literal["low_rank", "sparse"] = "low_rank",
        random_from: int | None = None,
        refresh_batch: int | None = None,
        whole: tuple[str, ...] = (),
        shared: bool = False,
        seed: int = 0,
        agents: int | None = None,
        keys: Tensor | None = None,
    ) -> None:
        self._whole: set[Tensor] = set()
        defaults = {
            "lr": lr, "rank": rank, "period": period, "scale": scale, "momentum": momentum, "base": base,
            "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize, "subspace": subspace,
            "random_from": 0 if random_from is None and self.always_random else random_from,
            "refresh_batch": refresh_batch, "whole": whole, "shared": shared, "seed": seed,
        }  # fmt: skip
        super().__init__(params, defaults, agents=agents, keys=keys)
        self._check_whole([group for group in self.param_groups if group["whole"] == whole], whole)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_whole": self._whole}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own.

        Args:
            param_group: `params`, and the settings that differ.

        Raises:
            ValueError: A setting is out of its range, or a parameter cannot be stepped.
        """
        super().add_param_group(param_group)
        if "whole" in param_group:
            self._check_whole(self.param_groups[-1:], param_group["whole"])
        self._find_whole()

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        if group["base"] == "adamw" and group["momentum"]:
            raise ValueError(
                f"momentum is for base sgd; adamw has betas[0] in its place, got momentum={group['momentum']}"
            )
        if group["shared"] and group["random_from"] is None:
            raise ValueError("shared is for random subspaces, and GaLore's never are without random_from")
        if group["refresh_batch"] is not None and group["random_from"] == 0:
            raise ValueError(
                "refresh_batch is for subspaces that follow the gradient, and these are random from the start; got"
                f" {group['refresh_batch']}"
            )
        if group["whole"]:
            named_parameters(group["params"], ())  # have names

    def _check_whole(self, groups: list[dict[str, Any]], patterns: tuple[str, ...]) -> None:
        """Raise if a pattern fits no parameter of some groups."""
        names = [name for group in groups if patterns for name in group["param_names"]]
        for pattern in patterns if names else ():
            if not fnmatch.filter(names, pattern):
                raise ValueError(f"whole: no parameter fits '{pattern}'; there are {', '.join(names)}")

    def _find_whole(self) -> None:
        """Find the parameters that have no subspace by their names."""
        self._whole = set()
        for group in self.param_groups:
            if group["whole"]:
                names = zip(group["param_names"], group["params"], strict=True)
                self._whole |= set().union(*named_parameters(names, group["whole"]).values())

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step.

        Args:
            closure: Computes the gradients again and returns the loss.

        Returns:
            The loss, if a closure is given.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for place, (p, group) in enumerate(self._members()):
            if p.requires_grad and p.grad is not None:
                self._step(place, p, group, p.grad)
        return loss

    def step_in_backward(self) -> list[RemovableHandle]:
        """Step each parameter as soon as its gradient is available, then free the gradient; `step` is not called.

        At most one layer's gradient is held at a time. There is one backward pass per step: gradients are not
        accumulated, clipped or scaled.

        Returns:
            Handles whose `remove` undoes it.
        """
        handles: list[RemovableHandle] = []
        members = [(number, p) for number, group in enumerate(self.param_groups) for p in group["params"]]
        for place, (number, p) in enumerate(members):
            if p.requires_grad:
                hook = partial(self._step_and_free, place, number)
                handles.append(p.register_post_accumulate_grad_hook(hook))
        return handles

    @torch.no_grad()
    def _step_and_free(self, place: int, group: int, p: Tensor) -> None:
        assert p.grad is not None
        self._step(place, p, self.param_groups[group], p.grad)
        p.grad = None

    @property
    def refresh_due(self) -> bool:
        """Whether the next step chooses subspaces anew."""
        return any(self._steps(p) % group["period"] == 0 for _, p, group, _ in self._in_subspaces())

    @property
    def next_batch_size(self) -> int | None:
        """Number of samples of the next gradient; None for the usual batch."""
        if all(group["refresh_batch"] is None for group in self.param_groups):
            return None
        wanted = [
            group["refresh_batch"] or 0
            for _, p, group, _ in self._in_subspaces()
            if self._steps(p) % group["period"] == 0 and not self._is_random(p, group)
        ]
        return max(wanted, default=0) or None

    @property
    def in_common(self) -> bool:
        """Whether all agents are in the same subspaces at all times."""
        return all(group["shared"] and group["random_from"] == 0 for group in self.param_groups)

    @torch.no_grad()
    def refresh(self) -> None:
        """Draw the random subspaces that are due, ahead of the step that uses them."""
        for place, p, group, subspace in self._in_subspaces():
            if self._is_random(p, group):
                self._refresh(subspace, place, p, group, p)

    @torch.no_grad()
    def project(self, tensors: Iterable[Tensor]) -> Tensor:
        """Compute the coordinates of tensors like the parameters in the present subspaces.

        Args:
            tensors: One a parameter, in order; gradients or parameters.

        Returns:
            [N, Q]: r·l numbers per matrix, and all entries of parameters without a subspace.
        """
        parts = []
        for (p, group), tensor in zip(self._members(), tensors, strict=True):
            stack = self._stack(tensor)
            subspace = self._subspace(p, group)
            part = subspace.project(as_matrices(stack), self.state[p]["basis"]) if subspace else stack
            parts.append(part.flatten(1))
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def lift(self, coordinates: Tensor) -> list[Tensor]:
        """Compute the tensors with given coordinates in the current subspaces: P Pᵀ x for those of x.

        Args:
            coordinates: [N, Q], as `project` returns them.

        Returns:
            Tensors like the parameters, in order.
        """
        tensors, start = [], 0
        for p, group in self._members():
            subspace, stack = self._subspace(p, group), self._stack(p)
            short, long = as_matrices(stack).shape[1:] if subspace else (1, stack[0].numel())
            size = subspace.rank * long if subspace else long
            part = coordinates[:, start : start + size]
            start += size
            if subspace:
                part = as_stack(subspace.lift(part, self.state[p]["basis"], (short, long)), stack)
            tensors.append(part.reshape(p.shape))
        return tensors

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state, in the types of the parameters.

        Args:
            state_dict: What `state_dict` returned.
        """
        super().load_state_dict(state_dict)
        restore_types(self, state_dict, floating=False)
        self._find_whole()

    def _members(self) -> Iterable[tuple[nn.Parameter, dict[str, Any]]]:
        return ((p, group) for group in self.param_groups for p in group["params"])

    def _in_subspaces(self) -> list[tuple[int, nn.Parameter, dict[str, Any], Subspace]]:
        """Collect the parameters that are stepped in subspaces, with their indices."""
        # Once some of a group have been stepped, those that have not are unused by the model.
        found = []
        used = {id(group): any(self._steps(p) for p in group["params"]) for group in self.param_groups}
        for place, (p, group) in enumerate(self._members()):
            subspace = self._subspace(p, group)
            if subspace and (self._steps(p) or not used[id(group)]):
                found.append((place, p, group, subspace))
        return found

    def _steps(self, p: Tensor) -> int:
        steps: int = self.state.get(p, {}).get("step", 0)
        return steps

    def _stack(self, tensor: Tensor) -> Tensor:
        """Add the leading axis of a single agent to a plain model's tensor."""
        return tensor if self.agents else tensor.unsqueeze(0)

    def _subspace(self, p: Tensor, group: dict[str, Any]) -> Subspace | None:
        """Return the kind of subspace in which a parameter is stepped, or None."""
        rank, shape = group["rank"], p.shape[1:] if self.agents else p.shape
        if (
            rank is None
            or p in self._whole
            or not p.requires_grad
            or len(shape) < 2
            or rank >= min(shape[0], math.prod(shape[1:]))
        ):
            return None
        return _KINDS[group["subspace"]](rank)

    def _is_random(self, p: Tensor, group: dict[str, Any]) -> bool:
        return group["random_from"] is not None and self._steps(p) >= group["random_from"]

    def _refresh(self, subspace: Subspace, place: int, p: Tensor, group: dict[str, Any], gradient: Tensor) -> None:
        """Choose the subspaces of a parameter if that is due, and carry its momentum over."""
        state, matrices = self.state[p], as_matrices(self._stack(gradient))
        step, old = state.setdefault("step", 0), state.get("basis")
        if step % group["period"] or state.get("refreshed") == step:
            return
        short, long = matrices.shape[1:]
        if self._is_random(p, group):
            keys = draws.fold(draws.fold(self._keys_of(group, p.device), place), step)
            basis = subspace.draw(keys, (short, long), p.dtype)
        else:
            if group["weight_decay"] and group["base"] == "sgd":
                matrices = matrices.add(as_matrices(self._stack(p)), alpha=_sign(group) * group["weight_decay"])
            basis = subspace.follow(matrices)
        if old is not None and "momentum" in state:
            state["momentum"] = subspace.carry(state["momentum"], old, basis, (short, long))
        state["basis"], state["refreshed"] = basis, step

    def _step(self, place: int, p: Tensor, group: dict[str, Any], gradient: Tensor) -> None:
        """Step one parameter: X ← X − μ α P base(Pᵀ G)."""
        if gradient.is_sparse:
            raise RuntimeError(f"{type(self).__name__} needs dense gradients, and parameter {place} has a sparse one")
        state, decay, sign = self.state[p], group["weight_decay"], _sign(group)
        if decay and group["base"] == "adamw":
            p.mul_(1 - rate_of(group) * decay)
            decay = 0.0
        subspace = self._subspace(p, group)
        if subspace is None:
            gradient = gradient if sign > 0 else -gradient
            gradient = gradient.add(p, alpha=decay) if decay else gradient
            p.add_(base_direction(state, gradient, group), alpha=-rate_of(group))
            return
        self._refresh(subspace, place, p, group, gradient)
        # The projection is linear and comes first, so that nothing else is as large as the parameters.
        matrices, gradients, basis = as_matrices(self._stack(p)), as_matrices(self._stack(gradient)), state["basis"]
        projected = subspace.project(gradients, basis).mul_(sign)
        if decay:
            projected.add_(subspace.project(matrices, basis), alpha=decay)
        subspace.add_lifted(matrices, base_direction(state, projected, group), basis, -rate_of(group) * group["scale"])
        if matrices.data_ptr() != p.data_ptr():  # p has a memory format in which it is no matrix
            p.copy_(as_stack(matrices, self._stack(p)).view(p.shape))


def _sign(group: dict[str, Any]) -> float:
    return -1.0 if group["maximize"] else 1.0
