"""Settings of the study on networks: task, model, regimes, and size."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.experiment.config import PositiveFloat, PositiveInt, Seed
from basinet.sim.experiment.signatures import sentence

__all__ = ["Departure", "Family", "Regime", "Setting", "Variant"]

Keys = dict[str, Any]
"""Dotted keys of an experiment and their values."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Regime(_Frozen):
    """Batch size per agent, learning rate and number of steps."""

    batch: PositiveInt
    lr: PositiveFloat
    steps: PositiveInt

    def keys(self, factor: float = 1.0) -> Keys:
        """Return the regime as keys of an experiment.

        Args:
            factor: Factor on the learning rate.

        Returns:
            The keys.
        """
        return {"batch_size": self.batch, "optimizer.lr": factor * self.lr, "steps": self.steps}


class Departure(_Frozen):
    """Trainings of every strategy from the end of a centralised training.

    Attributes:
        name: Its name.
        keys: Further keys of the experiment.
        teacher: The centralised training.
        regimes: A smaller and a larger batch, at constant learning rates.
        level: Rise of the training loss at which the minimum has been left.
        every: Steps between two evaluations.
        factors: Factors on the learning rate of the larger batch, for centralised trainings to compare with at the same
            training loss.
        rest: Training with the gradient of each agent's whole shard, at whose end consensus must be below its cap.
        rest_keys: Further keys of `rest`.
    """

    name: str
    keys: Keys = Field(default_factory=dict)
    teacher: Regime
    regimes: tuple[Regime, Regime]
    level: PositiveFloat
    every: PositiveInt = 1
    factors: tuple[PositiveFloat, ...] = ()
    rest: Regime | None = None
    rest_keys: Keys = Field(default_factory=dict)


class Family(_Frozen):
    """Trainings of every strategy from the same random parameters, in several regimes.

    Attributes:
        name: Its name.
        keys: Further keys of the experiment.
        regimes: Regimes with growing batches.
        factors: Factors on the learning rates; if there are several, strategies are also compared at their best ones.
        topologies: The graphs; strategies are compared in detail on the first.
        lengths: Multiples of the number of steps, for centralised trainings to compare with at the same training loss.
    """

    name: str
    keys: Keys = Field(default_factory=dict)
    regimes: tuple[Regime, ...] = Field(min_length=1)
    factors: tuple[PositiveFloat, ...] = (1.0,)
    topologies: tuple[str, ...] = Field(("ring",), min_length=1)
    lengths: tuple[PositiveFloat, ...] = ()


class Variant(_Frozen):
    """A further condition for a comparison from random starts.

    Attributes:
        name: Its name.
        regime: Batch, learning rate and steps.
        keys: Further keys of the experiment.
        lengths: As in `Family`.
    """

    name: str
    regime: Regime
    keys: Keys = Field(default_factory=dict)
    lengths: tuple[PositiveFloat, ...] = ()


class Setting(_Frozen):
    """The setting in which the claims are tested.

    Attributes:
        name: Its name in the claims.
        about: A description in a sentence.
        task: The task of all experiments.
        model: The model.
        agents: Number of agents.
        optimizer: Settings of SGD besides the learning rate.
        schedule: Learning-rate schedule from random starts.
        departures: Trainings that start at a minimum.
        families: Trainings that start from random parameters.
        variants: Further conditions for these.
        replicas: Number of replicas, which are paired.
        seed: Seed of all random draws.
        experiment: Further keys of all experiments, such as `runtime`.
    """

    name: str
    about: str
    task: Keys
    model: Any
    agents: PositiveInt = 16
    optimizer: Keys = Field(default_factory=dict)
    schedule: Any = "constant"
    departures: tuple[Departure, ...] = ()
    families: tuple[Family, ...] = ()
    variants: tuple[Variant, ...] = ()
    replicas: PositiveInt
    seed: Seed
    experiment: Keys = Field(default_factory=dict)

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """Return a copy with some values changed.

        Args:
            changes: Values by name; mappings are merged, unless their `name` differs.

        Returns:
            The changed setting.

        Raises:
            ExperimentError: If a key is unknown or a value is not allowed.
        """
        values = self.model_dump()
        for key, value in changes.items():
            if key not in values:
                raise ExperimentError(f"{key}: the study has no setting '{key}'; {nearest(key, ['scale', *values])}")
            values[key] = _laid_over(values[key], value)
        try:
            return type(self).model_validate(values)
        except ValidationError as error:
            raise ExperimentError(sentence(error, "", values)) from None

    def describe(self, keys: Mapping[str, Any], cases: Mapping[str, Keys], *, strategies: list[str]) -> Keys:
        """Describe an experiment.

        Args:
            keys: Its dotted keys, which override those of the setting.
            cases: Its cases.
            strategies: Names of its strategies.

        Returns:
            The description of an `Experiment`.
        """
        return {
            "task": dict(self.task),
            "model": self.model,
            "topology": {"name": "ring", "agents": self.agents},
            "strategy": list(strategies),
            "optimizer": {"name": "sgd", "lr": 1.0, **self.optimizer},
            "replicas": self.replicas,
            "seed": self.seed,
            **self.experiment,
            "cases": {name: {**keys, **case} for name, case in cases.items()},
        }


def _laid_over(old: Any, new: Any) -> Any:
    """Override a value; mappings are merged, unless the new one names another component."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)) or new.get("name", old.get("name")) != old.get(
        "name"
    ):
        return new
    return {**old, **{key: _laid_over(old.get(key), value) for key, value in new.items()}}
