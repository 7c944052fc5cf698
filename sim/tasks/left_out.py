"""Settings of a task that mean nothing beside others."""

import inspect
from collections.abc import Callable
from typing import Any

from basinet.sim.experiment.mistakes import shown

__all__ = ["GENERATED", "READ", "check_left_out"]

GENERATED = "for samples made here; allowed with a path is to leave it out"
READ = "for samples that are read; allowed without a path is to leave it out"


def check_left_out(task: Callable[..., Any], reason: str, **given: Any) -> None:
    """Check that settings without meaning have their defaults.

    Args:
        task: The function that makes the task.
        reason: Why they mean nothing, as the rest of a sentence: "which is …".
        **given: The settings.

    Raises:
        ValueError: If one has another value.
    """
    known = inspect.signature(task).parameters
    for name, value in given.items():
        default = known[name].default
        if value != (list(default) if isinstance(value, list) and isinstance(default, tuple) else default):
            value = [*value] if isinstance(value, tuple) else value  # as users write it
            raise ValueError(f"{task.__name__}: {name} is {shown(value)}, which is {reason}")
