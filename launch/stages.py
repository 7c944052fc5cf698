"""Experiments in stages: all stages are checked before the first one begins."""

from collections.abc import Callable, Iterator
from pathlib import Path

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.digest import importable, plain
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.experiment.pipeline import Pipeline
from basinet.sim.run.claim import forget, found_modules, versions
from basinet.sim.run.files import is_leftover, sealed_yaml, write_atomically
from basinet.sim.run.records import PIPELINE, stages_of
from basinet.sim.run.simulation import build
from basinet.sim.setup.setup import Setup

__all__ = ["claim_stages", "plan", "plan_all"]


def plan(
    pipeline: Pipeline,
    *,
    check: Callable[[Setup], None],
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[tuple[str, dict[str, Setup], dict[str, str]]]:
    """Check all stages, before the first one is carried out.

    Args:
        pipeline: The stages.
        check: Raises if something else is impossible, such as the analysis.
        progress: Called with the number of runs built so far.

    Yields:
        The name of each stage, the parts of its runs, and why runs are left out.

    Raises:
        ExperimentError: Something is impossible.
    """
    expected: dict[str, dict[str, Setup]] = {}
    done = 0
    for name, experiment in pipeline.stages.items():
        sources = pipeline.sources[name]
        points = {
            source: expected[source.stage][source.run].expected()
            for source in sources.values()
            if source.run in expected[source.stage]
        }
        starts = {
            run: start.expecting(*source, points[source])
            for run, source in sources.items()
            if (start := experiment.runs[run].start) is not None and source in points
        }
        try:
            setups, impossible = build(experiment.with_starts(starts), check=check)
        except ExperimentError as error:
            raise ExperimentError(f"{name}: {error}") from error
        orphan = next((run for run in setups if run in sources and run not in starts), None)
        if orphan is not None:
            raise ExperimentError(f"{name}: start.stage: {orphan} starts from {sources[orphan].run}, which is left out")
        expected[name] = setups
        done += len(experiment.runs)
        progress(done)
        yield name, setups, impossible


def plan_all(
    experiment: Experiment | Pipeline,
    *,
    check: Callable[[Setup], None],
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, tuple[dict[str, Setup], dict[str, str]]]:
    """Check an experiment, of stages or not, without carrying anything out.

    Args:
        experiment: The experiment.
        check: Raises if something else is impossible, such as the analysis.
        progress: Called with the number of runs built so far.

    Returns:
        For each stage ("" without stages), the parts of its runs, and why runs are left out.

    Raises:
        ExperimentError: Something is impossible.
    """
    if isinstance(experiment, Pipeline):
        return {name: (found, out) for name, found, out in plan(experiment, check=check, progress=progress)}
    return {"": build(experiment, check=check, progress=progress)}


def claim_stages(pipeline: Pipeline, out: Path, *, fresh: bool) -> None:
    """Write the record of an experiment in stages into its folder.

    Args:
        pipeline: The stages.
        out: The folder.
        fresh: Whether to discard what the stages hold.

    Raises:
        ExperimentError: The folder holds something else.
    """
    if out.exists() and not out.is_dir():
        raise ExperimentError(f"--out: {out} is a file; choose a folder")
    out.mkdir(parents=True, exist_ok=True)
    record = out / PIPELINE
    if not record.exists() and any(not is_leftover(entry) for entry in out.iterdir()):
        raise ExperimentError(f"--out: {out} holds something else than stages; choose another folder")
    if fresh and record.exists():
        for folder in {*stages_of(out), *(out / name for name in pipeline.stages)}:
            if folder.is_dir():
                forget(folder)
    runs = [config.describe() for config in pipeline.runs.values()]
    described = {
        "runs": [*pipeline.stages],
        **plain(pipeline.description, importable),
        **found_modules(runs, out),
        "versions": versions(),
    }
    write_atomically(record, sealed_yaml(described))
