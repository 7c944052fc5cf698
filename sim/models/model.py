"""The models that an experiment can name."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from basinet.topologies.registry import Registry

__all__ = ["MODELS", "FitsValues", "OfTransformers"]

MODELS: Registry[nn.Module] = Registry("MODELS")
"""The models that an experiment can name."""


@runtime_checkable
class OfTransformers(Protocol):
    """A model that the package transformers has, too, with parameters of the same names."""

    def transformers_config(self) -> dict[str, Any]:
        """Describe the model as a config.json of transformers does."""

    def unlike(self, config: Mapping[str, Any]) -> list[str]:
        """Describe how the model of a config.json computes other outputs from the same parameters."""


@runtime_checkable
class FitsValues(Protocol):
    """A model that can take values of another shape from another model."""

    def fitted(self, name: str, value: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """Bring a value into the shape of the parameter of a name; return others as they are.

        Args:
            name: The name.
            value: Its value in another model.
            values: All values of that model.

        Returns:
            The value that fits, or the one that was given.

        Raises:
            ValueError: It cannot be told how it fits.
        """
