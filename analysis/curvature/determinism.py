"""Detects what makes a loss random, or dependent on how samples are batched: it has no Hessian of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from basinet.analysis.curvature.elementary import Elementary

__all__ = ["check_modes", "differentiable"]


def check_modes(model: nn.Module, *, one_batch: bool = False) -> None:
    """Raise if the mode of a model makes the loss random, or dependent on how samples are batched.

    Args:
        model: The model.
        one_batch: Whether all samples are one batch, by whose statistics layers may normalise.

    Raises:
        ValueError: If a layer is in such a mode.
    """
    for name, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, _DropoutNd) and module.training and module.p > 0:
            raise ValueError(
                f"{kind} {name!r} is in training mode, which makes the loss random: call model.eval() first."
            )
        by_batch = isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)
        if by_batch and not one_batch:
            raise ValueError(
                f"{kind} {name!r} normalises by the statistics of the batch, so the loss is no mean over "
                "samples: call model.eval() first, and let it track running statistics."
            )


@contextmanager
def differentiable(device: torch.device) -> Iterator[None]:
    """Evaluate losses so that they can be differentiated twice, and object to random ones.

    The fused kernels of attention have no second derivative, that of weight normalisation a wrong one, and the fused
    encoder layer cannot be mapped over agents: all are left out. The generators of random numbers stay as they are.

    Args:
        device: Where the loss is computed.

    Yields:
        Nothing.

    Raises:
        ValueError: If random numbers were drawn.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    states = [generator.get_state() for generator in generators]
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), Elementary(2):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        used = False
        for generator, state in zip(generators, states, strict=True):
            used |= not torch.equal(generator.get_state(), state)
            generator.set_state(state)
    if used:
        raise ValueError("The loss draws random numbers, so it has no Hessian: call model.eval() first.")
