"""The base optimizers, SGD and AdamW, on the coordinates of a gradient in a subspace."""

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["base_direction"]


def base_direction(state: dict[str, Any], gradient: Tensor, group: dict[str, Any]) -> Tensor:
    """Advance a base optimizer's state by a step.

    Args:
        state: State of a parameter: `step`, `momentum`, `second_moment`.
        gradient: The gradient, or its coordinates.
        group: The settings: `base`, and `momentum` of SGD, or `betas` and `eps` of AdamW.

    Returns:
        The direction d of the step x ← x − μ d.
    """
    step = state["step"] = state.get("step", 0) + 1
    if group["base"] == "sgd":
        if not group["momentum"]:
            return gradient
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        momentum: Tensor = state["momentum"]
        return momentum.mul_(group["momentum"]).add_(gradient)
    if "momentum" not in state:
        state["momentum"], state["second_moment"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    beta1, beta2 = group["betas"]
    m, v = state["momentum"].lerp_(gradient, 1 - beta1), state["second_moment"]
    v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    root: Tensor = v.sqrt().div_(math.sqrt(1 - beta2**step)).add_(group["eps"])
    return torch.div(m, root, out=root).div_(1 - beta1**step)
