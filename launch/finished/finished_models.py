"""Trained models of finished runs, and of files that were exported: made from records, or with the data of the run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import KINDS, Config
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.experiment.pipeline import Pipeline
from basinet.sim.models.adapters import added_parameters, attach
from basinet.sim.models.adapters import merge as merge_adapters
from basinet.sim.models.loading import load_values
from basinet.sim.models.model import MODELS
from basinet.sim.models.modules import copy_model, move_model
from basinet.sim.run.folder import Run, RunFolder
from basinet.sim.setup.build import build_setup, model_without_data
from basinet.sim.setup.reached import trained_model
from basinet.sim.setup.setup import Setup
from basinet.sim.setup.weights import read_about, read_weights
from basinet.sim.tasks import Task
from basinet.sim.tasks.kept import identities, made_otherwise

__all__ = ["check_made", "model_of", "read_exported", "setup_of"]


def model_of(
    run: Run,
    folder: Path,
    experiment: Experiment | Pipeline | None,
    replica: int,
    agent: int | str,
    module: nn.Module | None,
    keys: Mapping[str, str],
    *,
    merge: bool,
) -> nn.Module:
    """Return a trained model of a finished run.

    Args:
        run: The run.
        folder: The experiment's folder, for messages.
        experiment: The experiment, if it was carried out in this process.
        replica: Number of the replica.
        agent: An agent's number, or "centroid".
        module: A module of the run's model, without its adapters; None to make one.
        keys: Names of the arguments in messages.
        merge: Whether to fold adapters into the layers.

    Returns:
        A plain module on the CPU, in evaluation mode, in the floating type of the run.

    Raises:
        ExperimentError: The replica or agent does not exist, or the model cannot be made.
    """
    if module is None:
        try:
            module = _without_data(run, experiment) or setup_of(run, experiment).plain_model()
        except ExperimentError as error:
            raise ExperimentError(
                f"{error}; from Python, basinet.load({str(folder)!r}).model(…, module=…) takes a module of the"
                " same structure instead"
            ) from error
    elif (adapters := run.config.get("adapters")) and not added_parameters(module):
        module = attach(copy_model(module), KINDS["adapters"].parse(adapters).make())
    model = trained_model(run.path, module, replica, agent, keys=keys)
    try:
        return merge_adapters(model) if merge else model
    except ValueError as error:
        raise ExperimentError(f"merge: {error}") from None


def read_exported(file: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Read a model from a file that `export` wrote.

    Args:
        file: The file.

    Returns:
        The model, in evaluation mode, and what its run's task gave to its maker, such as `input_shape`.

    Raises:
        ExperimentError: The file is no such file, or its model is not one of Basinet's: a file may come from anywhere,
            and must not choose what code is run.
    """
    file = Path(file)
    state = read_weights(file, "model")
    try:
        made = json.loads(read_about(file, "model")["made"])
        given, recorded = made["config"], made["recorded"]
        component = given.get("model") or recorded["name"]
        name = component["name"] if isinstance(component, dict) else component
    except (LookupError, TypeError, ValueError):
        raise ExperimentError(
            f"model: {file} does not say how its model is made; allowed are files that `basinet export` wrote of a run"
            " without adapters, or with --merge"
        ) from None
    if name not in MODELS:
        raise ExperimentError(f"model: {file} is of {name}, which is no model of Basinet; give the folder of its run")
    model = _made_again({"model": component, "seed": given.get("seed", 0)}, recorded)
    if model is None:
        raise ExperimentError(f"model: {file} is of {name}, whose sizes the data decide; give the folder of its run")
    move_model(model, "cpu", next((value.dtype for value in state.values() if value.is_floating_point()), None))
    if misfit := load_values(model, state):
        raise ExperimentError(f"model: {file} holds other weights than those of its model: {misfit}")
    return model.eval(), recorded["arguments"]


def check_made(task: Task, run: Run) -> None:
    """Raise if a task has made something else of its data than a run began with, such as other tokens.

    Args:
        task: The task.
        run: The run.

    Raises:
        ExperimentError: It has.
    """
    for setting in made_otherwise(run.status.get("kept", {}), identities(task.kept)):
        raise ExperimentError(
            f"RUN: {run.path} began with other {setting} (task.{setting}) than are made of the data now, and does not"
            f" hold them in {RunFolder(run.path).kept_of_task(setting).name}"
        )


def _without_data(run: Run, experiment: Experiment | Pipeline | None) -> nn.Module | None:
    """Make the model of a run from what its folder records, if that is enough."""
    recorded = run.status.get("model")
    if recorded is None or experiment is not None:
        return None
    return _made_again({key: run.config[key] for key in _OF_THE_MODEL if key in run.config}, recorded)


_OF_THE_MODEL = ("adapters", "frozen", "model", "seed", "trained")
"""Keys of an experiment that decide what its model is, up to the values."""


def _made_again(given: Mapping[str, Any], recorded: Mapping[str, Any]) -> nn.Module | None:
    """Make a model of some settings; None if its sizes depend on data."""
    others = {"task": "digits", "topology": "ring", "strategy": "isolated"}  # any will do
    return model_without_data(Config.parse({**others, **given}), recorded)


def setup_of(run: Run, experiment: Experiment | Pipeline | None) -> Setup:
    """Build the parts of a run again on the CPU.

    Args:
        run: The run.
        experiment: The experiment, if it was carried out in this process.

    Returns:
        The parts.

    Raises:
        ExperimentError: They cannot be built.
    """
    # Only task and model are needed, which any machine can make.
    config = _config(run) if experiment is None else experiment.runs[run.name]
    here = config.runtime.model_copy(update={"name": "inline", "device": "cpu", "actors": 1})
    # The values are in the folder, wherever they started.
    return build_setup(config.model_copy(update={"runtime": here, "start": None}), trial=False)


def _config(run: Run) -> Config:
    """Return the configuration of a run with what its folder keeps of what was made of the data."""
    folder, given = RunFolder(run.path), run.config
    files = {setting: folder.kept_of_task(setting) for setting in run.status.get("kept", {})}
    kept = {setting: str(file) for setting, file in files.items() if file.exists()}
    return Config.parse({**given, "analysis": [], **({"task": {**given["task"], **kept}} if kept else {})})
