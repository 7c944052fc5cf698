"""The ways to start an experiment on several machines, and the checks of what is asked of them."""

import re
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

from basinet.launch.clusters.kuberay import kuberay_manifest
from basinet.launch.clusters.machines import Job, Machines
from basinet.launch.clusters.ray_job import ray_job
from basinet.launch.clusters.ray_script import ray_script
from basinet.launch.clusters.slurm_script import slurm_script
from basinet.launch.clusters.torchrun_script import torchrun_script
from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.experiment.mistakes import count_of
from basinet.sim.experiment.pipeline import read_experiment
from basinet.sim.run.execution.part import Part
from basinet.sim.runtimes.runtime import runtime_of
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.sharing import Shared

__all__ = ["RECIPES", "Recipe", "script"]


@dataclass(frozen=True)
class Recipe:
    """A way to start an experiment.

    Attributes:
        write: Returns the script.
        settings: Returns the runtime's settings, `key=value`, for some machines.
        options: Attributes of a job that only some recipes use, and this one does.
        prepares: Whether what the experiment gives as `runtime.env` is set up for the whole job.
    """

    write: Callable[[Job], str]
    settings: Callable[[Machines], list[str]]
    options: tuple[str, ...] = ()
    prepares: bool = False


def _on_ranks(_: Machines) -> list[str]:
    return ["runtime.name=torchrun"]


def _on_actors(machines: Machines) -> list[str]:
    shares = {group.gpus / group.workers for group in machines.groups}
    words = ["runtime.name=ray", f"runtime.actors={machines.total}", f"runtime.cpus_per_actor={machines.cpus}"]
    return words + ([f"runtime.gpus_per_actor={max(shares):g}"] if any(shares) else [])


RECIPES: Mapping[str, Recipe] = {
    "ray": Recipe(ray_script, _on_actors),
    "torchrun": Recipe(torchrun_script, _on_ranks),
    "slurm": Recipe(slurm_script, _on_ranks, ("memory", "time", "array", "requeue", "slurm")),
    "ray-job": Recipe(ray_job, _on_actors, prepares=True),
    "kuberay": Recipe(kuberay_manifest, _on_actors, ("memory", "time", "image", "volume"), prepares=True),
}
"""Recipes by name."""


def script(name: str, job: Job, **options: Any) -> str:
    """Check an experiment, and return what starts it.

    Args:
        name: A name in `RECIPES`.
        job: The experiment and the machines.
        **options: Attributes of the job that only some recipes use; None if not given.

    Returns:
        A script for bash, or a manifest of Kubernetes.

    Raises:
        ExperimentError: The recipe does not exist or has no such option, something in the experiment is not allowed, or
            there are more workers than agents.
    """
    if name not in RECIPES:
        raise ExperimentError(f"launch: nothing is started by '{name}'; {nearest(name, RECIPES)}")
    recipe, machines = RECIPES[name], job.machines
    given = {key: value for key, value in options.items() if value is not None}
    for key in [*given, *(["memory"] if machines.memory else [])]:
        if key not in recipe.options:
            able = " and ".join(other for other in RECIPES if key in RECIPES[other].options)
            raise ExperimentError(f"--{key}: {name} takes none; {able} would")
    if not re.fullmatch(r"(\d{1,3}-)?\d{1,2}:\d\d:\d\d", given.get("time", job.time)):
        raise ExperimentError(f"--time: got {given['time']}; allowed are HH:MM:SS and D-HH:MM:SS")
    settings = recipe.settings(machines)
    decided = {_key(word) for word in settings}
    words = [*(word for word in job.words if _key(word) not in decided), *settings]
    with redirect_stdout(sys.stderr):  # of the user's code; standard output is for the script
        env = _check(job, words, given.get("array"))
    if recipe.prepares and env:
        words = [*(word for word in words if not word.startswith("runtime.env")), "runtime.env=null"]
        given["env"] = env
    return recipe.write(replace(job, words=tuple(words), **given))


def _check(job: Job, words: list[str], array: int | None) -> dict[str, Any]:
    """Check the experiment; return the environment of its runs."""
    experiment, machines = read_experiment(job.file, words), job.machines
    if array is not None:
        Part.parse(f"1/{array}", experiment)
        if array > len(experiment.runs):
            raise ExperimentError(f"--array: got {array}; allowed are at most {len(experiment.runs)}, one per run")
    shared = Shared()
    env: dict[str, Any] = {}
    for config in experiment.runs.values():
        runtime_of(config.runtime).check_env()
        rows = config.replicas * build_setup(config, shared).num_agents
        if machines.total > rows:
            raise ExperimentError(
                f"--workers: got {machines.total} on {count_of(machines.nodes, 'machine')}; allowed are at most"
                f" {rows}, one per agent of each replica"
            )
        env = {} if config.runtime.env is None else config.runtime.env.given()
    return env


def _key(word: str) -> str:
    return word.partition("=")[0]
