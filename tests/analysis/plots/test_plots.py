import dataclasses
import io
from pathlib import Path
from statistics import fmean

import matplotlib
import networkx as nx
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from basinet.analysis import plots
from basinet.analysis.compare.comparison import Comparison
from basinet.analysis.compare.frame_reading import frame_of
from basinet.analysis.drawing.axes import choose_scale
from basinet.analysis.drawing.data_checks import NoDataError
from basinet.analysis.drawing.figure import Drawing
from basinet.analysis.drawing.legibility import illegible
from basinet.analysis.drawing.style import baseline_style, same_styles, styles
from basinet.analysis.plots import (
    panels,
    plot_agents,
    plot_consensus,
    plot_curves,
    plot_flatness_accuracy,
    plot_iso_accuracy,
    plot_partition,
    plot_risk_flatness,
    plot_spectrum,
    plot_stability,
    plot_survival,
    plot_tail_index,
    plot_topology,
)
from basinet.analysis.plots.network.topology import load_weights
from basinet.analysis.plots.partition import load_partition
from basinet.analysis.plots.sweep import swept
from basinet.analysis.report.gallery import gallery
from basinet.analysis.statistics.replica_values import curve_rows, replica_rows
from basinet.analysis.statistics.survival import kaplan_meier
from basinet.sim.run.folder import Run

STRATEGIES = ["centralized", "consensus", {"name": "diffusion", "order": "atc"}, "isolated"]


def make(strategy, batch_size=32, *, path=Path("runs/one"), replicas=4, diverged=None, omit=()):
    strategy = {"name": strategy} if isinstance(strategy, str) else strategy
    rng = np.random.default_rng([batch_size, *map(ord, str(strategy))])
    rows = []
    for replica in range(replicas):
        for step in range(0, 1001, 100):
            distance = 0.0 if strategy["name"] == "centralized" or step == 0 else float(rng.lognormal(-7))
            row = {"step": step, "replica": replica, "epoch": step / 10, "consensus_distance": distance}
            row |= {
                "train_loss": 3 * 0.99**step + 0.01 * rng.random(),
                "test_accuracy": 0.9 + 0.05 * rng.random(),
            }
            if step == 1000:
                row |= {
                    "hessian_trace": 10 + rng.random(),
                    "hessian_top_eigenvalue": 2.0,
                    "excess_risk": 1e-4,
                    "tail_index": 2.5,
                    "tail_index_error": 0.2,
                }
            rows.append({name: value for name, value in row.items() if name not in omit})
    status = {"state": "done", "step": 1000, "diverged": diverged or {}}
    config = {"strategy": strategy, "batch_size": batch_size, "replicas": replicas}
    config["topology"] = {"name": "ring", "agents": 5}
    return Run(f"{strategy['name']}-{batch_size}", path, config, status, rows)


RUNS = [make(strategy) for strategy in STRATEGIES]


def write_tables(path, weights):
    entries = [f"{r},{s},{weights[r, s]}" for r, s in zip(*np.nonzero(weights), strict=True)]
    (path / "topology.csv").write_text("\n".join(["receiver,sender,weight", *entries]))
    (path / "partition.csv").write_text("replica,agent,label,samples\n0,0,3,10\n0,1,10,4\n1,0,3,7\n")


def metropolis(graph):
    weights = np.zeros((len(graph), len(graph)))
    for u, v in graph.edges:
        weights[u, v] = weights[v, u] = 1 / (1 + max(graph.degree[u], graph.degree[v]))
    return weights + np.diag(1 - weights.sum(1))


def draw(figure):
    figure.savefig(io.BytesIO(), format="png", dpi=50)


@pytest.fixture(autouse=True)
def leaves_matplotlib_alone():
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    pyplot.close("all")


