"""One optimizer per agent, executed for all agents of a block at once where that is equivalent."""

import copy
from collections.abc import Callable, Sequence
from itertools import accumulate, product
from typing import Any

import torch
from torch import Tensor, nn, optim

from basinet.algorithms.optimizers.optimizer_traits import OPTIMIZERS, OptimizerTraits
from basinet.algorithms.optimizers.parameter_groups import Columns, ParameterGroup, join
from basinet.algorithms.optimizers.torch_optimizers import FUSED, TORCH, stepping

__all__ = ["LocalOptimizer", "restore_types"]


class LocalOptimizer:
    """The agents' optimizers: x_k ← adapt(x_k, g_k), each agent with its own state.

    Each agent has its own optimizer state (momentum, second moments).

    - an elementwise class, such as most of torch's, is instantiated once, over the flat state [N, P];
    - a stacked class is instantiated once, too, as its `OptimizerTraits` declare;
    - any other class is instantiated once per agent, on that agent's own parameters.

    Args:
        factory: Makes an optimizer from an iterable of parameters, and settings as keywords that it may override; `lr`
            of its groups is the base rate.
        kind: The optimizer's class.
        x: The agents' parameters [N, P]; stepped in place.
        split: Splits [N, P] into layers, views [N, *shape].
        keys: Keys for random draws, int64 [N, 2]: an agent's own, and one shared by its replica.
        names: Names of the layers.
        groups: Groups of layers, of which `factory` then gets the settings as `group`; none for a single group.

    Attributes:
        split: Splits [N, P] into the views that the optimizers step, in order.
        optimizers: The optimizers, one in all or one per agent.

    Raises:
        TypeError: The traits of the class are wrong.
    """

    def __init__(
        self,
        factory: Callable[..., optim.Optimizer],
        kind: type[optim.Optimizer],
        x: Tensor,
        split: Callable[[Tensor], Sequence[Tensor]],
        keys: Tensor | None = None,
        names: Sequence[str] | None = None,
        groups: Sequence[ParameterGroup] = (),
    ) -> None:
        traits = self._traits = OptimizerTraits.of(kind)
        self._x = x
        self._built_in = kind in TORCH or kind in OPTIMIZERS.values()
        self._one_each = not traits.elementwise and traits.stacked is None
        self._reassigns = not (self._built_in or traits.evaluates)
        self._columns: Columns | None = None
        self._room: list[Tensor] | None = None
        order = [layer for _, layers in groups for layer in layers]

        def ordered(flat: Tensor) -> Sequence[Tensor]:
            views = split(flat)
            return [views[layer] for layer in order] if groups else views

        sizes = [len(layers) for _, layers in groups]
        if traits.elementwise or traits.stacked == "flat":
            if groups:
                self._columns = Columns([layers for _, layers in groups], [view[0].numel() for view in split(x)])
                sizes = [1 for _ in groups]
            self.split: Callable[[Tensor], Sequence[Tensor]] = (
                self._columns.gather if self._columns is not None else lambda flat: [flat]
            )
        elif not self._one_each:
            self.split = ordered
        else:
            # Agent by agent: all layers of the first, then all layers of the second, …
            self.split = lambda flat: [layer[n] for n, layer in product(range(len(flat)), ordered(flat))]
        self._parameters = [nn.Parameter(view.detach()) for view in self.split(x)]
        more: dict[str, Any] = {"fused": True} if kind in FUSED else {}
        if traits.stacked is not None:
            more["agents"] = len(x)
        if traits.keyed:
            more["keys"] = keys
        members: list[Any] = self._parameters
        if traits.named and names is not None:
            members = list(zip([names[layer] for layer in order] or names, members, strict=True))

        def made(members: list[Any]) -> optim.Optimizer:
            if not groups:
                return factory(members, **more)
            ends = list(accumulate(sizes))
            parts = [members[end - size : end] for size, end in zip(sizes, ends, strict=True)]
            return join([factory(part, group=own, **more) for part, (own, _) in zip(parts, groups, strict=True)])

        count = len(members) // (len(x) if self._one_each else 1)
        self.optimizers = [made(members[first : first + count]) for first in range(0, len(members), count)]
        self._step = stepping(self.optimizers[0])
        self._rates = [[group["lr"] for group in o.param_groups] for o in self.optimizers]

    @property
    def evaluates(self) -> bool:
        """Whether it evaluates by itself, in `prepare`."""
        return self._traits.evaluates

    @property
    def derivative_free(self) -> bool:
        """Whether it needs no gradients."""
        return self._traits.derivative_free

    @property
    def keeps_gradients(self) -> bool:
        """Whether a step is known to leave the gradients unchanged."""
        return self._built_in

    @property
    def in_common(self) -> bool:
        """Whether all agents step along the same directions."""
        return bool(getattr(self.optimizers[0], "in_common", not self.derivative_free))

    @property
    def next_batch_size(self) -> int | None:
        """Number of samples of an agent's next gradient; None for the usual batch."""
        wanted: int | None = None if self._one_each else getattr(self.optimizers[0], "next_batch_size", None)
        return wanted

    def _point(self, gradients: Tensor) -> None:
        """Point the parameters at x, and their gradients at the given ones."""
        if self._columns is not None and self._built_in:  # allocating the copies anew would take longer than the step
            self._columns.gather(self._x, [parameter.data for parameter in self._parameters])
            self._room = None if self.derivative_free else self._columns.gather(gradients, self._room)
        else:
            for parameter, place in zip(self._parameters, self.split(self._x), strict=True):
                parameter.data = place.clone() if self._reassigns else place.detach()
        if not self._built_in:
            self._given = [parameter.data_ptr() for parameter in self._parameters]
        if not self.derivative_free:
            for parameter, gradient in zip(self._parameters, self._room or self.split(gradients), strict=True):
                parameter.grad = gradient

    def _take_back(self) -> None:
        """Copy into x the tensors that a user's optimizer has assigned to parameters (`p.data = …`).

        It gets clones until it is known not to do so: a tensor that it keeps must not change behind its back.

        Raises:
            TypeError: If it does so while evaluating, when x has to follow.
        """
        if self._columns is not None:
            self._columns.scatter([parameter.data for parameter in self._parameters], self._x)
            return
        if self._built_in:
            return
        reassigned = False
        for parameter, place, given in zip(self._parameters, self.split(self._x), self._given, strict=True):
            reassigned |= parameter.data_ptr() != given
            if parameter.data_ptr() != place.data_ptr():
                place.copy_(parameter.data)
        if reassigned and self.evaluates:
            raise TypeError("it assigns new tensors to parameters (p.data = …), but has to write into them")
        self._reassigns = reassigned

    def _set_rates(self, factor: float) -> None:
        """Set the groups' learning rates of this step."""
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def prepare(self, evaluate: Callable[[], Tensor], gradients: Tensor, factor: float) -> Tensor:
        """Prepare the step of an optimizer that evaluates by itself.

        Args:
            evaluate: Evaluates x as it is now, and returns the losses [N]; unless the optimizer is derivative-free, it
                writes the gradients.
            gradients: Where it writes them, [N, P].
            factor: The schedule's factor on the learning rate.

        Returns:
            What `step` takes: `gradients`, or the coefficients [N, 1] of a derivative-free optimizer.
        """
        optimizer: Any = self.optimizers[0]

        def closure() -> Tensor:
            self._take_back()
            losses = evaluate()
            self._point(gradients)
            return losses

        self._point(gradients)
        self._set_rates(factor)
        optimizer.prepare(closure)
        self._take_back()
        if self.derivative_free:
            coefficients: Tensor = optimizer.coefficients
            return coefficients
        if self._columns is not None:
            self._columns.scatter([p.grad for p in self._parameters if p.grad is not None], gradients)
            return gradients
        for parameter, gradient in zip(self._parameters, self.split(gradients), strict=True):
            if parameter.grad is not None and parameter.grad is not gradient:
                gradient.copy_(parameter.grad)
        return gradients

    def step(self, gradients: Tensor, factor: float, active: Tensor | None = None) -> None:
        """Step from x with the given gradients.

        Args:
            gradients: [N, P], or what `prepare` returned.
            factor: The schedule's factor on the learning rate.
            active: Which agents step, bool [N]; the others keep their parameters and optimizer state, except for what
                an optimizer counts for all agents together, such as Adam's steps.
        """
        self._point(gradients)
        self._set_rates(factor)
        steppers = [True] * len(self.optimizers)
        if active is not None and self._one_each:
            steppers = active.tolist()
        elif active is not None:
            before, held = self._x.clone(), {place: t.clone() for place, t in self._remembered().items()}
        for optimizer, steps in zip(self.optimizers, steppers, strict=True):
            if self.derivative_free:
                setattr(optimizer, "coefficients", gradients)  # noqa: B010
            if steps:
                self._step(optimizer)
        self._take_back()
        if active is not None and not self._one_each:
            _keep(self._x, before, active)
            for place, now in self._remembered().items():
                if place in held:
                    _keep(now, held[place], active)
                elif place[1] not in self._traits.fixed_state:
                    # New state begins with zeros for inactive agents.
                    _keep(now, torch.zeros_like(now), active)

    def state_dict(self) -> dict[str, Any]:
        """Collect the optimizers' state and the settings of their groups, which some of them change.

        Returns:
            `rows`: nested mappings whose tensors and lists lead with the agents' axis, and `shared`: what is the
            same for all agents.

        Raises:
            TypeError: A stacked optimizer keeps state that neither leads with the agents' axis nor is a number, under a
                name that its traits do not list in `shared_state`.
        """
        saved = [optimizer.state_dict() for optimizer in self.optimizers]
        if self._one_each:
            return {"rows": {"each": saved}, "shared": {}}
        rows: dict[Any, Any] = {}
        shared: dict[Any, Any] = {}
        for place, held in saved[0]["state"].items():
            rows[place], shared[place] = {}, {}
            for name, value in held.items():
                (rows if self._leads_with_agents(place, name, value) else shared)[place][name] = value
        return {"rows": {"together": rows}, "shared": {**saved[0], "state": shared}}

    def rows(self) -> list[Tensor]:
        """Collect the state that leads with the agents' axis, except for what is neither mixed nor reset.

        Returns:
            The optimizer's own tensors [N, ...].

        Raises:
            TypeError: The optimizer is instantiated once per agent, and its state has no such axis.
        """
        if self._one_each:
            raise TypeError("it is instantiated once per agent, so that its state cannot be mixed or reset")
        fixed = self._traits.fixed_state
        return [tensor for (_, name), tensor in self._remembered().items() if name not in fixed]

    def _remembered(self) -> dict[tuple[int, str], Tensor]:
        """Return the state that leads with the agents' axis, by parameter index and name."""
        (optimizer,) = self.optimizers
        return {
            (place, name): value
            for place, parameter in enumerate(self._parameters)
            for name, value in optimizer.state.get(parameter, {}).items()
            if self._leads_with_agents(place, name, value)
        }

    def _leads_with_agents(self, place: int, name: str, value: Any) -> bool:
        if self._traits.elementwise:
            return isinstance(value, Tensor) and value.shape == self._parameters[place].shape
        if name in self._traits.shared_state or value is None or isinstance(value, bool | int | float):
            return False
        if isinstance(value, Tensor) and (value.ndim == 0 or len(value) == len(self._parameters[0])):
            return value.ndim > 0
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"its state '{name}' ({shape}) does not lead with the agents' axis, nor is it in shared_state")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` collected.

        Args:
            state: The state of these agents.
        """
        if self._one_each:
            saved = state["rows"]["each"]
        else:
            together, shared = state["rows"]["together"], state["shared"]
            merged = {place: {**held, **together[place]} for place, held in shared["state"].items()}
            saved = [{**shared, "state": merged}]
        for optimizer, held in zip(self.optimizers, saved, strict=True):
            _restore(optimizer, held)


def _keep(tensor: Tensor, before: Tensor, active: Tensor) -> None:
    """Restore the rows of the inactive agents."""
    torch.where(active.view(-1, *(1 for _ in tensor.shape[1:])), tensor, before, out=tensor)


def _restore(optimizer: optim.Optimizer, saved: dict[str, Any]) -> None:
    optimizer.load_state_dict(copy.deepcopy(saved))  # torch keeps the tensors it is given
    restore_types(optimizer, saved)


def restore_types(optimizer: optim.Optimizer, saved: dict[str, Any], *, floating: bool = True) -> None:
    """Restore the original types of a loaded state, which torch casts to the type of the parameters.

    Args:
        optimizer: It has loaded the state.
        saved: The state.
        floating: Whether floating types are restored, too, as is right if the parameters have their type at the time of
            saving; integers always are.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for place, held in saved["state"].items():
        loaded = optimizer.state[parameters[place] if isinstance(place, int) else place]
        for name, value in held.items():
            if isinstance(value, Tensor) and (floating or not value.is_floating_point()):
                loaded[name] = value.to(loaded[name].device, copy=True)
