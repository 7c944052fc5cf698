"""Films of the graph of a run: its agents coloured by what they are at each evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from numpy.typing import NDArray
from PIL import Image
from scipy import sparse

from basinet.analysis.drawing.data_checks import NoDataError
from basinet.analysis.drawing.layout import Fitted, Sheet
from basinet.analysis.drawing.style import GREY, SHADES, axis_label, contrast, ink
from basinet.analysis.plots.network.topology import load_weights, place_agents
from basinet.analysis.statistics.run_labels import strategy_label
from basinet.sim.experiment.component import ExperimentError, nearest
from basinet.sim.experiment.mistakes import shown
from basinet.sim.run.folder import Run
from basinet.sim.run.trajectory import load_trajectory
from basinet.sim.vision.video_files import av_package

__all__ = ["FILMS", "AgentsOverTime", "agents_over_time", "film_graph"]

FILMS = (".gif", ".mp4")
"""Endings of the files that hold films."""

_LABELS = {"distance": "distance to the centroid", "disagreement": "distance to the neighbours"}
_LOSS = "train_loss"
_MOST_AGENTS = 1000
_MOST_NUMBERED = 60
_MOST_ON_A_CIRCLE, _SPARSE = 30, 8
_MOST_PICTURES = 120
_FIGURE = (4.8, 4.4)  # inches; even numbers of pixels, as videos need
_DPI = 100
_RATE = 25
"""Pictures per second of a video."""
_SHORTEST, _LONGEST, _LAST = 0.04, 0.5, 1.5
"""Seconds that a picture is shown: at least, at most, and longer at the end."""
_WIDE = 30
"""Ratio of values from which colours are logarithmic."""


@dataclass(frozen=True)
class AgentsOverTime:
    """A quantity of each agent of a replica over the steps.

    Attributes:
        steps: The steps, [F].
        values: The values, [F, K]; NaN where an agent was not measured.
        label: What they are.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    label: str


def agents_over_time(
    run: Run, colour: str | None = None, *, replica: int = 0, most: int | None = None
) -> AgentsOverTime:
    """Collect a quantity of the agents of a run over the steps.

    `trajectory: {points: agents, metrics: true}` records where the agents are at each evaluation, and their losses;
    `keep_every` and `analysis_points: [centroid, agents]` what else is measured of them at some steps.

    Args:
        run: The run.
        colour: `distance`, ‖w_k − w_c‖ from the centroid; `disagreement`, √(Σ_l a_kl ‖w_k − w_l‖² / Σ_l a_kl) over the
            neighbours l ≠ k, with the weights of the graph; or a metric of agents, such as `train_loss`. None takes the
            distance if it is recorded, and otherwise the loss.
        replica: Number of the replica.
        most: Largest number of steps, which are then spread evenly; None for all.

    Returns:
        The steps and values.

    Raises:
        NoDataError: If this has not been recorded; the message says what records it.
        ExperimentError: If there is no such replica.
    """
    if replica not in range(run.config["replicas"]):
        raise ExperimentError(f"replica: got {replica}, but {run.path} has replicas 0 to {run.config['replicas'] - 1}")
    trajectory = load_trajectory(run.path)
    has_places = trajectory is not None and trajectory.points.shape[2] > 1
    rows = [row for row in run.metrics if "agent" in row and row["replica"] == replica]
    measured = sorted({name for row in rows for name in row} - {"step", "replica", "agent"})
    if colour is None:
        colour = "distance" if has_places or _LOSS not in measured else _LOSS
    if colour in _LABELS:
        if trajectory is None or not has_places:
            raise NoDataError(
                f"colour: {run.path} does not record where its agents are; run it with trajectory=agents"
                f"{f', or take {_LOSS}' if _LOSS in measured else ''}"
            )
        chosen = _spread(len(trajectory.steps), most)
        of = _distances if colour == "distance" else _disagreements
        weights = _weights(run)
        values = np.stack([of(np.asarray(trajectory.points[frame, replica], np.float64), weights) for frame in chosen])
        return AgentsOverTime(trajectory.steps[chosen], values, _LABELS[colour])
    if colour not in measured:
        known = [*(_LABELS if has_places else ()), *measured]
        remedy = nearest(str(colour), known) if known else "nothing is known of its agents"
        raise NoDataError(
            f"colour: {run.path} does not hold {shown(colour)} of its agents; trajectory.metrics=true measures"
            f" them at each evaluation, or analysis_points=[centroid, agents] at the steps of keep_every; {remedy}"
        )
    rows = [row for row in rows if colour in row]
    steps = sorted({int(row["step"]) for row in rows})
    values = np.full((len(steps), int(run.status["agents"])), np.nan)
    for row in rows:
        values[steps.index(row["step"]), row["agent"]] = row[colour]
    chosen = _spread(len(steps), most)
    return AgentsOverTime(np.array(steps)[chosen], values[chosen], axis_label(colour, [run]))