@pytest.mark.parametrize(
    ("plot", "data"),
    [
        (plot_flatness_accuracy, RUNS),
        (plot_risk_flatness, RUNS),
        (plot_curves, RUNS),
        (plot_consensus, RUNS),
        (plot_tail_index, RUNS),
        (plot_topology, metropolis(nx.cycle_graph(5))),
        (plot_spectrum, np.linalg.eigvalsh(metropolis(nx.cycle_graph(5)))),
        (plot_survival, {"consensus": kaplan_meier([3.0, 5.0, 9.0], [True, True, False])}),
        (plot_partition, [{"replica": 0, "agent": k, "label": str(k), "samples": k} for k in range(4)]),
    ],
)
def test_plots_take_axes_or_make_them(plot, data):
    figure = Figure()
    ax = figure.subplots()
    assert plot(data, ax=ax) is ax
    assert pyplot.get_fignums() == []
    made = plot(data)
    assert isinstance(made, Axes)
    assert len(pyplot.get_fignums()) == 1
    draw(figure)


OF_COMPARISONS = ["comparison_figure", "plot_compared_curves", "plot_compared_points", "plot_heat_map", "plot_parallel"]
EMPTY = dict.fromkeys([*OF_COMPARISONS, "plot_trend"], Comparison(frame_of([]), ("strategy",), (), ()))
EMPTY |= {"plot_topology": np.zeros((0, 0)), "plot_spectrum": np.zeros(0), "plot_survival": {}, "plot_prediction": {}}


@pytest.mark.parametrize("name", plots.__all__)
def test_a_figure_of_nothing_is_an_error(name):
    more = {
        "panels": [plot_curves],
        "comparison_figure": ["curves"],
        "plot_surface": [[]],
        "plot_scatter": ["hessian_trace", "train_loss"],
    }
    data = [EMPTY.get(name, []), *more.get(name, [])]
    with pytest.raises(NoDataError, match=r"^(replica: )?(th|no |nobody )"):
        getattr(plots, name)(*data)
    assert pyplot.get_fignums() == []


UNFINISHED = dataclasses.replace(RUNS[1], metrics=[], status={"state": "interrupted", "step": 0})
LOST = make("consensus", replicas=1, diverged={"0": 300})


@pytest.mark.parametrize(
    ("plot", "runs", "settings", "sentence"),
    [
        (plot_curves, RUNS, {"metric": "test_acuracy"}, "measured 'test_acuracy'; .*did you mean 'test_accuracy'"),
        (plot_curves, RUNS, {"x": "simulated_time"}, "no run has measured 'simulated_time'; allowed: step, epoch, "),
        (panels, RUNS, {"plot": plot_curves, "metric": "nosuch"}, "no run has measured 'nosuch'"),
        (plot_consensus, [make("consensus", omit=["consensus_distance"])], {}, "measured 'consensus_distance'"),
        (plot_flatness_accuracy, RUNS, {"flatness": "hessian"}, "measured 'hessian'.*did you mean 'hessian_trace'"),
        (plot_risk_flatness, [make("consensus", omit=["excess_risk"])], {}, "no run has measured 'excess_risk'"),
        (plot_iso_accuracy, RUNS, {"accuracy": "accuracy"}, "measured 'accuracy'; .*did you mean 'test_accuracy'"),
        (plot_tail_index, [make("consensus", omit=["tail_index_error"])], {}, "measured 'tail_index_error'"),
        (plot_stability, RUNS, {}, "no run has measured 'stability_limit'"),
        (plot_agents, RUNS, {}, r"no agents were measured; .*analysis_points: \[centroid, agents\]"),
        (plot_curves, [UNFINISHED], {}, "nothing has been measured yet: consensus-32 is interrupted"),
        (plot_flatness_accuracy, [LOST], {}, "all replicas have diverged"),
        (plot_partition, [{"replica": 0, "agent": 0, "label": "1", "samples": 2}], {"replica": 3}, "replicas: 0"),
    ],
)
def test_a_figure_without_data_says_what_there_is(plot, runs, settings, sentence):
    with pytest.raises(NoDataError, match=sentence):
        plot(runs, **settings)
    assert pyplot.get_fignums() == []


