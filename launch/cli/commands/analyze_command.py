"""`basinet analyze`: measure finished runs again."""

import argparse
from typing import Any

from basinet.analysis.report.report import write_report
from basinet.analysis.runs.measure_again import measure_again
from basinet.analysis.runs.solution_barriers import measure_between
from basinet.analysis.runs.trajectory_surface import measure_trajectories
from basinet.analysis.statistics.incidents import incidents
from basinet.launch.cli.output import DONE, say, say_some
from basinet.launch.cli.tables import write_summary
from basinet.launch.progress_bar import bar
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.words import override
from basinet.sim.run.folder import load_runs
from basinet.sim.runtimes.torchrun import follows, together
from basinet.sim.runtimes.world import num_ranks

__all__ = ["execute"]

_SHARED = ("analysis_samples", "analysis_mode", "analysis_dtype")
"""Options that also apply to the loss in planes and on paths."""


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    only: list[Any] | None = None
    if options.only is not None:
        asked: dict[str, Any] = {}
        override(asked, [f"analysis=[{options.only}]"])
        only = asked["analysis"] or [""]
    paths = only is not None and "trajectory" in only
    if only is not None and paths:
        only = [word for word in only if word != "trajectory"] or None
    settings = {
        "analysis": only,
        "analysis_points": ["centroid", "agents"] if options.agents else None,
        "analysis_views": ["all", "own"] if options.own else None,
        "analysis_samples": options.samples,
        "analysis_mode": options.mode,
        "analysis_dtype": options.dtype,
        "analysis_products": options.products,
    }
    settings = {key: value for key, value in settings.items() if value is not None}
    again = only is not None or not (options.between or paths)
    for asked, option in ((options.agents, "--agents"), (options.own, "--own")):
        if asked and not again:
            raise ExperimentError(
                f"{option}: the loss on trajectories and between solutions is that of the centroids under all samples;"
                " leave it out, or name measures with --only"
            )
    shared = {key: settings[key] for key in _SHARED if key in settings}

    def measure() -> list[float]:
        explained: list[float] = []
        with bar("analyze") as progress:
            if again:
                measure_again(options.folder, settings, progress)
            if paths:
                explained = measure_trajectories(options.folder, shared, progress).plane.explained.tolist()
            if options.between:
                measure_between(options.folder, shared, progress)
        return explained

    explained = together(measure) if num_ranks() > 1 else measure()
    if follows():
        return DONE
    if explained:
        first, second = (100 * part for part in explained)
        say(f"trajectory: two principal directions hold {first:.1f} % and {second:.1f} % of the variance")
    folder = options.folder.parent if (options.folder.parent / "experiment.yaml").exists() else options.folder
    say(f"report: {write_report(folder)}")
    runs = load_runs(options.folder)
    write_summary(runs, options.json)
    say_some(incidents(runs))
    return DONE
