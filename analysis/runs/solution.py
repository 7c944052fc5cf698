"""What a replica of a finished run has found: the models of its centroid and of its agents, to be applied to data."""

from collections.abc import Iterator
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from basinet.analysis.runs.context import AnalysisContext
from basinet.sim.agents.state import load_vector, take_rows
from basinet.sim.experiment.config import Config
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.folder import Run, RunFolder, load_run
from basinet.sim.run.records import FINISHED
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.sharing import Shared
from basinet.sim.tasks import Task

__all__ = ["Solution", "Solutions", "is_solved", "replicas_of"]


def is_solved(run: Run, *tasks: str) -> bool:
    """Return whether a run of one of some tasks has finished, with a centroid.

    Args:
        run: The run.
        *tasks: Names of tasks.

    Returns:
        Whether it has.
    """
    task = run.config.get("task")
    name = task.get("name") if isinstance(task, dict) else task
    return name in tasks and run.status.get("state") in FINISHED and not run.config.get("personal")


def replicas_of(run: Run) -> list[int]:
    """List the replicas that did not diverge.

    Args:
        run: The run.

    Returns:
        Their indices.
    """
    return [replica for replica in range(run.config.get("replicas", 1)) if replica not in run.diverged]


class Solution:
    """The end of a replica of a finished run, on the CPU and in evaluation mode.

    Args:
        path: The folder of the run.
        replica: Index of the replica.
        dtype: Floating type, such as "float32"; by default that of the run's analysis.
        shared: Parts that it may share with runs opened before.

    Attributes:
        replica: Index of the replica.
        context: The parts of the run, for its analysis.
    """

    def __init__(self, path: Path, replica: int, dtype: str | None = None, shared: Shared | None = None) -> None:
        self.replica = replica
        here = {"name": "inline", "device": "cpu", "threads": 1, "readers": 0}
        run = load_run(path)
        kind = {} if dtype is None else {"analysis_dtype": dtype}
        config = Config.parse(
            {**run.config, "analysis": [], "analysis_samples": 1, **kind, "runtime": {**run.config["runtime"], **here}}
        )
        self.context = AnalysisContext(build_setup(config, shared, trial=False).with_frozen(path))
        self._checkpoint = RunFolder(path).checkpoint

    def of(self, replica: int) -> "Solution":
        """Return the end of another replica, with the same parts.

        Args:
            replica: Its index.

        Returns:
            The solution.
        """
        other = copy(self)
        other.replica = replica
        other.__dict__.pop("_state", None)
        return other

    @property
    def task(self) -> Task:
        """The task of the run."""
        return self.context.task

    def centroid(self) -> nn.Module:
        """Return the model of the centroid, the honest agents' weighted mean."""
        return next(self._models(*self.context.centroid(self._state, self.replica)))

    def agents(self) -> Iterator[nn.Module]:
        """Iterate over the models of the honest agents: one module, which holds that of each in turn."""
        yield from self._models(*self.context.agents(self._state, self.replica))

    @cached_property
    def _state(self) -> dict[str, Any]:
        agents = self.context.setup.num_agents
        rows = slice(self.replica * agents, (self.replica + 1) * agents)
        return take_rows(load_checkpoint(self._checkpoint), rows)

    def _models(self, points: Tensor, buffers: dict[str, Tensor]) -> Iterator[nn.Module]:
        for place, point in enumerate(points):
            yield load_vector(self.context.evaluated, point, {name: b[place] for name, b in buffers.items()})


class Solutions:
    """Opens finished runs one after another: each once, and those of the same task with the same data.

    Only what was opened last is kept, since data may take much memory.

    Args:
        dtype: See `Solution`.
    """

    def __init__(self, dtype: str | None = None) -> None:
        self._dtype = dtype
        self._last: Solution | None = None
        self._path: Path | None = None
        self._task: Any = None
        self._shared = Shared()

    def open(self, run: Run, replica: int) -> Solution:
        """Open a replica of a run.

        Args:
            run: The run.
            replica: Index of the replica.

        Returns:
            Its end.
        """
        if self._last is None or self._path != run.path:
            self._last, self._path = None, run.path  # frees it before the next is made
            task = [run.config.get(key) for key in ("task", "seed")]
            if task != self._task:
                self._shared, self._task = Shared(), task
            self._last = Solution(run.path, replica, self._dtype, self._shared)
        return self._last.of(replica)