def test_what_is_measured_apart_is_not_drawn_together():
    apart = [make("consensus", omit=["excess_risk"]), make("isolated", omit=["hessian_trace"])]
    with pytest.raises(NoDataError, match="no replica has finite values of all of these at once: hessian_trace, exc"):
        plot_risk_flatness(apart)


@pytest.mark.parametrize("x", ["step", "epoch", "train_loss"])
def test_curves_over_any_measurement(x):
    ax = plot_curves(RUNS[1:2], "test_accuracy", x=x, ax=Figure().subplots())
    rows = curve_rows(RUNS[1:2], "test_accuracy", x=x)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [row[x] for row in rows])


def test_a_panel_without_data_says_so():
    runs = [make("consensus", 32), make("consensus", 64, omit=["hessian_trace"])]
    first, second = panels(runs, plot_flatness_accuracy).axes
    assert not first.texts and [text.get_text() for text in second.texts] == ["no data"]
    names = {drawing.name: drawing for drawing in gallery(runs)}
    assert "flatness_accuracy" in names and "iso_accuracy" not in names
    assert "Without these measurements" in names["flatness_accuracy"].caption


def test_series_differ_without_colour():
    labels = [
        "centralized",
        "consensus",
        "diffusion ATC",
        "diffusion CTA",
        "isolated",
        "extra",
        "dual averaging",
    ]
    found = styles(labels).values()
    for part in ("color", "marker", "line"):
        assert len({getattr(style, part) for style in found}) == len(labels)
    assert styles(["consensus"]) == {"consensus": styles(labels)["consensus"]}


def test_many_series_differ():
    labels = [f"strategy {number}" for number in range(40)]
    assert len(set(styles(labels).values())) == 40


def test_a_strategy_looks_the_same_in_all_panels_and_figures():
    few, many = [make(name, 8) for name in ("nids", "extra")], [make(name, 32) for name in ("extra", "d2", "consensus")]
    figure = panels([*few, *many], plot_curves)
    seen = [
        {line.get_label(): (line.get_color(), line.get_marker()) for line in ax.lines if line.get_label()[0] != "_"}
        for ax in figure.axes
    ]
    assert [set(looks) for looks in seen] == [{"NIDS", "EXTRA"}, {"EXTRA", "D²", "consensus"}]
    looks = seen[0] | seen[1]
    assert seen[0]["EXTRA"] == seen[1]["EXTRA"] and len(set(looks.values())) == 4
    with same_styles([*few, *many]):
        for label, style in styles(["D²", "EXTRA, batch_size=32"]).items():
            assert (style.color, style.marker) == looks[label.split(",")[0]]


def test_scale_follows_the_values():
    assert choose_scale("train_loss", [0.01, 1.0]) == "log"
    assert choose_scale("train_loss", [0.5, 1.0]) == "linear"
    assert choose_scale("excess_risk", [-0.01, 1.0]) == "linear"
    assert choose_scale("test_accuracy", [0.01, 1.0]) == "linear"
    assert choose_scale("train_loss", []) == "linear"
    assert choose_scale("test_perplexity", [30.0, 60.0]) == "log"
    assert choose_scale("test_perplexity", []) == "linear"


@pytest.mark.parametrize(
    ("plot", "direction"),
    [
        (plots.plot_flatness_accuracy, "y"),
        (lambda runs: plots.plot_scatter(runs, "test_accuracy", "hessian_trace"), "x"),
        (lambda runs: plots.plot_curves(runs, "test_accuracy"), "y"),
    ],
)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_the_axis_of_a_score_ends_at_0_and_1(plot, direction, value):
    run = make("centralized", replicas=1)
    run = dataclasses.replace(run, metrics=[row | {"test_accuracy": value} for row in run.metrics])
    ax = plot([run])
    low, high = getattr(ax, f"get_{direction}lim")()
    ticks = getattr(ax, f"get_{direction}ticks")()
    assert low < value < high and all(0 <= tick <= 1 for tick in ticks if low <= tick <= high)
    pyplot.close(ax.figure)


