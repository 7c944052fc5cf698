"""The starting point of a run's agents: a point that another run has reached, weights in a file, or given values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from basinet.sim.agents.state import load_vector
from basinet.sim.experiment.changes import changes
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.digest import digest, name_of
from basinet.sim.experiment.mistakes import first_line, shown
from basinet.sim.experiment.signatures import sentence
from basinet.sim.models.adapters import added_parameters
from basinet.sim.models.freezing import frozen_parameters, held_parameters
from basinet.sim.models.loading import Misfit, load_values, rename_values
from basinet.sim.run.folder import RunFolder
from basinet.sim.setup.reached import Reached
from basinet.sim.setup.sources import SOURCES, Fitting, OfFolder, OfRun, OfStage, RunPoint, StartSource, kind_of
from basinet.sim.tasks.kept import made_otherwise

__all__ = ["NotFound", "Start"]


class NotFound(ExperimentError):
    """The values of a start are no longer, or not yet, where it says."""


@dataclass(frozen=True, eq=False)
class Start:
    """The starting points of the replicas; all agents of a replica start at the same point.

    Attributes:
        description: The start in plain values, with a digest of the values themselves.
        given: Parameters [P], or [R, P] for R replicas; a state dict; or points of a run. None if it was read from the
            folder of the run that started there, or is a stage.
        source: Where the values come from, and how they fit the model; None for given values.
        missing: Why the point of a stage does not exist.
    """

    description: dict[str, Any]
    given: "Tensor | dict[str, Tensor] | Reached | None" = None
    source: StartSource | None = field(default=None, repr=False)
    missing: str = field(default="", repr=False)

    LISTS: ClassVar[tuple[str, ...]] = ("reinitialize",)
    """Keys whose values are lists."""

    FITTING: ClassVar[tuple[str, ...]] = ("replica", "point", "step", "rename", "strict", "reinitialize")
    """Keys that say which point of a run is meant, and how it fits the model."""

    @classmethod
    def parse(cls, given: Any) -> "Start | None":
        """Parse a start.

        Args:
            given: The folder of a finished run, a file of weights or the local folder of a hub's model; or a mapping.
                With `run`, the folder of a run: `replica` is the replica whose point to use, a number or "own" for the
                one of the same number; `point` is "centroid" or an agent's number; `step` is the step of a checkpoint
                kept by the run, by default its last one. With `file` or `folder`: where the weights are. With `stage`:
                an earlier stage by name, or "previous". All take `rename`, a mapping from names there to names in the
                model, in which * stands for any characters; `strict`, whether all names and shapes must fit; and
                `reinitialize`, a list of names that keep the model's own initial values.
                Or parameters [P] or [R, P] as a tensor, a state dict, or a module.

        Returns:
            The start.

        Raises:
            ExperimentError: The values do not exist.
        """
        if given is None or isinstance(given, Start):
            return given
        name = name_of(type(given))
        if isinstance(given, str | Path):
            given = {kind_of(Path(given)): str(given)}
        elif isinstance(given, nn.Module):
            given = given.state_dict()
        elif isinstance(given, np.ndarray):
            given = torch.from_numpy(given)
        if isinstance(given, Tensor) and given.is_floating_point() and given.ndim in (1, 2):
            values = given.detach().cpu().clone()
            return cls({"name": name, "digest": digest(values)}, values)
        if not isinstance(given, Mapping) or not given:
            raise ExperimentError(
                "start: allowed are the folder of a run, a file of weights, a mapping with 'run', 'file', 'folder' or"
                f" 'stage', parameters [P] or [R, P], a state dict or a module, not {shown(given)}"
            )
        if all(isinstance(value, Tensor) for value in given.values()):
            state = {str(key): value.detach().cpu().clone() for key, value in given.items()}
            return cls({"name": name, "digest": digest(state)}, state)
        if set(given) == {"name", "digest"}:  # read from the folder of a run
            return cls(dict(given))
        kind = next((kind for key, kind in SOURCES.items() if key in given), OfRun)
        try:
            source = kind.model_validate(dict(given))
        except ValidationError as error:
            own = [key for key in kind.model_fields if key not in ("digest", *Fitting.model_fields)]
            own.sort(key=lambda key: key not in SOURCES)
            raise ExperimentError(sentence(error, "start", [*own, *Fitting.model_fields])) from None
        dumped = source.model_dump(exclude_none=True, exclude=set(Fitting.model_fields)) | source.options
        description = {key: dumped[key] for key in (*SOURCES, *dumped) if key in dumped}
        if isinstance(source, OfStage) or source.digest is not None:  # the source may not exist yet, or be gone
            return cls(description, source=source)
        content = source.read()
        return cls({**description, "digest": _digest(content)}, content, source)

    @property
    def is_read(self) -> bool:
        """Whether the values have been read, which is not so if the start comes from a run's folder, or is a stage."""
        return self.given is not None

    @property
    def is_of_each_replica(self) -> bool:
        """Whether each replica starts at the point that the replica of the same number has reached."""
        return isinstance(self.source, RunPoint) and self.source.replica == "own"

    def of_run(self, folder: Path) -> dict[str, Any]:
        """Return what to give for the same point of a run, where a stage was named.

        Args:
            folder: The run's folder.

        Returns:
            A mapping as for `parse`.
        """
        return {key: value for key, value in self.description.items() if key != "stage"} | {"run": str(folder)}

    def reached(self, there: Mapping[str, Any]) -> "Start":
        """Return the start from a run of a stage that is finished.

        Args:
            there: See `of_run`.

        Returns:
            The start; the same one, which cannot be placed, if the point does not exist.
        """
        try:
            return type(self).parse(there) or self
        except ExperimentError as error:
            return replace(self, missing=str(error))

    def expecting(self, stage: str, run: str, point: Reached) -> "Start":
        """Return the start from a stage that is not finished, to check whether its points will fit.

        Args:
            stage: The stage.
            run: The run of it.
            point: Points of its model.

        Returns:
            The start.
        """
        return replace(self, description={**self.description, "stage": stage, "run": run}, given=point)

    def check_reached(self) -> None:
        """Raise if the start is a stage that has not been found.

        Raises:
            NotFound: It is one.
        """
        if self.missing:
            raise NotFound(self.missing)
        if isinstance(self.source, OfStage):
            raise NotFound(
                f"start.stage: got {shown(self.source.stage)}, but the experiment is not one of several stages; allowed"
                " are run, file and folder"
            )

    @property
    def stage(self) -> OfStage | None:
        """The stage that it refers to, before that is finished."""
        return self.source if isinstance(self.source, OfStage) else None

    def place(self, model: nn.Module, layout: Mapping[str, Any], replicas: int, replica: int) -> nn.Module:
        """Load the start of a replica into a model.

        Args:
            model: A model on the CPU, with the replica's own initial values; changed in place.
            layout: Its description; see `Setup.layout`.
            replicas: R.
            replica: The replica's number.

        Returns:
            The model.

        Raises:
            ExperimentError: There are no values of this model for each replica, or they have changed.
        """
        misfit = self._load(model, layout, replicas, replica)
        if misfit and self._how.strict:
            remedy = "" if self.source is None else "; start.rename, start.reinitialize and start.strict=false allow it"
            raise ExperimentError(f"{self._who} does not belong to this model: {misfit}{remedy}")
        parameters = {name for name, _ in model.named_parameters()} | held_parameters(model)
        # A model of another width may still have a few tensors of the same shape.
        if misfit.names and (parameters.isdisjoint(misfit.taken) or len(misfit.other) > len(misfit.taken)):
            raise ExperimentError(
                f"{self._who}: too little would be taken of it ({misfit.summary}); allowed are starts of which some"
                " parameters fit by name (start.rename maps names), and no more have another shape"
            )
        if self._how.strict and isinstance(self.source, OfFolder) and (others := self.source.unlike(model)):
            raise ExperimentError(
                f"{self._who} holds another model: {'; '.join(others)}; the model's settings, or start.strict=false,"
                " allow it"
            )
        return model

    def check_made(self, kept: Mapping[str, str]) -> None:
        """Raise if the values come from a run whose task has made something else of its data, such as other tokens.

        Args:
            kept: Identities of what was made here; see `basinet.sim.tasks.kept.Kept`.

        Raises:
            ExperimentError: They differ, and it was not said that not everything has to fit.
        """
        how, there = self._how, self.given
        if not isinstance(there, Reached) or not how.strict or how.reinitialize:
            return
        for setting in made_otherwise(there.kept, kept):
            file = RunFolder(Path(self.description.get("run", ""))).kept_of_task(setting)
            allowed = f"task.{setting}={file}" if file.exists() else "the same"
            raise ExperimentError(f"{self._who} has other {setting} than task.{setting} here; allowed is {allowed}")

    def summary(self, model: nn.Module, layout: Mapping[str, Any]) -> str:
        """Describe how much a model takes of the values, and what not.

        Args:
            model: The model; changed in place.
            layout: Its description; see `Setup.layout`.

        Returns:
            The names in words; "" for parameters without names.
        """
        misfit = self._load(model, layout, 1, 0)
        return misfit.summary if misfit.names else ""

    def frozen(self, model: nn.Module, layout: Mapping[str, Any], replicas: int) -> dict[str, Tensor]:
        """Return the frozen parameters of a model, with the values that they start at.

        Args:
            model: A model on the CPU; changed in place.
            layout: Its description; see `Setup.layout`.
            replicas: R.

        Returns:
            Tensors by name, shared by all replicas.

        Raises:
            ExperimentError: They differ between replicas.
        """
        content = self._content
        points = len(content.parameters) if isinstance(content, Reached) else 1
        found: dict[str, Tensor] = {}
        for replica in range(min(points, replicas)):
            self._load(model, layout, replicas, replica)
            here = {name: value.clone() for name, value in frozen_parameters(model).items()}
            for name in here:
                if replica and not torch.equal(here[name], found[name]):
                    raise ExperimentError(
                        f"start: each replica has other values of the frozen parameter {name}, which all share here;"
                        " allowed are one replica for all (start.replica: 0), or the key frozen with this name"
                    )
            found = found or here
        return found

    def _load(self, model: nn.Module, layout: Mapping[str, Any], replicas: int, replica: int) -> Misfit:
        """Load the values of a replica as far as they fit; return what does, and what does not."""
        content, how = self._content, self._how
        if isinstance(content, Tensor):
            if {name for name, _ in model.named_buffers()} - held_parameters(model):
                raise ExperimentError(
                    "start: the model has buffers besides its parameters; give a state dict or a module"
                )
            buffers = {name: b.clone() for name, b in model.named_buffers()}
            load_vector(model, _of_replica(content, layout, replicas, replica), buffers)
            return Misfit()
        known: set[str] = set()
        if isinstance(content, Reached):
            if not how.options:
                _compare(self._who, content.layout, layout)
            if len(content.parameters) > 1:
                _check_replicas(len(content.parameters), replicas)
            if content.frozen is None and content.layout["frozen"] == layout["frozen"]:
                known = set(frozen_parameters(model))
            values = content.values(replica if len(content.parameters) > 1 else 0)
        else:
            values = content
        try:
            values = rename_values(values, how.rename)
        except ValueError as error:
            raise ExperimentError(f"start.rename: {first_line(error)}") from None
        try:
            misfit = load_values(model, values, how.reinitialize, added_parameters(model))
        except ValueError as error:
            raise ExperimentError(f"start.reinitialize: {first_line(error)}") from None
        known &= {*misfit.missing}  # the same here as there
        missing = tuple(name for name in misfit.missing if name not in known)
        return replace(misfit, missing=missing, taken=(*misfit.taken, *known))

    @property
    def _how(self) -> Fitting:
        return self.source or Fitting()

    @property
    def _who(self) -> str:
        if self.source is None:
            return "start: the state dict"
        key = next(key for key in SOURCES if key in self.description)
        run = f"/{self.description['run']}" if key == "stage" and "run" in self.description else ""
        return f"start.{key}: {self.description[key]}{run}"

    @cached_property
    def _content(self) -> "Tensor | dict[str, Tensor] | Reached":
        """The values, read again if they were recorded."""
        if self.given is not None:
            return self.given
        if self.source is None:
            raise NotFound(f"start: the {self.description['name']} that was given is not in the run's folder")
        self.check_reached()
        assert not isinstance(self.source, OfStage)
        try:
            content = self.source.read()
        except ExperimentError as error:
            raise NotFound(str(error)) from error
        if _digest(content) != self.description["digest"]:
            raise NotFound(f"{self._who} no longer holds what the run started from")
        return content


