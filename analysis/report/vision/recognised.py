"""The figures of the phases that runs have recognised in test videos."""

import logging
from collections.abc import Sequence

from basinet.analysis.drawing.choice import WIDE
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.panels import finish_panels, grid
from basinet.analysis.plots.vision.phase_recognition import MOST_RECOGNISED, draw_phases, plot_confusion
from basinet.analysis.runs.phases_of_runs import confusion_rows, recognised_phases, recognises_phases
from basinet.analysis.runs.solution import replicas_of
from basinet.analysis.statistics.ranking import leaders
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.mistakes import count_of
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row

__all__ = ["phase_drawings"]

_log = logging.getLogger(__name__)


def phase_drawings(runs: Sequence[Run]) -> list[Drawing]:
    """Draw the phases of a video of each test set, and which phases are taken for which.

    Args:
        runs: The runs; of many, the best of each strategy are drawn.

    Returns:
        The figures; none if no run recognises phases, if runs are tested on different videos, or if what they were
        trained on is not there any more.
    """
    ran = [run for run in runs if recognises_phases(run) and replicas_of(run)]
    if len(ran) > MOST_RECOGNISED:
        ran = [ran[place] for place in leaders(ran)[:MOST_RECOGNISED]]
    try:
        found = recognised_phases(ran)
    except (ExperimentError, ImportError, OSError) as error:
        _log.warning("recognised phases are not drawn: %s", error)
        return []
    if found is None:
        return []
    sets = [*dict.fromkeys(found.sets)]
    height = 0.9 + 0.17 * len(found.phases)
    over_time, axes = grid(len(sets), share_x=False, share_y=False, width=WIDE / len(sets), height=height)
    for name, ax in zip(sets, axes, strict=False):
        draw_phases(found, found.sets.index(name), ax, legend=False)
        ax.set_title(name.replace("_", " "), fontsize="medium")
    finish_panels(over_time, axes, share_x=False)
    rows = confusion_rows(found)
    own = [*found.predicted]
    first = sets[0]
    confused, axes = grid(len(own), share_x=False, share_y=True, width=WIDE / min(2, len(own)), height=0.9 + height)
    for label, ax in zip(own, axes, strict=False):
        plot_confusion(rows, label=label, of=first, ax=ax, colorbar=False)
        ax.set_title(label, fontsize="medium")
    finish_panels(confused, axes, share_x=False)
    whose = "the centroid of the first replica that did not diverge"
    times = [
        {"set": found.sets[video], "video": int(video), "phase": found.phases[phase]}
        | {label: found.phases[each[place]] for label, each in found.predicted.items()}
        for place, (video, phase) in enumerate(zip(found.video, found.phase, strict=True))
    ]
    return [
        Drawing(
            "phases",
            "Phases over time",
            f"The phases of the first video of each test set (grey), and those that {whose} recognises in each frame by"
            " prompts of unseen wording.",
            over_time,
            times,
        ),
        Drawing(
            "confusion",
            "Phases taken for others",
            f"Of the frames of each phase in the set {first.replace('_', ' ')}, the per cent in which {whose}"
            " recognises each. The table has all sets.",
            confused,
            rows,
            _finding(rows, first),
            _table(rows),
        ),
    ]


def _finding(rows: Sequence[Row], of: str) -> str:
    """Say what the first run mixes up most."""
    label = rows[0]["label"]
    mixed = [row for row in rows if row["label"] == label and row["set"] == of and row["phase"] != row["predicted"]]
    most = max(mixed, key=lambda row: row["frames"], default=None)
    if most is None or not most["frames"]:
        return f"{label} recognises all phases."
    return f"{label} takes {most['phase']} for {most['predicted']} most often, in {count_of(most['frames'], 'frame')}."


def _table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Format the shares of the frames of each phase that are recognised, and of those predicted that are right."""
    cells = []
    for name in dict.fromkeys(row["set"] for row in rows):
        for label in dict.fromkeys(row["label"] for row in rows):
            own = [row for row in rows if row["set"] == name and row["label"] == label]
            for phase in dict.fromkeys(row["phase"] for row in own):
                right = sum(row["frames"] for row in own if row["phase"] == row["predicted"] == phase)
                shown = sum(row["frames"] for row in own if row["phase"] == phase)
                said = sum(row["frames"] for row in own if row["predicted"] == phase)
                precision = f"{right / said:.3f}" if said else "–"
                place = f"{name.replace('_', ' ')}, {label}"
                cells.append([place, phase, str(shown), f"{right / shown:.3f}", precision])
    return ["set and run", "phase", "frames", "recognised ↑", "right of those predicted ↑"], cells
