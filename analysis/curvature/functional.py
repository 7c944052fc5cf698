"""A model and its loss as functions of parameters and buffers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from basinet.sim.models.modules import FunctionOf
from basinet.sim.tasks.task import Batch

__all__ = ["FunctionalModel", "Loss", "State", "calls_of"]

State = dict[str, Tensor]

Loss = Callable[[nn.Module, Batch], Tensor]
"""Maps a model and a batch to the mean loss over the batch's samples, a scalar tensor."""


Outputs = Callable[[nn.Module, Batch], Any]
"""Applies a model to a batch."""


def calls_of(loss: Loss, model: Callable[..., Any], batch: Batch) -> list[Any]:
    """List what a loss gets from each call of the model, which is all that it may depend on the model through.

    Args:
        loss: The loss.
        model: The model.
        batch: The samples.

    Returns:
        What each call returns.
    """
    found: list[Any] = []

    def call(*args: Any, **kwargs: Any) -> Any:
        found.append(model(*args, **kwargs))
        return found[-1]

    loss(call, batch)  # type: ignore[arg-type]
    return found


class FunctionalModel:
    """A model's loss and outputs as functions of parameters and buffers, however the loss accesses them.

    Args:
        model: The model.
        loss: Maps the model and a batch to a scalar.
        outputs: Applies the model to a batch.
    """

    def __init__(self, model: nn.Module, loss: Loss, outputs: Outputs) -> None:
        self.model = model
        self.as_loss, self.as_outputs = (
            FunctionOf(model, loss),
            FunctionOf(model, outputs),
        )
        self.attributes = {module: _tensors(module) for module in model.modules()}
        self.leaving = set(self.attributes)
        # A tensor is listed once per module that holds it; a module under several names counts once.
        names: dict[int, str] = {}
        self.places: dict[str, list[str]] = {}
        for path, module in model.named_modules():
            for attribute, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is None:
                    continue
                place = f"{path}.{attribute}" if path else attribute
                name = names.setdefault(id(tensor), place)
                self.places.setdefault(name, []).append(place)

    def loss(self, state: State, batch: Batch) -> Tensor:
        """Evaluate the loss.

        Args:
            state: Parameters and buffers by name.
            batch: The samples.

        Returns:
            The mean loss, a scalar.
        """
        value: Tensor = self._call(self.as_loss, state, batch)
        return value

    def outputs(self, state: State, batch: Batch) -> Any:
        """Evaluate the outputs for a batch.

        Args:
            state: Parameters and buffers by name.
            batch: The samples.

        Returns:
            What `outputs` returns.
        """
        return self._call(self.as_outputs, state, batch)

    def _call(self, function: nn.Module, state: State, batch: Batch) -> Any:
        """Call a function of the model with the given parameters and buffers."""
        swapped = {f"model.{place}": t for name, t in state.items() for place in self.places.get(name, ())}
        try:
            return torch.func.functional_call(function, swapped, (batch,), tie_weights=False)
        finally:
            self._tidy()

    def _tidy(self) -> None:
        """Remove tensors that layers left in their attributes: their graphs prevent copying the model."""
        for module in list(self.leaving):
            left, before = _tensors(module), self.attributes[module]
            if all(before.get(name) is tensor for name, tensor in left.items()):
                self.leaving.remove(module)  # it left nothing behind
            for name in left.keys() - before.keys():
                delattr(module, name)
            vars(module).update(before)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}