def _digest(content: "dict[str, Tensor] | Reached") -> str:
    return content.digest if isinstance(content, Reached) else digest(content)


def _of_replica(points: Tensor, layout: Mapping[str, Any], replicas: int, replica: int) -> Tensor:
    """Return a replica's point of [S, P], or the only one."""
    points = points if points.ndim == 2 else points[None]
    size = sum(math.prod(shape) for shape in layout["shapes"].values())
    if points.shape[1] != size:
        raise ExperimentError(f"start: it has {points.shape[1]} parameters, but the model has {size}")
    _check_replicas(len(points), replicas)
    return points[replica if len(points) > 1 else 0]


def _check_replicas(points: int, replicas: int) -> None:
    if 1 < points < replicas:
        raise ExperimentError(
            f"start: there are points for {points} replicas, but the run has {replicas}; allowed are at least as"
            " many, or one for all (start.replica: 0)"
        )


def _compare(who: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise if a point belongs to another model."""
    key, _, run = who.partition(": ")
    named = theirs["model"] and ours["model"] and changes("model", theirs["model"], ours["model"])
    if any(change.sure for change in named or ()):
        raise ExperimentError(
            f"{key}: the model of {run} is {_in_words(theirs)}, and that of this run {_in_words(ours)}; they must"
            " be the same, unless start.rename, start.reinitialize or start.strict says how they fit"
        )


def _in_words(layout: Mapping[str, Any]) -> str:
    described = ", ".join(f"{key}: {value}" for key, value in layout["model"].items()) or "a module of your own"
    size = sum(math.prod(shape) for shape in layout["shapes"].values())
    return f"{{{described}}} with {size} parameters"