@pytest.mark.parametrize("metric", ["test_perplexity", "test_bits_per_byte", "test_accuracy"])
def test_baselines_of_metrics_are_drawn_and_look_different(metric):
    run = make("centralized", replicas=1)
    rows = [row | {metric: 30.0 + row["step"] / 100} for row in run.metrics]
    trivial = {"unigram": {metric: 60.0}, "bigram": {metric: 20.0}, "zero": {metric: 0.0}}
    status = run.status | {"baselines": trivial, "quantities": {metric: {"label": metric}}}
    ax = plots.plot_curves([dataclasses.replace(run, metrics=rows, status=status)], metric)
    drawn = {line.get_label(): line for line in ax.lines if line.get_label() in trivial}
    assert drawn.keys() == ({"unigram", "bigram"} if ax.get_yscale() == "log" else trivial.keys())
    assert all(line.get_ydata()[0] == trivial[name][metric] for name, line in drawn.items())
    assert len({str(baseline_style(place)) for place in range(5)}) == 5
    pyplot.close(ax.figure)


def test_steps_are_counted_in_whole_numbers():
    run = make("centralized", replicas=1)
    rows = [row | {"step": n} for n, row in enumerate(run.metrics[:3])]
    ax = plots.plot_curves([dataclasses.replace(run, metrics=rows)])
    assert all(float(tick).is_integer() for tick in ax.get_xticks())
    pyplot.close(ax.figure)


def test_points_are_replicas_that_did_not_diverge():
    runs = [make("centralized"), make("consensus", diverged={"2": 50})]
    rows = replica_rows(runs, "hessian_trace", "test_accuracy")
    assert [(row["strategy"], row["replica"]) for row in rows] == [
        *(("centralized", replica) for replica in range(4)),
        *(("consensus", replica) for replica in (0, 1, 3)),
    ]
    last = runs[0].metrics[-1]
    assert rows[3]["hessian_trace"] == last["hessian_trace"]
    ax = plot_flatness_accuracy(runs, ax=Figure().subplots())
    drawn = [line for line in ax.lines if len(line.get_xdata()) > 1]
    assert [len(line.get_xdata()) for line in drawn] == [4, 3]


def test_curves_agree_with_numpy():
    rows = curve_rows(RUNS[:1], "train_loss", x="epoch")
    values = [row["train_loss"] for row in RUNS[0].metrics if row["step"] == 500]
    (row,) = [row for row in rows if row["step"] == 500]
    assert row["mean"] == pytest.approx(np.mean(values))
    assert row["se"] == pytest.approx(np.std(values, ddof=1) / 2)
    assert (row["n"], row["epoch"]) == (4, 50)
    ax = plot_curves(RUNS, x="epoch", ax=Figure().subplots())
    assert (ax.get_xlabel(), ax.get_yscale()) == ("epoch", "log")


def test_consensus_leaves_out_what_is_zero():
    ax = plot_consensus(RUNS, ax=Figure().subplots())
    labels = ax.get_legend_handles_labels()[1]
    assert labels == ["consensus", "diffusion ATC", "isolated", "centralized: exactly 0, not drawn"]
    assert min(ax.lines[0].get_xdata()) == 100
    assert ax.get_yscale() == "log"


@pytest.mark.parametrize(("plot", "more"), [(plot_stability, {}), (plot_curves, {"metric": "hessian_top_eigenvalue"})])
def test_the_name_of_a_vertical_axis_fits_a_panel_with_a_legend_below(plot, more):
    runs = [dataclasses.replace(run, metrics=[row | {"stability_limit": 20.0} for row in run.metrics]) for run in RUNS]
    figure = panels(runs, plot, **more)
    figure.savefig(io.BytesIO(), format="png", dpi=figure.dpi)  # in which the box is
    box = figure.axes[0].yaxis.label.get_window_extent()
    assert 0 <= box.y0 < box.y1 <= figure.bbox.height


