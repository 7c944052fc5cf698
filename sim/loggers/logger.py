"""The interface of loggers."""

import importlib.util
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from basinet.topologies.registry import Registry

__all__ = ["LOGGERS", "Logger", "is_logger", "missing_package"]


@runtime_checkable
class Logger(Protocol):
    """Receives the metrics of a run, in the leading process only.

    A maker of loggers is called for each run with those of these that it has parameters for: `run`, the run's name;
    `folder`, its folder; `identity`, a short text that stays the same when the run is resumed; and `config`, its
    resolved experiment. What a logger with a true attribute `keeps_late` has received counts only once it is closed:
    should the process die before, another logger receives it again.
    """

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Receive what was measured at a step.

        Args:
            metrics: Means over the replicas by the name of the metric; of several replicas also each one's value, as
                `NAME/replica_0`.
            step: The step.
        """

    def close(self) -> None:
        """Receive nothing more."""


LOGGERS: Registry[Logger] = Registry("LOGGERS")
"""Makers of loggers by name. Their attribute `package` is what they need installed, also the name of the extra."""


def is_logger(given: Any) -> bool:
    """Return whether an object is a logger rather than a maker of loggers.

    Args:
        given: Any object.

    Returns:
        Whether it has the methods.
    """
    return not isinstance(given, type) and isinstance(given, Logger)


def missing_package(maker: Any) -> str | None:
    """Return the package that a maker of loggers needs and that is not installed.

    Args:
        maker: A maker or logger.

    Returns:
        Its name; None if nothing is missing.
    """
    package = getattr(maker, "package", None)
    return package if isinstance(package, str) and importlib.util.find_spec(package) is None else None
