"""What the claims about a network are tested on: the task, the model, the regimes, and how much is done."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.experiment.config import PositiveFloat, PositiveInt, Seed
from basinet.sim.experiment.signatures import sentence

__all__ = ["Departure", "Family", "Regime", "Setting", "Variant"]

Keys = dict[str, Any]
"""Keys of an experiment, dotted, and their values."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Regime(_Frozen):
    """Batch of an agent, learning rate and number of steps."""

    batch: PositiveInt
    lr: PositiveFloat
    steps: PositiveInt

    def keys(self, factor: float = 1.0) -> Keys:
        """Write it as keys of an experiment.

        Args:
            factor: On the learning rate.

        Returns:
            The keys.
        """
        return {"batch_size": self.batch, "optimizer.lr": factor * self.lr, "steps": self.steps}


class Departure(_Frozen):
    """Every strategy starts where a centralised training has ended.

    Attributes:
        name: What it is called.
        keys: Further keys of the experiment.
        teacher: The training that gives the start.
        regimes: A smaller and a larger batch, at constant learning rates.
        level: How far the training loss has to rise for the minimum to have been left.
        every: Steps between two looks.
        factors: On the learning rate of the larger batch, with which centralised trainings leave the minimum that the
            others are compared with at the same training loss.
        rest: Steps with the gradient of the whole shard of each agent, after which consensus has to be below its cap.
        rest_keys: Further keys of these.
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
    """Every strategy starts from the same random parameters, in several regimes.

    Attributes:
        name: What it is called.
        keys: Further keys of the experiment.
        regimes: Growing batches.
        factors: On the learning rates; with several of them strategies are compared at the best of each, too.
        topologies: The graphs; strategies are compared on the first in detail.
        lengths: Parts of the steps, after which shorter and longer centralised trainings end that the others are
            compared with at the same training loss.
    """

    name: str
    keys: Keys = Field(default_factory=dict)
    regimes: tuple[Regime, ...] = Field(min_length=1)
    factors: tuple[PositiveFloat, ...] = (1.0,)
    topologies: tuple[str, ...] = Field(("ring",), min_length=1)
    lengths: tuple[PositiveFloat, ...] = ()


class Variant(_Frozen):
    """One more condition for a comparison from random starts.

    Attributes:
        name: What it is called.
        regime: Batch, learning rate and steps.
        keys: Further keys of the experiment.
        lengths: As those of a `Family`.
    """

    name: str
    regime: Regime
    keys: Keys = Field(default_factory=dict)
    lengths: tuple[PositiveFloat, ...] = ()


class Setting(_Frozen):
    """What the claims are tested on.

    Attributes:
        name: What it is called in the claims.
        about: What it is, in a sentence.
        task: The task of all experiments.
        model: The model.
        agents: How many agents.
        optimizer: Settings of SGD besides the learning rate.
        schedule: From random starts.
        departures: Trainings that start at a minimum.
        families: Trainings that start from random parameters.
        variants: Further conditions for these.
        replicas: Independent repetitions, which are paired.
        seed: Root of all draws.
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
        """Lay values over it.

        Args:
            changes: Values by name; a mapping is laid over a mapping, unless its `name` is another.

        Returns:
            The setting.

        Raises:
            ExperimentError: There is no such key, or a value is not allowed.
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
            keys: Its keys, dotted, which go before those of the setting.
            cases: Its cases.
            strategies: Names of its strategies.

        Returns:
            What `Experiment` reads.
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
    """Lay a value over another: a mapping over a mapping, unless it names another component."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)) or new.get("name", old.get("name")) != old.get(
        "name"
    ):
        return new
    return {**old, **{key: _laid_over(old.get(key), value) for key, value in new.items()}}