def test_panels_by_the_other_key():
    runs = [make(strategy, size) for size in (8, 32, 64, 512) for strategy in STRATEGIES]
    figure = panels(runs, plot_curves, metric="test_accuracy")
    assert [ax.get_title() for ax in figure.axes] == [f"batch_size={size}" for size in (8, 32, 64, 512)]
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 4
    assert pyplot.get_fignums() == []
    draw(figure)


def test_a_single_replica_has_no_band():
    runs = [make(strategy, replicas=1) for strategy in STRATEGIES]
    for plot in (plot_curves, plot_consensus, plot_flatness_accuracy):
        draw(panels(runs, plot))


def test_topology_shows_the_weights():
    weights = np.array([[0.5, 0.3, 0.2], [0.3, 0.7, 0.0], [0.2, 0.0, 0.8]])
    figure = Figure()
    ax = plot_topology(weights, ax=figure.subplots())
    edges, nodes = ax.collections
    assert np.diff(edges.get_linewidths())[0] < 0
    assert nodes.get_array().tolist() == [0.5, 0.7, 0.8]
    assert [text.get_text() for text in ax.texts] == ["0", "1", "2"]
    draw(figure)


@pytest.mark.parametrize(("rows", "columns"), [(3, 4), (4, 3), (2, 8), (4, 4)])
@pytest.mark.parametrize("periodic", [False, True])
def test_grids_are_drawn_row_by_row(rows, columns, periodic):
    graph = nx.convert_node_labels_to_integers(nx.grid_2d_graph(rows, columns, periodic=periodic))
    ax = plot_topology(metropolis(graph), ax=Figure().subplots(), layout="grid")
    places = [text.get_position() for text in ax.texts]
    assert places == [(k % columns, -(k // columns)) for k in range(rows * columns)]


@pytest.mark.parametrize(
    "weights",
    [
        np.eye(1),
        np.eye(4),
        np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5]]),
        metropolis(nx.star_graph(6)),
        metropolis(nx.cycle_graph(100)),
        metropolis(nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 4, periodic=True))),
    ],
    ids=["one", "isolated", "directed", "star", "large", "torus"],
)
@pytest.mark.parametrize("layout", [None, "grid"])
def test_topologies_of_every_kind(weights, layout):
    figure = Figure()
    plot_topology(weights, ax=figure.subplots(), layout=layout)
    draw(figure)


def test_agents_are_drawn_where_they_are():
    places = [(0.0, 0.5), (2.0, 0.0), (1.0, 3.0)]
    ax = plot_topology(metropolis(nx.path_graph(3)), ax=Figure().subplots(), positions=places)
    assert [text.get_position() for text in ax.texts] == places
    many = np.random.default_rng(0).random((200, 2))
    ax = plot_topology(metropolis(nx.cycle_graph(200)), ax=Figure().subplots(), positions=many.tolist())
    edges, nodes = ax.collections
    np.testing.assert_allclose(nodes.get_offsets(), many)
    assert len(edges.get_segments()) == 200 and not ax.texts


def test_spectra_are_drawn_in_order_or_in_the_plane():
    values = np.array([1.0, -0.7, 0.5, 0.2])
    ax = plot_spectrum(values, ax=Figure().subplots())
    *rates, line = ax.lines
    assert line.get_xdata().tolist() == [1, 2, 3, 4] and line.get_ydata().tolist() == [1, 0.5, 0.2, -0.7]
    assert [rate.get_ydata()[0] for rate in rates] == [0.7, -0.7]
    assert ax.get_legend_handles_labels()[1] == ["mixing rate 0.7"]
    circulant = np.fft.fft([0.5, 0.5, 0, 0, 0])
    ax = plot_spectrum(circulant, ax=Figure().subplots())
    unit, rate, points = ax.lines
    np.testing.assert_allclose(np.hypot(*rate.get_xydata().T), np.cos(np.pi / 5))
    np.testing.assert_allclose(np.hypot(*unit.get_xydata().T), 1)
    np.testing.assert_array_equal(points.get_xydata(), np.column_stack([circulant.real, circulant.imag]))
    draw(ax.figure)
    # One agent, and exact averaging to rounding.
    assert plot_spectrum(np.ones(1), ax=Figure().subplots()).get_legend_handles_labels()[1] == ["mixing rate 0"]
    ax = plot_spectrum(np.array([1, 1e-17]), ax=Figure().subplots())
    assert ax.get_legend_handles_labels()[1] == ["mixing rate 0"]


