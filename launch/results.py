"""Results of an experiment on disk: its runs, their summary, and the trained models.

What draws and tabulates them is imported when it is asked for, so that no run waits for it to begin.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from basinet.launch.finished.finished_models import check_made, model_of, setup_of
from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.experiment.pipeline import Pipeline
from basinet.sim.models.model import OfTransformers
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.folder import Run, RunFolder, load_run, load_runs
from basinet.sim.run.records import load_record, load_tuning, stages_of
from basinet.sim.setup.setup import Setup
from basinet.sim.setup.weights import write_folder, write_weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

__all__ = ["Results", "export", "failures", "files_of_all", "load", "load_one"]


@dataclass(frozen=True, repr=False)
class Results:
    """The results of an experiment on disk.

    Attributes:
        folder: The experiment's folder.
        report: Its report.
        states: How each run ended: done, diverged or failed.
        failures: A sentence for each run that failed: why, and where its traceback is.
        experiment: The experiment, if it was carried out in this process; its objects are not in the folder.
        left: Runs that other jobs have not finished, if this one executed a part; the report is not written yet then.
    """

    folder: Path
    report: Path
    states: dict[str, str]
    failures: tuple[str, ...] = ()
    experiment: Experiment | Pipeline | None = field(default=None, compare=False)
    left: tuple[str, ...] = ()

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in Counter(self.states.values()).items())
        return f"Results({str(self.folder)!r}: runs: {counts}; report: {str(self.report)!r})"

    def _repr_html_(self) -> str:
        """Show the summary in a notebook."""
        from basinet.analysis.report.page import list_html
        from basinet.analysis.report.report import summary_html

        return summary_html(self.runs) + list_html([repr(self), *self.failures])

    @property
    def runs(self) -> list[Run]:
        """The runs, as read from disk."""
        return load_runs(self.folder)

    @property
    def impossible(self) -> dict[str, str]:
        """Why runs were left out, by their names, where the experiment skips what is impossible."""
        places = {f"{stage.name}/": stage for stage in stages_of(self.folder)} or {"": self.folder}
        known = {prefix: load_record(place) for prefix, place in places.items() if (place / "experiment.yaml").exists()}
        return {f"{p}{run}": why for p, record in known.items() for run, why in record.get("impossible", {}).items()}

    @property
    def tuning(self) -> dict[str, dict[str, Any]]:
        """What was chosen for each run by tuning: values by key; empty if nothing was tuned.

        `basinet.sim.run.records.load_tuning(folder)` has all that was tried.
        """
        groups = load_tuning(self.folder).get("groups", {}).values()
        return {run: dict(found["choice"]) for found in groups for run in found["runs"]}

    def summary(self) -> list[dict[str, Any]]:
        """Summarise the runs over their replicas.

        Returns:
            A row a run: see `basinet.analysis.statistics.summary.summarize`.
        """
        from basinet.analysis.statistics.summary import summarize

        return summarize(self.runs)

    def frame(self) -> "DataFrame":
        """Return all measurements as a frame of pandas (`basinet[frames]`).

        Returns:
            A row for each run, replica and step, and for each agent that was measured there; see
            `basinet.launch.exporting.tidy_frames.tidy_frame`.
        """
        from basinet.launch.exporting.tidy_frames import tidy_frame

        return tidy_frame(self.runs)

    def plot(self, kind: str, ax: "Axes | None" = None, **options: Any) -> "Axes":
        """Draw the runs.

        Args:
            kind: A kind of figure: a function of `basinet.analysis.plots` that draws runs, without `plot_`.
            ax: Where to draw; new axes if None.
            **options: Further arguments of that function, such as `metric`.

        Returns:
            The axes.
        """
        from basinet.launch.exporting.plot_kinds import plot_kind

        return plot_kind(self.runs, kind, ax, options)

    def film(self, run: str | Run, file: str | Path, **options: Any) -> int:
        """Write a film of the graph of a run, whose agents are coloured by what they are at each evaluation.

        Args:
            run: The run, or its name.
            file: The file, .gif, or .mp4 with `basinet[vision]`.
            **options: As for `basinet.analysis.plots.network.graph_film.film_graph`, such as `colour` and `replica`.

        Returns:
            The number of pictures.
        """
        from basinet.analysis.plots.network.graph_film import film_graph

        return film_graph(_found(self, run, _KEYS), file, **options)

    def model(
        self,
        run: str | Run,
        replica: int = 0,
        agent: int | str = "centroid",
        *,
        module: nn.Module | None = None,
        merge: bool = False,
    ) -> nn.Module:
        """Return a trained model of a finished run.

        Args:
            run: The run, or its name.
            replica: Number of the replica.
            agent: An agent's number; or "centroid", the honest agents' average, weighted as in the run: the point of
                the test loss and accuracy.
            module: A module of the run's model, without its adapters, to be copied if the run cannot make one: its
                model or data were objects of another process.
            merge: Whether to fold adapters into the layers.

        Returns:
            A plain module on the CPU, in evaluation mode, in the floating type of the run.

        Raises:
            ExperimentError: The run, replica or agent does not exist, or its model cannot be made.
        """
        found = _found(self, run, _KEYS)
        return model_of(found, self.folder, self.experiment, replica, agent, module, _KEYS, merge=merge)

    def setup(self, run: str | Run) -> Setup:
        """Build the parts of a run again on the CPU, such as its task and its model.

        Args:
            run: The run, or its name.

        Returns:
            The parts.

        Raises:
            ExperimentError: The run does not exist, or its parts cannot be built.
        """
        return setup_of(_found(self, run, _KEYS), self.experiment)

    def state_dict(
        self,
        run: str | Run,
        replica: int = 0,
        agent: int | str = "centroid",
        *,
        module: nn.Module | None = None,
        merge: bool = False,
    ) -> dict[str, Tensor]:
        """Return the state dict of a trained model of a finished run.

        Args:
            run: As for `model`, like the other arguments.
            replica: Number of the replica.
            agent: An agent's number, or "centroid".
            module: A module of the run's model.
            merge: Whether to fold adapters into the layers.

        Returns:
            The model's state dict, which loads into a plain module: buffers and frozen parameters are in it.
        """
        return self.model(run, replica, agent, module=module, merge=merge).state_dict()


def load(folder: str | Path) -> Results:
    """Read the folder of an experiment, finished or not.

    Args:
        folder: A folder that `run` wrote, or that of a single run.

    Returns:
        Its results.
    """
    folder = Path(folder)
    states = {run.name: str(run.status["state"]) for run in load_runs(folder)}
    return Results(folder, folder / "report.html", states, failures(folder, states))


def export(
    folder: str | Path,
    file: str | Path,
    replica: int = 0,
    agent: int | str = "centroid",
    *,
    merge: bool = False,
    transformers: bool = False,
) -> dict[str, Tensor]:
    """Write a trained model of a finished run to a file, which loads into the plain model.

    Args:
        folder: The folder of a run.
        file: The file: .safetensors, or .pt, .pth or .bin for torch, which reads it with `weights_only=True`. Both say
            which run, step, replica and agent the model is of, and how it was made: the metadata of a safetensors file,
            or the attribute `about` of what torch reads.
        replica: Number of the replica.
        agent: An agent's number; "centroid"; or "all" for the centroid and every agent, each in a file of its own:
            model-centroid.safetensors, model-agent-0.safetensors, …
        merge: Whether to fold adapters into the layers, so that the model needs none.
        transformers: Whether to write a folder instead, which `from_pretrained` of the package transformers reads, for
            a model that this has, such as `llama`; adapters are folded in.

    Returns:
        The state dict that was written; of all, the last one.

    Raises:
        ExperimentError: The model does not exist, or it cannot be written there.
    """
    results, run = load_one(folder)
    file = Path(file)
    if agent == "all":
        state: dict[str, Tensor] = {}
        for point, place in files_of_all(run, file).items():
            state = export(folder, place, replica, point, merge=merge, transformers=transformers)
        return state
    if isinstance(agent, str) and agent != "centroid":
        raise ExperimentError(f"--agent: got {agent}; {nearest(agent, ('centroid', 'all', 'the number of an agent'))}")
    if file.is_dir() and not transformers:
        raise ExperimentError(f"--out: {file} is a folder; choose a file")
    about = {"run": run.name, "step": run.status["step"], "replica": replica, "agent": agent}
    described = {key: str(value) for key, value in about.items()}
    model = model_of(run, results.folder, None, replica, agent, None, _OPTIONS, merge=merge or transformers)
    if not transformers:
        state = model.state_dict()
        recorded = run.status.get("model")
        if recorded is not None and (merge or not run.config.get("adapters")):
            given = {key: run.config[key] for key in ("model", "seed") if key in run.config}
            described["made"] = json.dumps({"config": given, "recorded": recorded})
        write_weights(state, file, described, "--out")
        return state
    if not isinstance(model, OfTransformers):
        raise ExperimentError(f"--transformers: {type(model).__name__} is no model of transformers, as llama is")
    task = results.setup(run).task
    check_made(task, run)
    return write_folder(model, file, getattr(task, "tokens", None), described)


def files_of_all(run: Run, file: Path) -> dict[int | str, Path]:
    """Name the files of the centroid and of each agent of a run.

    Args:
        run: The run.
        file: The file of a single model.

    Returns:
        Files by agent; with personal parameters there is no centroid.
    """
    points: list[int | str] = [] if run.config.get("personal") else ["centroid"]
    points += range(run.status.get("agents", 0))
    return {
        point: file.with_stem(f"{file.stem}-{point if isinstance(point, str) else f'agent-{point}'}")
        for point in points
    }


def load_one(folder: str | Path) -> tuple[Results, Run]:
    """Read the folder of a single run.

    Args:
        folder: The folder.

    Returns:
        The results, and the run.

    Raises:
        ExperimentError: It holds none, or several.
    """
    results = load(folder)
    if len(results.states) > 1:
        raise ExperimentError(f"RUN: {folder} holds several runs; give the folder of one: {', '.join(results.states)}")
    (run,) = results.runs
    return results, run


_KEYS = {"run": "run", "replica": "replica", "point": "agent", "step": "step"}
_OPTIONS = {"run": "RUN", "replica": "--replica", "point": "--agent", "step": "step"}
"""Names of the arguments in messages, in Python and on the command line."""


def failures(folder: Path, states: Mapping[str, str]) -> tuple[str, ...]:
    """Return why runs failed, and where they resume.

    Args:
        folder: The experiment's folder.
        states: How each run ended, by name.

    Returns:
        A sentence for each failed run.
    """
    failed = [folder / name for name, state in states.items() if state == "failed"]
    return tuple(
        f"{path.name} failed: {_reason(load_run(path))}; {_resumption(path)}"
        if path.is_dir()
        else f"{path.name} failed: its folder {path} was removed during the run; the same command begins it anew"
        for path in failed
    )


def _reason(run: Run) -> str:
    if run.status["state"] != "failed":
        return f"{run.path / 'status.json'}, which would say why, could not be written"
    return f"{run.status.get('error')} (traceback in {run.path / 'status.json'})"


def _resumption(run: Path) -> str:
    """Return where a run resumes."""
    folder = RunFolder(run)
    # After a full disk, there may be only the checkpoint before the last.
    found = next((file for file in (folder.checkpoint, folder.before) if file.exists()), None)
    try:
        step = load_checkpoint(found)["step"] if found else 0
    except ExperimentError as damaged:
        return str(damaged)
    return f"the same command goes on from step {step}" if step else "the same command begins it anew"


def _found(results: Results, run: str | Run, keys: Mapping[str, str]) -> Run:
    """Find a run."""
    name = run if isinstance(run, str) else run.name
    found = next((known for known in results.runs if known.name == name), None)
    if found is None:
        raise ExperimentError(f"{keys['run']}: there is no run '{name}'; {nearest(name, results.states)}")
    return found
