"""Knowledge about torch's own optimizers."""

import inspect
import sys
from collections.abc import Callable
from operator import methodcaller
from typing import Any

import torch
from pydantic import Field
from torch import optim

from basinet.algorithms.optimizers.optimizer_traits import OPTIMIZERS

__all__ = ["FUSED", "TORCH", "TORCH_BOUNDS", "stepping"]

OPTIMIZERS.update(adam=optim.Adam, adamw=optim.AdamW, sgd=optim.SGD)

TORCH = frozenset(kind for kind in vars(optim).values() if isinstance(kind, type) and issubclass(kind, optim.Optimizer))
"""torch's optimizers: they step in place, and leave gradients as they are."""

FUSED = frozenset({optim.SGD, optim.Adam, optim.AdamW, optim.Adagrad})
"""Those that torch can step in one pass over memory, on CPUs and GPUs."""

TORCH_BOUNDS: dict[str, Any] = {
    "lr": Field(ge=0),
    "betas": Field(ge=0, lt=1),
    "dampening": Field(ge=0, lt=1),
    "eps": Field(ge=0),
    "momentum": Field(ge=0, lt=1),
    "weight_decay": Field(ge=0),
}
"""Bounds of their numeric settings, which their signatures do not declare."""


def _defer_compiler() -> None:
    """Keep torch from importing its compiler when an optimizer is made, which takes as long as importing torch.

    Some methods of its optimizers import it on their first call, to mark themselves as not to be compiled. Nothing is
    compiled before something else imports it: until then they run as they are.
    """
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        marked = getattr(optim.Optimizer, name)
        if hasattr(marked, "__wrapped__"):
            # Where torch keeps the marked method; other versions may keep it elsewhere and are only slower.
            marked.__wrapped__.__dynamo_disable = _until_imported(marked)


def _until_imported(marked: Callable[..., Any]) -> Callable[..., Any]:
    plain = marked.__wrapped__  # type: ignore[attr-defined]

    def method(*arguments: Any, **keywords: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return plain(*arguments, **keywords)
        vars(plain).pop("__dynamo_disable", None)
        return marked(*arguments, **keywords)

    return method


_defer_compiler()


def stepping(optimizer: optim.Optimizer) -> Callable[[optim.Optimizer], Any]:
    """Return the function that steps optimizers like this one: torch's own without importing the compiler.

    Args:
        optimizer: One of them.

    Returns:
        A function that steps another one.
    """
    kind = type(optimizer)
    if kind not in TORCH or optimizer.defaults.get("differentiable"):
        return methodcaller("step")
    return optim.Optimizer.profile_hook_step(torch.no_grad()(inspect.unwrap(kind.step)))