def test_partition_sorts_labels_as_numbers_and_shows_one_replica():
    rows = [
        {"replica": replica, "agent": agent, "label": label, "samples": 10 * replica + agent}
        for replica in (0, 1)
        for agent in range(3)
        for label in ("10", "9", "other")
    ]
    ax = plot_partition(rows, replica=1, ax=Figure().subplots())
    assert [text.get_text() for text in ax.get_xticklabels()] == ["9", "10", "other"]
    assert ax.images[0].get_array().tolist() == [[10] * 3, [11] * 3, [12] * 3]
    with pytest.raises(ValueError, match="replica 7"):
        plot_partition(rows, replica=7)


def test_partition_without_labels_is_bars():
    rows = [{"replica": 0, "agent": agent, "label": "", "samples": 5} for agent in range(3)]
    ax = plot_partition(rows, ax=Figure().subplots())
    assert [bar.get_width() for bar in ax.patches] == [5, 5, 5]


def test_tables_are_read_from_the_run(tmp_path):
    weights = metropolis(nx.cycle_graph(5))
    write_tables(tmp_path, weights)
    run = make("consensus", path=tmp_path)
    assert np.allclose(load_weights(run).toarray(), weights)
    assert load_partition(run)[1] == {"replica": 0, "agent": 1, "label": "10", "samples": 4}
    assert load_weights(RUNS[0]) is None
    assert load_partition(RUNS[0]) == []


def test_gallery_draws_what_was_measured(tmp_path):
    write_tables(tmp_path, metropolis(nx.cycle_graph(5)))
    names = {drawing.name for drawing in gallery([make("consensus", path=tmp_path)])}
    assert names == {
        "flatness_accuracy",
        "flatness_accuracy_eigenvalue",
        "risk_flatness",
        "train_loss",
        "test_accuracy",
        "consensus",
        "tail_index",
        "topology",
        "partition",
    }
    bare = make("centralized", omit=("test_accuracy", "hessian_trace", "excess_risk", "tail_index"))
    assert [drawing.name for drawing in gallery([bare])] == ["train_loss"]


def test_gallery_says_how_many_replicas():
    drawings = {drawing.name: drawing for drawing in gallery([RUNS[0], make("consensus", diverged={"0": 9})])}
    assert "3 to 4 replicas per run" in drawings["flatness_accuracy"].caption
    assert "Zeros" in drawings["consensus"].caption
    assert pyplot.get_fignums() == []


BARE = ("test_accuracy", "hessian_trace", "hessian_top_eigenvalue", "excess_risk", "tail_index", "consensus_distance")


def with_setting(strategy, seed, **settings):
    run = make(strategy, seed, omit=BARE, replicas=2)
    return dataclasses.replace(run, config=run.config | {"batch_size": 32, **settings})