def _spread(count: int, most: int | None) -> NDArray[np.int64]:
    """Choose indices that are spread evenly, with the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most or count)).round().astype(np.int64))


def _weights(run: Run) -> sparse.csr_array:
    found = load_weights(run)
    if found is None:
        raise NoDataError(f"{run.path}: it holds no graph (topology.csv)")
    return found


def _distances(points: NDArray[np.float64], weights: sparse.csr_array) -> NDArray[np.float64]:
    """Compute the distance of each agent from the centroid, the first point."""
    found: NDArray[np.float64] = np.linalg.norm(points[1:] - points[0], axis=1)
    return found


def _disagreements(points: NDArray[np.float64], weights: sparse.csr_array) -> NDArray[np.float64]:
    """Compute the root mean square distance of each agent to its neighbours."""
    agents = points[1:] - points[0]
    entries = weights.tocoo()
    others = entries.row != entries.col
    receivers, senders, given = entries.row[others], entries.col[others], entries.data[others]
    squares = (agents**2).sum(1)
    products = agents @ agents.T
    apart = np.maximum(squares[receivers] + squares[senders] - 2 * products[receivers, senders], 0)
    sums, total = (np.bincount(receivers, part, len(agents)) for part in (given * apart, given))
    found: NDArray[np.float64] = np.sqrt(sums / np.where(total > 0, total, 1))
    return found


def film_graph(
    run: Run,
    file: str | Path,
    *,
    colour: str | None = None,
    replica: int = 0,
    seconds: float = 10.0,
    layout: str | None = None,
) -> int:
    """Write a film of the graph of a run: its agents coloured by what they are at each evaluation.

    Args:
        run: The run.
        file: The file: .gif; or .mp4, with the package av.
        colour: What the agents are coloured by; see `agents_over_time`.
        replica: Number of the replica.
        seconds: About how long the film is; long runs are thinned to at most 120 pictures.
        layout: As for `plot_topology`; None spreads large meshes, too.

    Returns:
        The number of pictures.

    Raises:
        ExperimentError: If the file cannot hold a film, the graph is too large, or nothing is recorded of the agents.
    """
    file = Path(file)
    if file.suffix not in FILMS:
        raise ExperimentError(f"FILE: got {file}; allowed endings of films are {' and '.join(FILMS)}")
    if file.suffix == ".mp4":
        try:
            av_package()
        except ImportError as error:
            raise ExperimentError(f"FILE: {error}") from None
    weights = _weights(run)
    if weights.shape[0] > _MOST_AGENTS:
        raise ExperimentError(f"{run.path}: a film shows at most {_MOST_AGENTS:,} agents, not {weights.shape[0]:,}")
    found = agents_over_time(run, colour, replica=replica, most=_MOST_PICTURES)
    pictures = list(_pictures(run, weights, found, replica, layout))
    duration = min(_LONGEST, max(_SHORTEST, seconds / len(pictures)))
    durations = [*[duration] * (len(pictures) - 1), max(duration, _LAST)]
    file.parent.mkdir(parents=True, exist_ok=True)
    (_write_gif if file.suffix == ".gif" else _write_mp4)(file, pictures, durations)
    return len(pictures)


def _pictures(
    run: Run, weights: sparse.csr_array, found: AgentsOverTime, replica: int, layout: str | None
) -> Iterator[NDArray[np.uint8]]:
    """Draw the graph at each step, [height, width, 3]."""
    figure = Sheet(figsize=_FIGURE, dpi=_DPI, layout=Fitted())
    canvas: Any = FigureCanvasAgg(figure)
    ax = figure.subplots()
    norm = _scale(found.values)
    places = place_agents(weights, layout or _layout(weights))
    entries = sparse.triu(weights.maximum(weights.T), 1).tocoo()
    ends = [(places[a], places[b]) for a, b in zip(entries.row, entries.col, strict=True)]
    thin = min(1.0, max(0.15, 3 * len(places) / max(len(ends), 1)))
    ax.add_collection(LineCollection(ends, colors=GREY, linewidths=1.2 * thin, zorder=1))
    size = 260 if len(places) <= 30 else max(8.0, 7000 / len(places))
    x, y = zip(*places, strict=True)
    look: dict[str, Any] = {"edgecolors": ink(), "linewidths": 0.8, "zorder": 2}
    colours = SHADES.with_extremes(bad=GREY)
    nodes = ax.scatter(x, y, s=size, c=np.zeros(len(places)), cmap=colours, norm=norm, **look)
    numbers = [
        ax.text(*place, str(agent), ha="center", va="center", fontsize=8 if size > 200 else 6, zorder=3)
        for agent, place in enumerate(places if len(places) <= _MOST_NUMBERED else [])
    ]
    figure.colorbar(ScalarMappable(norm, SHADES), ax=ax, label=found.label, shrink=0.8)
    ax.set(aspect="equal")
    ax.margins(0.12)
    ax.set_axis_off()
    of = f", replica {replica}" if run.config["replicas"] > 1 else ""
    width = len(f"{found.steps[-1]:,}")
    for step, values in zip(found.steps, found.values, strict=True):
        nodes.set_array(np.ma.masked_invalid(values))
        for text, value in zip(numbers, values, strict=False):
            text.set_color(contrast(SHADES(norm(value))) if np.isfinite(value) else "black")
        ax.set_title(f"{strategy_label(run.config)}{of}: step {step:>{width},}", fontsize=10)
        canvas.draw()
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _layout(weights: sparse.csr_array) -> str | None:
    """Spread large meshes, such as a torus, whose edges would lie upon each other on a circle; None for the usual."""
    size = weights.shape[0]
    per_agent = (weights.nnz - np.count_nonzero(weights.diagonal())) / size
    return "spring" if size > _MOST_ON_A_CIRCLE and 2 < per_agent <= _SPARSE else None


def _scale(values: NDArray[np.float64]) -> Normalize:
    """Return the scale of the colours, which is the same for the whole film."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    positive = finite[finite > 0]
    if low >= 0 and len(positive) and high > _WIDE * np.median(positive):
        return LogNorm(max(float(positive.min()), high / 1e4), high, clip=True)
    return Normalize(low, high if high > low else low + 1.0)


def _write_gif(file: Path, pictures: Sequence[NDArray[np.uint8]], durations: Sequence[float]) -> None:
    method = Image.Quantize.MAXCOVERAGE  # others leave few colours to the scale, which covers little of a picture
    images = [Image.fromarray(picture).quantize(256, method, dither=Image.Dither.NONE) for picture in pictures]
    shown_for = [round(1000 * seconds) for seconds in durations]
    images[0].save(file, save_all=True, append_images=images[1:], duration=shown_for, loop=0, optimize=False)


def _write_mp4(file: Path, pictures: Sequence[NDArray[np.uint8]], durations: Sequence[float]) -> None:
    av = av_package()
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=_RATE)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"  # which every player shows
        for picture, seconds in zip(pictures, durations, strict=True):
            for _ in range(max(1, round(seconds * _RATE))):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
