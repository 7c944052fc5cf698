"""Quantities: the labels of a run's numbers in plots and tables, and which direction is better."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

__all__ = ["QUANTITIES", "Direction", "Quantity", "Where", "of_every_run", "of_validation"]

Direction = Literal["smaller", "larger"]

Where = Literal["train", "test"]
"""Data on which metrics are measured."""

_ARROWS = {"smaller": " ↓", "larger": " ↑", None: ""}


@dataclass(frozen=True)
class Quantity:
    """A measured number.

    Attributes:
        label: Its name on an axis.
        heading: Its short name in tables; if empty, it is not in the summary.
        unit: Its unit, shown after the label in parentheses.
        direction: Which values are better; None if neither.
        about: A one-line description.
        compared: Whether strategies are compared by it.
        linear: Whether it is always drawn on a linear axis.
        exponential: Whether it is the exponential of a mean, which is drawn on a logarithmic axis.
    """

    label: str
    heading: str = ""
    unit: str = ""
    direction: Direction | None = None
    about: str = ""
    compared: bool = True
    linear: bool = False
    exponential: bool = False

    @property
    def axis(self) -> str:
        """The label with the unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def title(self) -> str:
        """The heading with an arrow towards better values."""
        return self.heading + _ARROWS[self.direction]

    def is_better(self, value: float, than: float) -> bool:
        """Compare two values.

        Args:
            value: A value.
            than: Another.

        Returns:
            Whether the first one is better; False if neither direction is, or if it is not a number.
        """
        return value < than if self.direction == "smaller" else self.direction == "larger" and value > than

    @classmethod
    def read(cls, recorded: Mapping[str, Any]) -> Self:
        """Create a quantity from a run's record.

        Args:
            recorded: Its attributes by name.

        Returns:
            The quantity.
        """
        return cls(**{key: recorded[key] for key in cls.__match_args__ if key in recorded})


QUANTITIES: dict[str, Quantity] = {
    "test_loss": Quantity("test loss", "test loss", direction="smaller"),
    "train_loss": Quantity("training loss", "train loss", direction="smaller"),
    "generalization_gap": Quantity("generalization gap", direction="smaller"),
    "gradient_norm": Quantity("gradient norm"),
    "consensus_distance": Quantity("consensus distance", "consensus distance", "mean squared", compared=False),
    "attackers_distance": Quantity("attackers distance"),
    "clipped_share": Quantity("share of clipped gradients", compared=False),
    "lost_messages": Quantity("share of lost messages", "lost messages", compared=False),
    "mean_staleness": Quantity("mean staleness", unit="versions", compared=False),
    "max_staleness": Quantity("largest staleness", unit="versions", compared=False),
    "communicated_bytes": Quantity("communication", unit="bytes"),
    "simulated_time": Quantity("simulated time", unit="s"),
    "compute_share": Quantity("share of time spent computing", compared=False),
    "communication_share": Quantity("share of time spent waiting for the network", compared=False),
    "idle_share": Quantity("share of time spent waiting for slower agents", compared=False),
    "escape_step": Quantity("escape step"),
    "step": Quantity("step"),
    "epoch": Quantity("epoch"),
    "replica": Quantity("replica"),
    "agent": Quantity("agent"),
}
"""What a run measures whatever its metrics and its analysis; these names are reserved."""


def of_validation(quantity: Quantity) -> Quantity:
    """Describe a number that is measured on samples that were held out, which take the place of the test data.

    Args:
        quantity: Its description on test data.

    Returns:
        The description.
    """
    said = {key: getattr(quantity, key).replace("test", "validation", 1) for key in ("label", "heading", "about")}
    return replace(quantity, **said)


def of_every_run(*, validation: Any) -> dict[str, Quantity]:
    """Describe the numbers that every run has.

    Args:
        validation: Whether samples were held out, on which the test loss is measured.

    Returns:
        Quantities by name.
    """
    return QUANTITIES | ({"test_loss": of_validation(QUANTITIES["test_loss"])} if validation else {})
