"""The size of a study that compares strategies on a task of images or videos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

from pydantic import Field

__all__ = ["IID", "STRATEGIES", "Scale", "Steps"]

IID = "iid"
"""The condition in which the agents' data are alike."""

STRATEGIES = ["centralized", "consensus", "diffusion", "exact_diffusion", "gradient_tracking"]
"""The strategies as an experiment names them."""

Steps = Annotated[int, Field(ge=1, le=10**9)]


@dataclass(frozen=True)
class Scale:
    """The size of a study.

    Attributes:
        about: A description in a sentence.
        task: The task, without its partition and what else its conditions set.
        apart: The column whose values are dealt to the agents where their data differ.
        model: The model.
        agents: Number of agents on a ring.
        batch: Samples per agent and step.
        rate: Learning rate.
        steps: Number of steps.
        replicas: Number of replicas.
        of_agents: Replicas whose agents are scored one by one.
        experiment: Further keys of all experiments.
        strategies: The strategies that are compared.
        apart_as: What that condition is called, by default that there is one value per agent.
    """

    about: str
    task: Mapping[str, Any]
    apart: str
    model: Mapping[str, Any]
    agents: int
    batch: int
    rate: float
    steps: int
    replicas: int
    of_agents: int
    experiment: Mapping[str, Any]
    strategies: Sequence[Any] = tuple(STRATEGIES)
    apart_as: str = ""

    @property
    def apart_name(self) -> str:
        """What the condition is called in which the agents' data differ."""
        return self.apart_as or f"one {self.apart} per agent"

    def with_length(self, replicas: int | None, steps: int | None = None) -> Self:
        """Return the same with other numbers of replicas and steps, where these are given.

        Args:
            replicas: Number of replicas; None for its own.
            steps: Number of steps; None for its own.

        Returns:
            The size.
        """
        return replace(self, replicas=replicas or self.replicas, steps=steps or self.steps)

    def conditions(self, **settings: Any) -> dict[str, dict[str, Any]]:
        """Return the cases in which strategies are compared.

        Args:
            **settings: Settings of the task.

        Returns:
            Keys of the experiment by the names of the cases.
        """
        shared = {f"task.{name}": value for name, value in settings.items()}
        apart = {"name": "by_column", "column": self.apart}
        return {IID: {**shared, "task.partition": IID}, self.apart_name: {**shared, "task.partition": apart}}

    def describe(self, cases: Mapping[str, Mapping[str, Any]], **keys: Any) -> dict[str, Any]:
        """Describe an experiment.

        Args:
            cases: Keys of the experiment by the names of the cases.
            **keys: Keys that differ from the usual ones.

        Returns:
            The experiment.
        """
        return {
            "task": dict(self.task),
            "model": dict(self.model),
            "topology": {"name": "ring", "agents": self.agents},
            "strategy": list(self.strategies),
            "optimizer": {"name": "adam", "lr": self.rate},
            "batch_size": self.batch,
            "steps": self.steps,
            "replicas": self.replicas,
            "seed": 1,
            "runtime": {"device": "cpu"},
            **self.experiment,
            "cases": {name: dict(own) for name, own in cases.items()},
            **keys,
        }
