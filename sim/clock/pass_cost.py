"""What the gradient of a batch costs an agent: operations, and time on this machine."""

import time
from collections.abc import Callable
from statistics import fmean

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from basinet.sim.clock.laws import ComputeLaw
from basinet.sim.data.rows import length, take
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.models.modules import move_model
from basinet.sim.runtimes.runtime import runtime_of
from basinet.sim.setup.setup import Setup
from basinet.sim.setup.trial import verb_of

__all__ = ["law_of"]

_SECONDS = 0.2
"""How long is measured at least, after the first pass."""
_FEW = 4
"""Samples of which operations are counted."""


def law_of(setup: Setup, seconds: float | None = None) -> ComputeLaw | None:
    """Make the law of compute time of a run, and count or measure what it needs to know.

    Args:
        setup: The parts of the run.
        seconds: What the gradient of a batch took when it was measured; None to measure it now, if the law asks for it.

    Returns:
        The law; None if gradients take no time.

    Raises:
        ExperimentError: The model has no operations that can be counted.
    """
    component = setup.config.compute
    if component is None:
        return None
    supplied: dict[str, float] = {"batch_size": setup.config.batch_size}
    if component.takes("flops"):
        supplied["flops"] = _flops(setup)
    if component.takes("seconds"):
        supplied["seconds"] = _seconds(setup) if seconds is None else seconds
    law: ComputeLaw = component.make(**supplied)
    return law


def _flops(setup: Setup) -> float:
    """Count the operations of a gradient, of a few samples and half of them, since they are linear in their number."""
    model = _model(setup, torch.device("cpu"))

    def count(samples: int) -> int:
        with FlopCounterMode(display=False) as counter, torch.random.fork_rng(devices=[]):
            _pass(setup, model, samples)()
        return int(counter.get_total_flops())

    few, half = count(_FEW), count(_FEW // 2)
    each = (few - half) / (_FEW - _FEW // 2)
    found = few + each * (setup.config.batch_size - _FEW)
    if found <= 0:
        raise ExperimentError(
            f"compute: flops counts products of matrices and convolutions, but {setup.model_component.name} has none"
        )
    return found


def _seconds(setup: Setup) -> float:
    """Measure the mean time of a gradient of an agent's batch, without the first."""
    device = runtime_of(setup.config.runtime).device()
    run = _pass(setup, _model(setup, device), setup.config.batch_size, device)
    times: list[float] = []
    with torch.random.fork_rng(devices=[]):
        run()
        while sum(times) < _SECONDS:
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
    return fmean(times)


def _model(setup: Setup, device: torch.device) -> nn.Module:
    return move_model(setup.template(), device, setup.dtype).train()


def _pass(setup: Setup, model: nn.Module, samples: int, device: torch.device | None = None) -> Callable[[], None]:
    """Return a function that computes the gradient of some samples, or the loss if the strategy needs no gradient."""
    task = setup.task if device is None else setup.task.to(device, setup.dtype)
    batch = take(task.train, torch.arange(samples) % length(task.train))
    trained = [p for p in model.parameters() if p.requires_grad]
    backwards = verb_of(setup) != "losses"

    def run() -> None:
        with torch.set_grad_enabled(backwards):
            loss = task.objective(model, batch)
        if backwards:
            torch.autograd.grad(loss, trained, allow_unused=True)

    return run
