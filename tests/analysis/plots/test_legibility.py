"""Every figure can be read: on a screen and in a column, with few and many runs, short and long names."""

import dataclasses
import io
from functools import partial
from types import SimpleNamespace

import matplotlib
import networkx as nx
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from basinet.analysis import plots
from basinet.analysis.compare.comparison import comparison_of
from basinet.analysis.compare.frame_reading import frame_of
from basinet.analysis.drawing.axes import finish
from basinet.analysis.drawing.legibility import illegible
from basinet.analysis.plots.vision.phase_recognition import MOST_RECOGNISED
from basinet.analysis.plots.vision.reconstructions import MOST_RECONSTRUCTED
from basinet.analysis.plots.vision.restorations import MOST_RESTORED
from basinet.analysis.report.gallery import gallery
from basinet.analysis.runs.phases_of_runs import Recognised
from basinet.analysis.runs.reconstructions_of_runs import Reconstructed
from basinet.analysis.runs.restorations_of_runs import Restored
from basinet.analysis.runs.trajectory_surface import Trajectories
from basinet.analysis.statistics.run_labels import labels
from basinet.analysis.statistics.survival import kaplan_meier
from basinet.launch.exporting.plot_kinds import plot_kinds
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import Run
from basinet.sim.run.records import csv_text

COLUMN = (3.25, 2.5)
FEW = ["centralized", "consensus", "diffusion/atc", "diffusion/cta", "isolated"]
MANY = [
    *FEW,
    "exact_diffusion_with_error_feedback",
    "gradient_tracking_with_local_updates",
    "push_sum_over_time_varying_graphs",
    "compressed_gossip_of_quantized_differences",
    "mine:LocalStepsWithMomentumAndTopK",
    "mine:AVeryLongNameOfOneWordThatHasNoPlaceToBreak",
    "decentralized_momentum_with_a_slow_outer_step_of_my_own_kind",
]
CONDITIONS = [
    "large batch, heterogeneous data, learning rate 0.001",
    "small",
    "AConditionThatIsASingleWordAndLongerThanAPanel",
    "small batch, few agents",
]


def strategy(name):
    if name.startswith("mine:"):
        return {"name": name, "digest": name}
    name, _, order = name.partition("/")
    return {"name": name} | ({"order": order} if order else {})


