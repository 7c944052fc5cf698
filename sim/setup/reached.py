"""Points reached by finished runs: centroids or agents, as parameters or as a plain module."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from basinet.sim.agents.state import measured_parameters, weighted_mean
from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.experiment.digest import digest
from basinet.sim.models.freezing import frozen_parameters
from basinet.sim.models.loading import load_values
from basinet.sim.models.modules import copy_model, move_model
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint, load_frozen
from basinet.sim.run.folder import RunFolder, load_run
from basinet.sim.run.records import FINISHED

__all__ = ["Reached", "layout_of", "read_points", "trained_model"]


@dataclass(frozen=True)
class Reached:
    """Points, one for each replica or one for all.

    Attributes:
        parameters: [S, P].
        buffers: The model's buffers there, by name, [S, ...].
        layout: Description of the model; see `basinet.sim.setup.setup.Setup.layout`.
        dtype: Floating type of the run.
        frozen: The frozen parameters, which all replicas share, by name; None if the run did not write them.
        kept: Identities of what the run's task has made of its data; see `basinet.sim.tasks.kept.Kept`.
    """

    parameters: Tensor
    buffers: dict[str, Tensor]
    layout: dict[str, Any]
    dtype: torch.dtype
    frozen: dict[str, Tensor] | None = None
    kept: dict[str, str] = field(default_factory=dict)

    def values(self, index: int) -> dict[str, Tensor]:
        """Return the values of a point by name: parameters, frozen ones and buffers.

        Args:
            index: The point.

        Returns:
            Tensors by name.
        """
        shapes = self.layout["shapes"]
        parts = torch.split(self.parameters[index], [math.prod(shape) for shape in shapes.values()])
        trained = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        return trained | (self.frozen or {}) | {name: b[index] for name, b in self.buffers.items()}

    @property
    def digest(self) -> str:
        """A digest that identifies the points."""
        return digest([self.parameters, self.buffers, self.layout])


def layout_of(model: nn.Module) -> dict[str, Any]:
    """Describe the structure of a model in plain values.

    Args:
        model: The model.

    Returns:
        `shapes` of its trainable parameters by name; `frozen`, a digest of the others.
    """
    return {
        "shapes": {name: list(p.shape) for name, p in model.named_parameters() if p.requires_grad},
        "frozen": digest(frozen_parameters(model)),
    }


def read_points(
    folder: str | Path,
    replica: int | None,
    point: Any,
    step: int | None = None,
    *,
    keys: Mapping[str, str],
) -> Reached:
    """Read points of a run.

    Args:
        folder: The run's folder.
        replica: The replica to read; None reads one point for every replica.
        point: "centroid", the honest agents' average with the weights of the run; or an agent's number.
        step: The step of a kept checkpoint; None for the last one.
        keys: The names of `run`, `replica`, `point` and `step` in error messages.

    Returns:
        The points.

    Raises:
        ExperimentError: The point does not exist.
    """
    try:
        run = load_run(folder)
    except FileNotFoundError:
        inside = sorted(path.parent.name for path in Path(folder).glob("*/config.yaml"))
        hint = f"; its runs are {', '.join(inside)}" if inside else ""
        raise ExperimentError(f"{keys['run']}: {folder} is not the folder of a run{hint}") from None
    if run.status["state"] not in FINISHED:
        raise ExperimentError(f"{keys['run']}: {folder} is not finished, but {run.status['state']}")
    total, agents = run.config["replicas"], run.status["agents"]
    if replica is not None and replica not in range(total):
        raise ExperimentError(
            f"{keys['replica']}: got {replica}, but {folder} has {total} replica{'' if total == 1 else 's'}; allowed"
            f" {_numbers(total)}"
        )
    if point == "centroid" and run.config.get("personal"):
        raise ExperimentError(
            f"{keys['point']}: agents of {folder} have personal parameters and so no centroid; allowed"
            f" {_numbers(agents)}"
        )
    if point != "centroid" and (isinstance(point, bool | float) or point not in range(agents)):
        raise ExperimentError(
            f"{keys['point']}: got {point}, but {folder} has {agents} agent{'' if agents == 1 else 's'};"
            f" {nearest(str(point), ['centroid', _numbers(agents).partition(' ')[2]])}"
        )
    writer = RunFolder(run.path)
    file = writer.checkpoint if step is None else writer.kept(step)
    if step is not None and not file.exists():
        kept = ", ".join(path.stem.removeprefix("step-") for path in writer.checkpoints()[:-1])
        raise ExperimentError(f"{keys['step']}: got {step}, but {folder} kept {kept or 'only its last state'}")
    saved = load_checkpoint(file)
    chosen = range(total) if replica is None else [replica]
    gone = next((replica for replica in chosen if replica in saved["diverged"]), None)
    if gone is not None:
        raise ExperimentError(f"{keys['replica']}: replica {gone} of {folder} has diverged")
    if "layout" not in saved:  # written by an earlier version
        raise ExperimentError(f"{keys['run']}: {folder} does not record its model; run it again with --fresh")
    rows = saved["rows"]

    def points(values: Tensor) -> Tensor:
        found = []
        for replica in chosen:
            mine = slice(replica * agents, (replica + 1) * agents)
            if point == "centroid":
                weights = rows["centroid_weights"][mine]
                # Agents of weight 0, such as attackers, may be anywhere.
                found.append(weighted_mean(values[mine][weights > 0], weights[weights > 0]))
            else:
                found.append(values[mine][point : point + 1])
        return torch.cat(found)

    buffers = {name: points(b) for name, b in rows["buffers"].items()}
    frozen = load_frozen(writer.frozen, saved["layout"]["frozen"])
    values, kept = points(measured_parameters(saved)), run.status.get("kept", {})
    return Reached(values, buffers, saved["layout"], rows["parameters"].dtype, frozen, kept)


def trained_model(folder: Path, module: nn.Module, replica: int, point: Any, *, keys: Mapping[str, str]) -> nn.Module:
    """Load a point reached by a run into a copy of a module.

    Args:
        folder: The run's folder.
        module: A module of the run's model; not changed.
        replica: The replica's number.
        point: "centroid", or an agent's number.
        keys: See `read_points`.

    Returns:
        A copy in evaluation mode, in the floating type of the run, on the CPU.

    Raises:
        ExperimentError: The point does not exist, or the module does not match the model.
    """
    reached = read_points(folder, replica, point, keys=keys)
    model = move_model(copy_model(module), "cpu")
    frozen = layout_of(model)["frozen"]
    move_model(model, "cpu", reached.dtype)
    values = reached.values(0)
    if reached.frozen is None:
        if frozen != reached.layout["frozen"]:
            raise ExperimentError(
                f"module: {type(module).__name__} has other values of frozen parameters than the model of {folder}"
            )
        values |= frozen_parameters(model)
    misfit = load_values(model, values)
    if misfit:
        buffers = dict(model.named_buffers()).keys() | reached.buffers.keys()
        names = {*misfit.missing, *misfit.unexpected, *misfit.other}
        what = "other buffers" if names <= buffers else "parameters of other names or shapes"
        raise ExperimentError(f"module: {type(module).__name__} has {what} than the model of {folder}: {misfit}")
    return model.eval()


def _numbers(count: int) -> str:
    """Say which numbers of things there are: "is 0", "are 0 to 3"."""
    return "is 0" if count == 1 else f"are 0 to {count - 1}"
