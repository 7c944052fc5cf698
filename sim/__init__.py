"""The simulator: experiments, agents, tasks, models, engines, runtimes and run folders."""

from typing import TYPE_CHECKING

from basinet.exports import lazy

if TYPE_CHECKING:
    from basinet.sim.experiment.component import ExperimentError
    from basinet.sim.experiment.experiment import Experiment
    from basinet.sim.run.folder import Run, load_run, load_runs
    from basinet.sim.run.simulation import Interrupted, RunFailed
    from basinet.sim.tasks.supervised import supervised
    from basinet.sim.tasks.task import Task

__all__ = [
    "Experiment",
    "ExperimentError",
    "Interrupted",
    "Run",
    "RunFailed",
    "Task",
    "load_run",
    "load_runs",
    "supervised",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "basinet.sim.experiment.component": ("ExperimentError",),
        "basinet.sim.experiment.experiment": ("Experiment",),
        "basinet.sim.run.folder": ("Run", "load_run", "load_runs"),
        "basinet.sim.run.simulation": ("Interrupted", "RunFailed"),
        "basinet.sim.tasks.supervised": ("supervised",),
        "basinet.sim.tasks.task": ("Task",),
    },
)