def make_run(name, condition, number, folder):
    """A run of three replicas, whose last one diverges in every third run; both diffusions have one centroid."""
    twin = FEW.index("diffusion/atc") if name == "diffusion/cta" else number
    rng = np.random.default_rng(twin)
    rows = []
    for replica in range(3):
        for step in range(0, 2_500_001, 250_000):
            scale = 0.3 + 0.1 * twin + 0.02 * rng.random()
            row = {"step": step, "replica": replica, "train_loss": scale * (1e-4 + np.exp(-step / 3e5))}
            row |= {"communicated_bytes": 400.0 * (step + 1), "test_accuracy": 0.9 + 0.004 * twin + 0.01 * rng.random()}
            row |= {"consensus_distance": 1e-9 * scale * (step + 1) * (name != "centralized")}
            row |= {"hessian_trace": 40 * scale, "hessian_top_eigenvalue": 3 * scale, "excess_risk": 2e-4 / scale**2}
            row |= {"stability_limit": 20.0, "consensus_stability_limit": 9.0}
            row |= {"tail_index": 1.5 + scale, "tail_index_error": 0.1}
            rows.append(row)
            if step == 2_500_000:
                rows += [row | {"agent": k, "hessian_trace": row["hessian_trace"] * (1 + k / 9)} for k in range(4)]
    config = {"strategy": strategy(name), "strategy_keys": [], "case": condition, "trajectory": "centroid"}
    diverged = {"2": 250_000} if number % 3 == 2 and "diffusion" not in name else {}
    path = folder / f"{number}-{CONDITIONS.index(condition)}"
    path.mkdir(exist_ok=True, parents=True)
    atoms = [
        f"{replica},{x},{w}"
        for replica in range(3)
        for x, w in ((-0.01 - number / 99, 0.2), (0.001, 0.7 - number / 50), (2 + 9 * number, 0.1))
    ]
    (path / "density.csv").write_text("\n".join(["replica,eigenvalue,weight", *atoms]))
    return Run(path.name, path, config, {"state": "done", "step": 2_500_000, "diverged": diverged}, rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def make(folder):
    known = {}

    def runs(strategies, panels=1):
        key = (len(strategies), panels)
        if key not in known:
            known[key] = [
                make_run(name, condition, number, folder / f"{key[0]}")
                for condition in CONDITIONS[:panels]
                for number, name in enumerate(strategies)
            ]
        return known[key]

    return runs


def named(runs):
    return [label.split(", ")[0] for label in labels(runs)]


def metropolis(graph):
    weights = nx.to_numpy_array(graph)
    weights /= 1 + np.maximum.outer(weights.sum(1), weights.sum(1))
    return weights + np.diag(1 - weights.sum(1))


def surface(**more):
    places = np.linspace(-1, 1, 15)
    return [{"x": x, "y": y, "loss": 0.01 + x * x + 3 * y * y} | more for x in places for y in places]


def survival(runs, **kwargs):
    rng = np.random.default_rng(0)
    curves = {label: kaplan_meier(np.sort(rng.exponential(1e5, 9)), [True] * 8 + [False]) for label in named(runs)}
    return plots.plot_survival(curves, means=dict.fromkeys(curves, 1e5), **kwargs)


def prediction(runs, **kwargs):
    def found(scale):
        parts = [SimpleNamespace(centroid=scale * n, disagreement=0.1 * scale * n) for n in (1, 2, 3)]
        risks = {name: [1.1 * getattr(part, name) for part in parts] for name in ("centroid", "disagreement")}
        return SimpleNamespace(at="minimum", replicas=[0, 1, 2], predicted=parts, **risks)

    return plots.plot_prediction({label: found(1e-4 * 1.7**n) for n, label in enumerate(named(runs))}, **kwargs)


def solutions(runs, **kwargs):
    labels = named(runs)
    rows = [{"first": a, "second": b, "replica": 0, "barrier": 0.0123 * len(a + b)} for a in labels for b in labels]
    return plots.plot_solutions(rows, **kwargs)


def trajectories(runs, **kwargs):
    paths = tuple(np.cumsum(np.random.default_rng(n).normal(size=(20, 2)), 0) for n in range(len(runs)))
    plane = SimpleNamespace(explained=np.array([0.5, 0.2]))
    found = Trajectories(0, tuple(named(runs)), plane, (), paths, (), "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("basinet.analysis.plots.trajectory_plane.principal_trajectories", lambda *_: found)
        return plots.plot_trajectories(runs, **kwargs)


def forecasts(runs, **kwargs):
    waves = np.sin(np.arange(-48, 25) / 5)
    rows = [{"label": "observed", "kind": "observed", "step": n - 48, "value": 300 + x} for n, x in enumerate(waves)]
    trivial = ("last value", "seasonal naive", "ridge regression")
    for kind, known in (("baseline", trivial), ("forecast", named(runs))):
        for n, label in enumerate(known):
            value = 300 + 0.1 * n * (kind == "baseline")
            found = [{"step": h, "value": value + (1 - 0.02 * n) * waves[48 + h]} for h in range(1, 25)]
            rows += [{"label": label, "kind": kind, **row} for row in found]
    for row in rows:
        row |= {"channel": "temperature", "channels": 7, "window": 216, "windows": 217, "time": f"{row['step']}"}
        row |= {"low": row["value"] - 0.3, "high": row["value"] + 0.3} if row["kind"] == "forecast" else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("basinet.analysis.plots.forecasts.forecast_rows", lambda *_, **__: rows)
        return plots.plot_forecasts(runs, **kwargs)


def restorations(runs, **kwargs):
    low, truth = (torch.full((3, length, 3 * length // 2), 90, dtype=torch.uint8) for length in (40, 160))
    restored = {label: truth + n for n, label in enumerate(named(runs)[:MOST_RESTORED], 1)}
    found = Restored("a_name_of_an_image_that_is_long", 4, low, truth, truth - 9, restored)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("basinet.analysis.plots.vision.restorations.restored_images", lambda *_: found)
        return plots.plot_restorations(runs, **kwargs)


def reconstructions(runs, **kwargs):
    crop = torch.full((3, 64, 64), 90, dtype=torch.uint8)
    labels = [*named(runs)][:MOST_RECONSTRUCTED]
    predicted, losses = {label: crop + n for n, label in enumerate(labels, 1)}, dict.fromkeys(labels, 1.234)
    name, chain = "a_name_of_an_image_that_is_long", "blur+colour+noise"
    found = [Reconstructed(name, chain, crop, crop, crop, predicted, losses, False, True)] * 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("basinet.analysis.plots.vision.reconstructions.reconstructed_crops", lambda *_: found)
        return plots.plot_reconstructions(runs, **kwargs)


def compared(plot, *keys, **settings):
    """Draw runs by a function of comparisons, of the keys, with two batch sizes each."""

    def draw(runs, **kwargs):
        both = [
            dataclasses.replace(run, path=run.path / f"{size}", config=run.config | {"case": None, "batch_size": size})
            for run in runs
            for size in ((8, 64) if "batch_size" in keys else (8,))
        ]
        files = {run.path: run for run in both}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("basinet.analysis.compare.histories.read_run", lambda path: files[path])
            return plot(comparison_of(frame_of(both), keys), **settings, **kwargs)

    return draw


STAGES = [f"a long name of a phase {n}" for n in range(8)]


def phases(runs, **kwargs):
    phase = np.repeat(np.arange(8), 6)
    predicted = {label: np.roll(phase, n) for n, label in enumerate(named(runs)[:MOST_RECOGNISED], 1)}
    found = Recognised(tuple(STAGES), ("test",), np.zeros_like(phase), phase, predicted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("basinet.analysis.plots.vision.phase_recognition.recognised_phases", lambda *_: found)
        return plots.plot_phases(runs, **kwargs)


def slices(runs, **kwargs):
    rows = [
        {"direction": f"{label} {n}", "position": x, "loss": 0.1 + n * x**2}
        for n, label in enumerate(named(runs))
        for x in np.linspace(-1, 1, 9)
    ]
    return plots.plot_slices(rows, **kwargs)


def partition(runs, **kwargs):
    labels = [f"{'a long name of a class' if len(runs) > 5 else 'c'} {n}" for n in range(len(runs))]
    rows = [{"replica": 0, "agent": k, "label": label, "samples": 1000 + k} for k in range(16) for label in labels]
    return plots.plot_partition(rows, **kwargs)


def agents_of(count):
    return [{"x": 0.1 * n, "y": 0.05 * n, "explained_x": 0.7, "explained_y": 0.2} for n in range(count)]


LINES = [{"agent": k, "position": x, "loss": 1e-3 * k * x} for k in range(8) for x in np.linspace(0, 1, 5)]
ATOMS = [{"eigenvalue": x, "weight": w} for x, w in ((-0.02, 0.1), (1e-3, 0.8), (0.3, 0.1), (40.0, 1e-4))]
RING, RANDOM = metropolis(nx.cycle_graph(16)), metropolis(nx.gnp_random_graph(40, 0.15, seed=1))
CONFUSED = [
    {"label": "a", "set": "test", "phase": phase, "predicted": other, "frames": 1 + (phase == other)}
    for phase in STAGES
    for other in STAGES
]
DIRECTED = np.fft.fft(np.eye(16)[0] + np.eye(16)[1]) / 2

# Each draws the runs that it is given, or tables that belong to no run.
OF_RUNS = {
    "agents": plots.plot_agents,
    "compared_curves": compared(plots.plot_compared_curves, "strategy", metric="train_loss", x="bytes"),
    "compared_points": compared(plots.plot_compared_points, "strategy", y="test_accuracy", interval="bootstrap"),
    "consensus": plots.plot_consensus,
    "curves": plots.plot_curves,
    "curves over bytes": partial(plots.plot_curves, x="communicated_bytes"),
    "curves of accuracy": partial(plots.plot_curves, metric="test_accuracy"),
    "curves of curvature": partial(plots.plot_curves, metric="hessian_top_eigenvalue"),
    "flatness_accuracy": plots.plot_flatness_accuracy,
    "scatter of eigenvalues": partial(plots.plot_scatter, x="hessian_top_eigenvalue", y="test_accuracy"),
    "iso_accuracy": plots.plot_iso_accuracy,
    "forecasts": forecasts,
    "heat_map": compared(plots.plot_heat_map, "batch_size", "strategy", metric="test_accuracy"),
    "parallel": compared(plots.plot_parallel, "strategy", "batch_size"),
    "phases": phases,
    "reconstructions": reconstructions,
    "restorations": restorations,
    "risk_flatness": plots.plot_risk_flatness,
    "spectra": plots.plot_spectra,
    "stability": plots.plot_stability,
    "tail_index": plots.plot_tail_index,
    "partition": partition,
    "prediction": prediction,
    "slices": slices,
    "solutions": solutions,
    "survival": survival,
    "trajectories": trajectories,
    "trend": compared(plots.plot_trend, "strategy", "batch_size", metric="train_loss", x="batch_size"),
}


def rounds(agents):
    """Steps of agents who compute, send, and wait for the network and for each other."""
    rows = []
    for k in range(agents):
        at = 3_600 * 10**9
        for step in range(1, 6):
            spans = (("compute", 0, 20 + k), ("send", 20 + k, 29 + k), ("idle", 20 + k, 25 + k),
                     ("communication", 25 + k, 40 + k))  # fmt: skip
            rows += [
                {"replica": 0, "agent": k, "step": step, "doing": doing, "start": at + a * 10**6, "end": at + b * 10**6}
                for doing, a, b in spans
            ]
            at += (40 + k) * 10**6
    return rows


OF_TABLES = {
    "barriers": partial(plots.plot_barriers, LINES),
    "confusion": partial(plots.plot_confusion, CONFUSED),
    "density": partial(plots.plot_density, ATOMS),
    "surface": partial(plots.plot_surface, surface(), agents_of(6)),
    "spectrum": partial(plots.plot_spectrum, np.linalg.eigvalsh(RANDOM)),
    "spectrum in the plane": partial(plots.plot_spectrum, DIRECTED),
    "timeline": partial(plots.plot_timeline, rounds(4)),
    "timeline of many": partial(plots.plot_timeline, rounds(64)),
    "topology": partial(plots.plot_topology, RING),
    "topology of many": partial(plots.plot_topology, RANDOM),
    "topology as a matrix": partial(plots.plot_topology, metropolis(nx.gnp_random_graph(100, 0.1, seed=1))),
}
PANELLED = {  # one of each function that draws runs: its settings change neither the layout of panels nor their names
    kind: next(name for name in OF_RUNS if name.split()[0] == kind) for kind in plot_kinds()
}.values()
NARROW = ("consensus", "heat_map", "iso_accuracy", "parallel", "phases", "prediction", "restorations", "survival")
"""Figures with legends, scales and pictures of all sorts."""


@pytest.fixture(autouse=True)
def no_figure_stays():
    yield
    pyplot.close("all")


def test_every_figure_is_drawn_here():
    drawn = {name.split()[0] for name in (*OF_RUNS, *OF_TABLES)}
    assert {f"plot_{name}" for name in drawn} | {"panels", "comparison_figure"} == set(plots.__all__)


@pytest.mark.parametrize("name", OF_RUNS)
def test_figures_of_many_runs_in_a_column(make, name):
    with matplotlib.rc_context({"figure.figsize": COLUMN}):
        assert illegible(OF_RUNS[name](make(MANY)).figure) == []


@pytest.mark.parametrize("name", [name for name in OF_RUNS if name not in PANELLED])
def test_figures_on_a_screen(make, name):  # those of PANELLED are in reports, below
    assert illegible(OF_RUNS[name](make(FEW)).figure) == []


@pytest.mark.parametrize("name", NARROW)
def test_a_column_of_the_users_own(make, name):
    figure = Figure(figsize=COLUMN)
    OF_RUNS[name](make(FEW), ax=figure.subplots())
    assert illegible(figure) == []


@pytest.mark.parametrize("name", OF_TABLES)
def test_figures_of_tables(name):
    figure = Figure(figsize=COLUMN)
    ax = OF_TABLES[name](ax=figure.subplots())
    ax.set_title("a graph of my own that has a name longer than its axes are wide", fontsize="medium")
    assert illegible(figure) == []


@pytest.mark.parametrize("name", [name for name in NARROW if name in PANELLED])
def test_panels_of_many_runs_in_a_column(make, name):
    assert illegible(plots.panels(make(MANY, 2), OF_RUNS[name], width=COLUMN[0])) == []


@pytest.mark.parametrize(("strategies", "panels"), [(FEW[:4], 2), (FEW[2:4], 4)])
def test_every_figure_of_a_report(make, strategies, panels):
    runs = make(strategies, panels)
    if panels == 4:  # one measure of flatness will do
        left_out = {"hessian_trace", "tail_index"}
        runs = [
            dataclasses.replace(run, metrics=[{k: row[k] for k in row.keys() - left_out} for row in run.metrics])
            for run in runs
        ]
    for number, run in enumerate(runs):
        place = number // len(strategies)
        graph = nx.gnp_random_graph(8 + place, 0.5, seed=1)
        edges = [(j, k, weight) for (j, k), weight in np.ndenumerate(metropolis(graph)) if weight]
        (run.path / "topology.csv").write_text(csv_text(("receiver", "sender", "weight"), edges))
        held = [(0, k, label, 9 * k + place) for k in range(8) for label in range(9)]
        (run.path / "partition.csv").write_text(csv_text(("replica", "agent", "label", "samples"), held))
        if number % len(strategies):
            (run.path / "density.csv").unlink(missing_ok=True)
            continue  # only of one run in each panel there are tables of the loss around the centroid
        for name, rows in {"surface": surface(), "surface_agents": agents_of(3), "barriers": LINES}.items():
            (run.path / f"{name}.csv").write_text(csv_text([*rows[0], "replica"], [[*row.values(), 0] for row in rows]))
    drawings = {drawing.name: drawing for drawing in gallery(runs)}
    assert drawings.keys() >= {"flatness_accuracy_eigenvalue", "train_loss", "stability", "spectra", "topology"}
    counts = {name: sum(ax.get_label() != "<colorbar>" for ax in it.figure.axes) for name, it in drawings.items()}
    assert {name for name, count in counts.items() if count == panels} >= {"train_loss", "topology", "surface"}, counts
    if panels == 4:  # of one panel they are above; as many panels of some, of more runs, are below
        others = ("train_loss", "test_accuracy", "consensus")
        drawings = {name: it for name, it in drawings.items() if counts[name] > 1 and name not in others}
    assert {name: found for name, drawing in drawings.items() if (found := illegible(drawing.figure))} == {}


@pytest.mark.parametrize(
    ("rows", "columns", "size", "layout"),
    [(1, 2, (9, 4), None), (2, 2, (9, 8), "constrained"), (2, 1, (3.25, 7), None)],
)
def test_legends_of_neighbours_keep_apart(make, rows, columns, size, layout):
    figure = Figure(figsize=size, layout=layout)
    axes = figure.subplots(rows, columns).ravel()
    for ax, plot in zip(axes, (plots.plot_curves, plots.plot_consensus, plots.plot_stability, survival), strict=False):
        plot(make(FEW), ax=ax)
        assert ax.get_legend() is not None
    assert illegible(figure) == []


@pytest.mark.parametrize(("rows", "columns", "size"), [(1, 3, (12, 4.2)), (2, 1, (3.25, 6))])
def test_titles_keep_off_the_scales_of_colours(rows, columns, size):
    figure = Figure(figsize=size)
    for ax, weights in zip(figure.subplots(rows, columns).ravel(), (RING, RANDOM, RING, RANDOM), strict=False):
        plots.plot_topology(weights, ax=ax)
        ax.set_title("graph_of_my_own (agents=16, probability=0.15, seed=1)", fontsize="medium")
    assert illegible(figure) == []


def swept_runs(strategies, panels, folder):
    """Runs of four learning rates, the fewest of a sweep, under as many other conditions as there are panels."""
    runs = []
    for condition in CONDITIONS[:panels]:
        for number, name in enumerate(strategies):
            run = make_run(name, condition, number, folder)
            for rate in (0.001, 0.01, 0.03, 0.1):
                optimizer = {"name": "sgd", "lr": rate}
                kept = ("step", "replica", "train_loss", "test_accuracy", "consensus_distance")
                rows = [{name: row[name] for name in kept} for row in run.metrics if "agent" not in row]
                rows = [row | {"train_loss": row["train_loss"] * (1 + 30 * rate)} for row in rows]
                config = run.config | {"case": None, "data": condition, "optimizer": optimizer, "trajectory": None}
                runs.append(dataclasses.replace(run, config=config, metrics=rows))
    return runs


@pytest.mark.parametrize(("strategies", "panels"), [(MANY, 1), (FEW[:4], 4)])
def test_every_figure_of_a_report_on_many_runs(strategies, panels, tmp_path):
    drawings = {drawing.name: drawing for drawing in gallery(swept_runs(strategies, panels, tmp_path))}
    assert {"sweep_train_loss", "sweep_test_accuracy", "train_loss", "test_accuracy", "consensus"} <= drawings.keys()
    assert len([ax for ax in drawings["sweep_train_loss"].figure.axes if ax.get_visible()]) == panels
    assert {name: found for name, drawing in drawings.items() if (found := illegible(drawing.figure))} == {}
    both = "by theory diffusion ATC and CTA have the same centroid."
    assert {name for name, drawing in drawings.items() if both in drawing.caption} >= {"sweep_train_loss", "train_loss"}
    assert both not in drawings["consensus"].caption


def bad_figure(fault):
    figure = Figure(figsize=(4, 3))
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], "o-", label="first")
    if fault == "cut":
        ax.set_ylabel("a name that is longer than its axes are high, and even than the whole figure is")
    elif fault == "overlap":
        ax.set_xticks([0, 0.05, 1], ["zero", "nearly zero", "one"])
    elif fault == "smaller":
        ax.set_xlabel("tiny", fontsize=3)
    elif fault == "lies under":
        ax.plot([0, 1.001], [0, 1], "o-", label="second")
    elif fault == "over data":
        ax.legend(loc="upper right")
    elif fault == "over other axes":
        ax.text(0.95, 0.5, "a note that is long", transform=ax.transAxes)
        figure.add_axes((0.92, 0.1, 0.08, 0.8))
    else:
        figure.subplots_adjust(left=0.48, right=0.52)
    return figure


@pytest.mark.parametrize(
    "fault", ["cut", "overlap", "smaller", "lies under", "over data", "over other axes", "no room"]
)
def test_what_cannot_be_read_is_found(fault):
    assert any(fault in sentence for sentence in illegible(bad_figure(fault)))


def test_marks_in_one_place_are_one_mark_with_both_names(make):
    ax = plots.plot_flatness_accuracy(make(FEW), ax=Figure().subplots())
    assert ax.get_legend_handles_labels()[1] == [
        "centralized",
        "consensus",
        "diffusion ATC ≈ diffusion CTA",
        "isolated",
    ]
    assert illegible(ax.figure) == []
    points = [line for line in ax.lines if len(line.get_xdata()) == 3]
    assert len(points) == 4  # those of the replicas, too: none is under others
    assert [line.get_markerfacecoloralt() for line in points].count("none") == 3


def test_lines_in_one_place_have_one_band(make):
    ax = plots.plot_curves(make(FEW), ax=Figure().subplots())
    assert len(ax.collections) == 4 == len(ax.get_legend_handles_labels()[1])
    for line in ax.lines:
        if len(line.get_xdata()):  # marks along the whole line
            start, step = line.get_markevery()
            assert start < step


def test_symbols_stay_in_one_line(make):
    figure = plots.panels(make(FEW, 2), plots.plot_flatness_accuracy, width=COLUMN[0])
    figure.draw_without_rendering()
    labels = [ax.get_xlabel() for ax in figure.axes]
    assert all("\n" in label and "Tr\N{NO-BREAK SPACE}H" in label for label in labels)


def test_bytes_and_many_steps_have_units(make):
    ax = plots.plot_curves(make(FEW), x="communicated_bytes", ax=Figure().subplots())
    ax.figure.draw_without_rendering()
    assert ax.get_xaxis().get_offset_text().get_text() == ""
    assert {"0 B", "1 GB"} <= {text.get_text() for text in ax.get_xticklabels()}


def test_values_equal_up_to_rounding_are_not_magnified():
    ax = Figure().subplots()
    ax.plot([0, 1], [0.012, 0.012 * (1 + 1e-13)])
    assert finish(ax).get_ylim() == pytest.approx((0.95 * 0.012, 1.05 * 0.012))


def test_fonts_are_embedded_as_truetype(make):
    file = io.BytesIO()
    with matplotlib.rc_context({"pdf.compression": 0}):
        plots.panels(make(FEW), plots.plot_curves).savefig(file, format="pdf")
    assert b"/Subtype /Type3" not in file.getvalue() and b"/FontFile2" in file.getvalue()


def test_nothing_vanishes_on_a_dark_background(make):
    with pyplot.style.context("dark_background"):
        figures = [plot(make(FEW), ax=Figure().subplots()).figure for plot in OF_RUNS.values()]
        figures += [plot(ax=Figure().subplots()).figure for plot in OF_TABLES.values()]
    for figure in figures:
        for artist in figure.findobj(lambda artist: isinstance(artist, Line2D) and artist.get_label()[:1] != "_"):
            colors = (artist.get_color(), artist.get_markeredgecolor())
            assert all(str(color) == "none" or max(to_rgb(color)) > 0.3 for color in colors)


ANYTHING = [None, 3, "runs/batch", [1, 2], [None], {"a": 1}, object(), [[]]]


@pytest.mark.parametrize("name", plots.__all__)
@pytest.mark.parametrize("given", ANYTHING, ids=[type(given).__name__ for given in ANYTHING])
def test_what_cannot_be_drawn_is_one_sentence(name, given):
    if name == "plot_spectrum" and given == [1, 2]:
        pytest.skip("numbers are what it draws")
    metrics = ["hessian_trace", "train_loss"]
    more = {
        "panels": [plots.plot_curves],
        "comparison_figure": ["curves"],
        "plot_surface": [given],
        "plot_scatter": metrics,
    }.get(name, [])
    with pytest.raises(ExperimentError) as caught:
        getattr(plots, name)(given, *more)
    assert "\n" not in str(caught.value) and len(str(caught.value)) > 20
    assert pyplot.get_fignums() == []


def test_axes_are_axes(make):
    figure = Figure()
    for ax in (figure, figure.subplots(1, 2), 1):
        with pytest.raises(ExperimentError, match=r"^ax: expected matplotlib's Axes, not "):
            plots.plot_curves(make(FEW), ax=ax)
