"""Where the values of a start are: a run, a stage, a file of weights or the folder of a hub's model."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from torch import Tensor, nn

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.signatures import BOOLEAN
from basinet.sim.models.model import OfTransformers
from basinet.sim.setup.reached import Reached, read_points
from basinet.sim.setup.weights import SUFFIXES, folder_files, read_config, read_folder, read_weights

__all__ = ["SOURCES", "Fitting", "OfFile", "OfFolder", "OfRun", "OfStage", "RunPoint", "StartSource", "kind_of"]


class Fitting(BaseModel):
    """How values fit the model.

    Attributes:
        rename: Names in the model by names in the source, where * stands for any characters.
        strict: Whether every value must have its place, and every parameter and buffer its value.
        reinitialize: Names that keep the model's own initial values, drawn anew for each replica.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rename: dict[str, str] = {}
    strict: Annotated[bool, BOOLEAN] = True
    reinitialize: Annotated[
        tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)
    ] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The settings that differ from their defaults, in plain values."""
        chosen = {key: getattr(self, key) for key in Fitting.model_fields}
        usual = {key: known.default for key, known in Fitting.model_fields.items()}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in chosen.items() if v != usual[key]}


class OfFile(Fitting):
    """The weights in a file."""

    file: str
    digest: str | None = None

    def read(self) -> dict[str, Tensor]:
        """Read the weights."""
        return read_weights(Path(self.file), "start.file")


class OfFolder(Fitting):
    """The weights in the folder of a hub's model."""

    folder: str
    digest: str | None = None

    def read(self) -> dict[str, Tensor]:
        """Read the weights."""
        return read_folder(Path(self.folder), "start.folder")

    def unlike(self, model: nn.Module) -> list[str]:
        """Describe how the folder's model computes other outputs from the same parameters, as far as it is known."""
        if not isinstance(model, OfTransformers):
            return []
        return model.unlike(read_config(Path(self.folder), "start.folder"))


class RunPoint(Fitting):
    """Which point of a finished run."""

    replica: Literal["own"] | Annotated[int, Field(ge=0, strict=True)] = "own"
    point: Literal["centroid"] | Annotated[int, Field(ge=0, strict=True)] = "centroid"
    step: Annotated[int, Field(ge=0, strict=True)] | None = None


class OfRun(RunPoint):
    """A point of a finished run."""

    run: str
    digest: str | None = None

    def read(self) -> Reached:
        """Read the points."""
        replica = None if self.replica == "own" else self.replica
        try:
            return read_points(self.run, replica, self.point, self.step, keys=_KEYS)
        except OSError as error:
            raise ExperimentError(f"start.run: {self.run} cannot be read: {error.strerror}") from None


class OfStage(RunPoint):
    """A point of a run of an earlier stage, which is known once that stage is finished."""

    stage: str
    run: str | None = None


StartSource = OfFile | OfFolder | OfRun | OfStage


SOURCES: dict[str, type[StartSource]] = {"stage": OfStage, "file": OfFile, "folder": OfFolder, "run": OfRun}
"""The kinds of source by the key that chooses them."""

_KEYS = {name: f"start.{name}" for name in ("run", "replica", "point", "step")}


def kind_of(path: Path) -> str:
    """Find what a path is.

    Args:
        path: The path.

    Returns:
        "file" for a file of weights, "folder" for that of a hub's model, otherwise "run".
    """
    if path.suffix in SUFFIXES and not os.path.isdir(path):
        return "file"
    return "folder" if folder_files(path) else "run"
