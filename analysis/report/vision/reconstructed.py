"""The figures of pre-training for quality: what runs predict of masked units, and what they are trained on."""

import logging
from collections.abc import Sequence
from typing import Any

from basinet.analysis.drawing.choice import WIDE
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.layout import Fitted, Sheet
from basinet.analysis.drawing.panels import finish_panels
from basinet.analysis.plots.vision.curated_crops import draw_curated
from basinet.analysis.plots.vision.reconstructions import MOST_RECONSTRUCTED, draw_reconstructed
from basinet.analysis.runs.reconstructions_of_runs import (
    Reconstructed,
    pretraining_of,
    reconstructed_crops,
    reconstructs,
)
from basinet.analysis.runs.solution import Solutions, replicas_of
from basinet.analysis.statistics.ranking import leaders
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.mistakes import count_of
from basinet.sim.run.folder import Run
from basinet.sim.run.records import Row
from basinet.sim.tasks import QualityPretraining
from basinet.sim.vision.curation import estimate_in_words

__all__ = ["pretraining_drawings"]

_log = logging.getLogger(__name__)

_CROPS = 4
"""Number of test crops in the figure."""


def pretraining_drawings(runs: Sequence[Run]) -> list[Drawing]:
    """Draw test crops with what runs predict of their masked units, and crops that curation has kept and left out.

    Args:
        runs: The runs; of many, the best of each strategy are drawn, and of several tasks, those of the first.

    Returns:
        The figures; none if no run predicts masked units, or if what they were trained on is not there any more.
    """
    ran = [run for run in runs if reconstructs(run) and replicas_of(run)]
    same = [run for run in ran if _data_of(run) == _data_of(ran[0])]
    if len(same) > MOST_RECONSTRUCTED:
        same = [same[place] for place in leaders(same)[:MOST_RECONSTRUCTED]]
    if not same:
        return []
    solutions = Solutions("float32")
    try:
        found = reconstructed_crops(same, _CROPS, solutions)
        curated = _curated(pretraining_of(same[0], solutions))
    except (ExperimentError, ImportError, OSError) as error:
        _log.warning("reconstructions are not drawn: %s", error)
        return []
    drawings = [_reconstructed(found, len(ran))]
    return [*drawings, curated] if curated is not None else drawings


def _data_of(run: Run) -> list[Any]:
    """Return what the data of a run depend on."""
    return [{**run.config["task"], "partition": None}, run.config.get("seed")]


def _reconstructed(found: Sequence[Reconstructed], count: int) -> Drawing:
    figure = Sheet(figsize=(WIDE, 1.4 * len(found) + 0.3), layout=Fitted())
    ax = figure.subplots()
    draw_reconstructed(found, ax, legend=False)
    finish_panels(figure, [ax], share_x=False)
    first = found[0]
    pixels = "clean" if first.is_clean else "degraded"
    caption = (
        "Test crops as they are; degraded, with the units that a model sees (grey: masked); and with the masked units,"
        f" whose {pixels} pixels are to be predicted, as the centroid of the first replica that did not diverge"
        f" predicts them{'' if first.is_clean else ', and as they are (truth)'}. Numbers are losses of single crops."
    )
    if first.is_normalised:
        caption += (
            " Pixels are normalised in each unit, so that models predict neither its brightness nor its contrast: these"
            " are drawn as they truly are."
        )
    drawn = len(first.predicted)
    if count > drawn:
        caption += f" Drawn: {drawn} of {count} runs, which are tested on the same crops."
    rows: list[Row] = [
        {"label": label, "crop": place, "image": crop.name, "degradation": crop.chain, "loss": loss}
        for place, crop in enumerate(found)
        for label, loss in crop.losses.items()
    ]
    return Drawing("reconstructions", "Masked units that are predicted", caption, figure, rows)


def _curated(task: QualityPretraining) -> Drawing | None:
    """Draw crops that are kept and left out; None if all are kept."""
    curation = task.curation
    if not curation.left_out:
        return None
    figure = Sheet(figsize=(WIDE, 3.4), layout=Fitted())
    ax = figure.subplots()
    draw_curated(task, ax)
    finish_panels(figure, [ax], share_x=False)
    rows = task.curated()
    criteria = [*curation.estimates]
    kept, count = int(curation.is_kept.sum()), len(curation.is_kept)
    caption = (
        f"Of {count_of(count, 'crop')} of the training images, curation has kept the {kept} with the best mean rank by"
        f" {', '.join(criteria)}. Shown are some that it has kept and some that it has left out, evenly spaced over"
        " each part. The table counts them by image, with the means over all its crops."
    )
    parts = (
        f"{name} {estimate_in_words(name, kept)} and {estimate_in_words(name, out)}"
        for name, (kept, out) in curation.means().items()
    )
    finding = f"The means of what is kept and left out are: {'; '.join(parts)}."
    cells = [
        [
            "some or all kept" if row["kept"] else "all left out",
            row["photo"],
            *(str(row[name]) for name in ("crops", "kept")),
            *(estimate_in_words(name, row[name]) for name in criteria),
        ]
        for row in sorted(rows, key=lambda row: -row["kept"] / row["crops"])
    ]
    table = ["", "image", "crops", "kept", *map(str, criteria)], cells
    return Drawing("curation", "Crops to train on", caption, figure, rows, finding, table)