def test_a_swept_setting_is_on_the_axis_in_place_of_panels():
    rates = [0.01 * 2**n for n in range(10)]
    optimizers = [{"name": "sgd", "lr": rate} for rate in rates]
    runs = [
        with_setting(strategy, n, optimizer=optimizer, nesterov=nesterov)
        for strategy in ("centralized", "consensus")
        for n, optimizer in enumerate(optimizers)
        for nesterov in (False, True)
    ]
    assert swept(runs) == "optimizer.lr"
    drawings = {drawing.name: drawing for drawing in gallery(runs)}
    sweep = drawings["sweep_train_loss"]
    assert [ax.get_title() for ax in sweep.figure.axes] == ["nesterov=false", "nesterov=true"]
    for ax in sweep.figure.axes:
        assert ax.get_xscale() == "log" and ax.get_xlabel() == "optimizer.lr"
        assert len(ax.containers) == 2  # a line a strategy
        np.testing.assert_allclose(ax.containers[0].lines[0].get_xdata().astype(float), rates)
    assert [text.get_text() for text in sweep.figure.legends[0].get_texts()] == ["centralized", "consensus"]
    assert not illegible(sweep.figure)
    assert len(sweep.rows) == 40
    best = min(sweep.rows, key=lambda row: row["mean"])
    assert f"lowest for {best['strategy']} at optimizer.lr={best['optimizer.lr']:g}" in sweep.finding
    curves = drawings["train_loss"]
    (ax,) = curves.figure.axes
    assert len({row["label"] for row in curves.rows}) == len(ax.get_legend().get_texts()) == 2
    assert "Shown are, of 40 runs, the best of each strategy" in curves.caption


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ([{"batch_size": n} for n in (1, 2, 4, 8)], "batch_size"),
        ([{"batch_size": n} for n in (1, 2, 4)], None),
        ([{"model": {"name": "mlp", "activation": name}} for name in ("relu", "tanh", "elu", "gelu")], None),
        ([{"replicas": n} for n in (1, 2, 4, 8)], None),
        ([{"case": f"case {n}", "batch_size": n} for n in (1, 2, 4, 8)], None),
    ],
)
def test_only_a_numeric_condition_of_many_values_is_swept(settings, key):
    assert swept([with_setting("consensus", n, **values) for n, values in enumerate(settings)]) == key


@pytest.mark.parametrize(
    ("strategies", "conditions", "panel_count", "series", "note"),
    [
        (3, 9, 9, 3, ""),
        (3, 10, 1, 3, "Shown are, of 30 runs, the best of each strategy"),
        (14, 2, 2, 12, "Of 14 strategies the best 12 are shown."),
        (14, 10, 1, 12, "Shown are, of 140 runs, the best of each of the best 12 of 14 strategies"),
    ],
)
def test_a_figure_has_no_more_than_can_be_told_apart(strategies, conditions, panel_count, series, note):
    runs = [
        with_setting(f"s{number}", 100 * number + index, task=f"task {index}")
        for number in range(strategies)
        for index in range(conditions)
    ]
    (drawing,) = [drawing for drawing in gallery(runs) if drawing.name == "train_loss"]
    assert len(drawing.figure.axes) == panel_count
    assert len({row["strategy"] for row in drawing.rows}) == series
    assert note in drawing.caption and ("best" in drawing.caption) == bool(note)


@pytest.mark.parametrize(
    "runs",
    [
        [with_setting("consensus", n, task=f"task {n}") for n in range(30)],
        [with_setting(f"s{n}", n) for n in range(14)],
    ],
)
def test_measurements_of_few_among_many_runs_are_drawn(runs):
    worst = max(runs, key=lambda run: fmean(run.final("train_loss").values()))
    worst.metrics[-1].update(hessian_trace=2.0, excess_risk=1e-3)
    drawings = {drawing.name: drawing for drawing in gallery(runs)}
    assert len(drawings["risk_flatness"].rows) == 1
    assert "of 1 run with these" in drawings["risk_flatness"].caption or len(runs) == 14


def test_a_dollar_in_a_name_begins_no_formula():
    runs = [make(strategy) for strategy in ("consensus", "isolated")]
    for run, case in zip(runs, ("$\\frac{$", "$x$"), strict=True):
        run.config["case"] = case
    figure = Figure()  # with ticks as matplotlib writes them
    figure.subplots().set(yscale="log", ylim=(1, 1e9), title="$x$")
    drawings = [*gallery(runs), Drawing("own", "", "", figure, [])]
    for drawing in drawings:
        draw(drawing.figure)
    texts = [text for drawing in drawings for text in drawing.figure.findobj(Text)]
    assert all(not text.get_parse_math() for text in texts if "$x$" in text.get_text())
    powers = [text for text in texts if "mathdefault" in text.get_text()]
    assert powers and all(text.get_parse_math() for text in powers)
