"""The average of each agent's parameters over the steps."""

from torch import Tensor

from basinet.sim.experiment.component import Component, ExperimentError

__all__ = ["Averages"]


class Averages:
    """Averages the agents' parameters; running statistics are not averaged, but those of the last step.

    Args:
        component: Computes the weight of the newest point.
        num_steps: Steps of the whole run.

    Attributes:
        mean: The averages [N, P]; None before they begin.
    """

    def __init__(self, component: Component, num_steps: int) -> None:
        self._component = component
        self._num_steps = num_steps
        self.mean: Tensor | None = None

    def weight(self, step: int) -> float | None:
        """Compute the weight of the point after a step.

        Args:
            step: The step that has been taken, from 0.

        Returns:
            A number in [0, 1]; None if there is no average yet.

        Raises:
            ExperimentError: The component returns something else.
        """
        found = self._component.make(t=step, num_steps=self._num_steps)
        if found is not None and not (isinstance(found, int | float) and 0 <= found <= 1):
            raise ExperimentError(
                f"averaging: {self._component.name} returns {found!r}, where a number in [0, 1] or None is wanted"
            )
        return found

    def add(self, x: Tensor, step: int) -> None:
        """Add the point after a step.

        Args:
            x: [N, P].
            step: The step that has been taken, from 0.
        """
        weight = self.weight(step)
        if weight is None:
            self.mean = None
        elif self.mean is None:
            self.mean = x.detach().clone()
        elif weight:
            self.mean.lerp_(x, weight)
