"""The starting point of a run's agents: a point that another run has reached, or given values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from basinet.sim.agents.state import load_vector
from basinet.sim.experiment.changes import changes
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.digest import digest, name_of
from basinet.sim.experiment.mistakes import shown
from basinet.sim.experiment.signatures import sentence
from basinet.sim.setup.reached import Reached, read_points

__all__ = ["Start"]


class _OfRun(BaseModel):
    """A point of a finished run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str
    replica: Literal["own"] | Annotated[int, Field(ge=0, strict=True)] = "own"
    point: Literal["centroid"] | Annotated[int, Field(ge=0, strict=True)] = "centroid"
    step: Annotated[int, Field(ge=0, strict=True)] | None = None
    digest: str | None = None


@dataclass(frozen=True, eq=False)
class Start:
    """The starting points of the replicas; all agents of a replica start at the same point.

    Attributes:
        description: The start in plain values, with a digest of the point itself.
        given: Parameters [P], or [R, P] for R replicas; a model's state dict; or points of a run. None if it was read
            from the folder of the run that started there.
    """

    description: dict[str, Any]
    given: "Tensor | dict[str, Tensor] | Reached | None" = None

    @classmethod
    def parse(cls, given: Any) -> "Start | None":
        """Parse a start.

        Args:
            given: The folder of a finished run, or a mapping: `run` is the folder; `replica` is the replica whose point
                to use, a number or "own" for the one of the same number; `point` is "centroid" or an agent's number;
                `step` is the step of a checkpoint kept by the run, by default its last one.
                Or parameters [P] or [R, P] as a tensor, a state dict, or a module.

        Returns:
            The start.

        Raises:
            ExperimentError: The point does not exist.
        """
        if given is None or isinstance(given, Start):
            return given
        name = name_of(type(given))
        if isinstance(given, str | Path):
            given = {"run": str(given)}
        elif isinstance(given, nn.Module):
            given = given.state_dict()
        elif isinstance(given, np.ndarray):
            given = torch.from_numpy(given)
        if isinstance(given, Tensor) and given.is_floating_point() and given.ndim in (1, 2):
            values = given.detach().cpu().clone()
            return cls({"name": name, "digest": digest(values)}, values)
        if not isinstance(given, Mapping) or not given:
            raise ExperimentError(
                "start: allowed are the folder of a run, a mapping with 'run', parameters [P] or [R, P], a state dict"
                f" or a module, not {shown(given)}"
            )
        if all(isinstance(value, Tensor) for value in given.values()):
            state = {str(key): value.detach().cpu().clone() for key, value in given.items()}
            return cls({"name": name, "digest": digest(state)}, state)
        if set(given) == {"name", "digest"}:  # read from the folder of a run
            return cls(dict(given))
        try:
            source = _OfRun.model_validate(dict(given))
        except ValidationError as error:
            raise ExperimentError(sentence(error, "start", _OfRun.model_fields)) from None
        description = source.model_dump(exclude_none=True)
        if source.digest is not None:  # also read from a folder: the source may be gone by now
            return cls(description)
        try:
            content = _read(source)
        except OSError as error:
            raise ExperimentError(f"start.run: {source.run} cannot be read: {error.strerror}") from None
        return cls({**description, "digest": content.digest}, content)

    @property
    def is_read(self) -> bool:
        """Whether the point has been read, which is not so if the start comes from a run's folder."""
        return self.given is not None

    def place(self, model: nn.Module, layout: Mapping[str, Any], replicas: int, replica: int) -> nn.Module:
        """Load the start of a replica into a model.

        Args:
            model: A model on the CPU; changed in place.
            layout: Its description; see `Setup.layout`.
            replicas: R.
            replica: The replica's number.

        Returns:
            The model.

        Raises:
            ExperimentError: There is not a point of this model for each replica, or it has changed.
        """
        content = self._recorded() if self.given is None else self.given
        if isinstance(content, dict):
            return _load_state(model, content)
        if isinstance(content, Tensor):
            if any(True for _ in model.buffers()):
                raise ExperimentError(
                    "start: the model has buffers besides its parameters; give a state dict or a module"
                )
            return load_vector(model, _of_replica(content, layout, replicas, replica), {})
        _compare(self.description["run"], content.layout, layout)
        point = _of_replica(content.parameters, layout, replicas, replica)
        chosen = replica if len(content.parameters) > 1 else 0
        return load_vector(model, point, {name: b[chosen] for name, b in content.buffers.items()})

    def _recorded(self) -> Reached:
        """Read the recorded start again."""
        if "run" not in self.description:
            raise ExperimentError(f"start: the {self.description['name']} that was given is not in the run's folder")
        content = _read(_OfRun.model_validate(self.description))
        if content.digest != self.description["digest"]:
            raise ExperimentError(f"start.run: {self.description['run']} no longer holds what the run started from")
        return content


_KEYS = {name: f"start.{name}" for name in ("run", "replica", "point", "step")}


def _read(source: _OfRun) -> Reached:
    """Read points of a run."""
    replica = None if source.replica == "own" else source.replica
    return read_points(source.run, replica, source.point, source.step, keys=_KEYS)


def _of_replica(points: Tensor, layout: Mapping[str, Any], replicas: int, replica: int) -> Tensor:
    """Return a replica's point of [S, P], or the only one."""
    points = points if points.ndim == 2 else points[None]
    size = sum(math.prod(shape) for shape in layout["shapes"].values())
    if points.shape[1] != size:
        raise ExperimentError(f"start: it has {points.shape[1]} parameters, but the model has {size}")
    if 1 < len(points) < replicas:
        raise ExperimentError(
            f"start: there are points for {len(points)} replicas, but the run has {replicas}; allowed are at least as"
            " many, or one for all (start.replica: 0)"
        )
    return points[replica if len(points) > 1 else 0]


def _load_state(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Load a state dict of the same model."""
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ExperimentError(f"start: the state dict does not belong to this model: {reason}") from None
    for name, value in frozen.items():
        if not torch.equal(model.get_parameter(name), value):
            raise ExperimentError(
                f"start: the frozen parameter {name} has other values here; give the module itself as the model"
            )
    return model


def _compare(run: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise if a point belongs to another model."""
    named = theirs["model"] and ours["model"] and changes("model", theirs["model"], ours["model"])
    if any(change.sure for change in named or ()) or theirs["shapes"] != ours["shapes"]:
        raise ExperimentError(
            f"start.run: the model of {run} is {_in_words(theirs)}, and that of this run {_in_words(ours)}; they must"
            " be the same"
        )
    if theirs["frozen"] != ours["frozen"]:
        raise ExperimentError(
            f"start.run: the frozen parameters of {run} have other values; allowed is a run of the same seed"
        )


def _in_words(layout: Mapping[str, Any]) -> str:
    described = ", ".join(f"{key}: {value}" for key, value in layout["model"].items()) or "a module of your own"
    size = sum(math.prod(shape) for shape in layout["shapes"].values())
    return f"{{{described}}} with {size} parameters"
