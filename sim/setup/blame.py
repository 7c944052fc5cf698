"""Attribution of an exception to the user's code."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn, optim

from basinet.algorithms.attacks import NoAttack
from basinet.sim.evaluation.metric import Metric
from basinet.sim.experiment.component import Component
from basinet.sim.experiment.mistakes import complaint
from basinet.sim.models.modules import layer_at_fault
from basinet.sim.run.interruptions import WorkStopped
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks import Task

__all__ = ["blaming", "owner"]


@contextmanager
def blaming(setup: Setup, workers: int = 1) -> Iterator[None]:
    """Turn what the user's code raises within this context into a sentence; anything else is raised unchanged.

    Args:
        setup: The parts of the run.
        workers: Number of workers, any of which may be lost.

    Yields:
        Nothing.

    Raises:
        WorkStopped: The code was stopped.
        Exception: The original exception, or an ExperimentError that it is the cause of.
    """
    try:
        yield
    except WorkStopped:
        raise
    except Exception as error:
        component = owner(error, setup)
        mistake = None
        if component is not None and component.is_own and not (workers > 1 and _may_be_the_network(error)):
            inside = layer_at_fault(error) if component is setup.model_component else ""
            mistake = complaint(component, error, inside)
        if mistake is None or mistake is error:
            raise
        raise mistake from error


def owner(error: Exception, setup: Setup) -> Component | None:
    """Find the innermost component whose code was running when an error was raised.

    Args:
        error: The exception, which has been raised.
        setup: The parts of the run.

    Returns:
        The component; None if none was running.
    """
    config, model = setup.config, setup.model_component
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        runs = frame.f_locals.get("self")
        function, module = frame.f_code.co_name, str(frame.f_globals.get("__name__"))
        # A layer without parameters may be the loss.
        is_layer = isinstance(runs, nn.Module) and any(True for _ in runs.parameters())
        if is_layer or (function == "backward" and module.startswith("torch.")):
            return model
        if isinstance(runs, Metric):
            asked = zip(setup.task.metrics or (), config.metrics or (), strict=False)
            return next((component for metric, component in asked if metric.name == runs.name), config.task.component)
        if isinstance(runs, Task):  # a built-in task was given the model's outputs
            built_in = type(runs).__module__.startswith("basinet.") and not runs.runs_user_code
            return model if built_in else config.task.component
        if isinstance(runs, optim.Optimizer):
            return config.optimizer
        if isinstance(runs, NoAttack):
            return config.attack
        if (module, function) == ("basinet.sim.agents.block", "advance"):
            return config.strategy
    return None


def _may_be_the_network(error: Exception) -> bool:
    """Return whether an error occurred while rows were being sent to another worker, which may be gone."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    inside = bool(frames) and str(frames[-1].f_globals.get("__name__")).startswith("basinet.sim.")
    return isinstance(error, RuntimeError) and inside
