"""Detection of losses that are random or depend on how samples are batched, and so have no Hessian."""

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
        one_batch: Whether all samples form one batch, whose statistics layers may normalise by.

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
                f"{kind} {name!r} normalises by the statistics of the batch, so the loss is not a mean over "
                "samples: call model.eval() first, and let it track running statistics."
            )


@contextmanager
def differentiable(device: torch.device) -> Iterator[None]:
    """Make losses twice differentiable in this context, and raise if they draw random numbers.

    Fused attention kernels have no second derivative, fused weight normalisation has a wrong one, and the fused encoder
    layer cannot be mapped over agents: all are disabled. The state of the random generators is restored.

    Args:
        device: Device of the loss.

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
