"""Figures of comparisons: what they show, at the widths of papers, with few and with many runs."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from basinet import compare
from basinet.analysis.drawing.legibility import illegible
from basinet.analysis.plots import (
    comparison_figure,
    plot_compared_curves,
    plot_compared_points,
    plot_heat_map,
    plot_parallel,
    plot_trend,
)
from basinet.analysis.plots.compared import compared_series
from basinet.analysis.plots.compared.compared_figures import KINDS
from basinet.analysis.plots.compared.compared_series import chosen
from basinet.launch.cli.entry import main
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.records import csv_text
from tests.planted_runs import write_record, write_run

STRATEGIES = ["diffusion", "consensus", "exact_diffusion"]
COMPLETE = [(i, j, 1 / 4) for i in range(4) for j in range(4)]
METRICS = ["test_accuracy", "hessian_trace", "excess_risk"]


def finals(place, replicas=3):
    noise = 0.01 * np.random.default_rng(place).normal(size=replicas)
    values = {"test_accuracy": 0.9 - 0.01 * place + noise, "hessian_trace": (10 + place) * (1 + noise)}
    return {name: found.tolist() for name, found in values.items()} | {
        "excess_risk": (1e-3 / (1 + place) + 1e-4 * noise**2).tolist()
    }


def write_study(folder, **keys):
    """Write a run for each combination of values of the keys."""
    names = []
    for place, values in enumerate(itertools.product(*keys.values())):
        ends = finals(place)
        curves = {"test_accuracy": [[0.1, 0.6]] * 3}
        run = write_run(folder, f"{place}", ends, curves=curves, sync=False, **dict(zip(keys, values, strict=True)))
        if "complete" in values:
            (run / "topology.csv").write_text(csv_text(("receiver", "sender", "weight"), COMPLETE))
        names.append(f"{place}")
    return write_record(folder, names)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return write_study(folder, strategy=STRATEGIES, topology__name=["ring", "complete"], batch_size=[8, 64])


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Two hundred runs under fifty conditions."""
    folder = tmp_path_factory.mktemp("large")
    rates = [0.001, 0.003, 0.01, 0.03, 0.1]
    four = [*STRATEGIES, "isolated"]
    return write_study(
        folder, strategy=four, optimizer__lr=rates, batch_size=[1, 2, 4, 8, 16], topology__name=["ring", "complete"]
    )


SETTINGS = {"scatter": {"x": "degree", "y": "hessian_trace"}, "heatmap": {"x": "batch_size", "y": "strategy"}}
WHERE = {1: ["topology=ring", "batch_size=8"], 2: ["batch_size=8"], 4: []}


PAPERS = [(kind, 1, "column") for kind in KINDS]
PAPERS += [(kind, 2, "page") for kind in ("flatness", "heatmap")]
PAPERS += [(kind, 4, "column") for kind in KINDS if kind not in ("risk", "scatter", "parallel")]


@pytest.mark.parametrize(("kind", "panels", "width"), PAPERS)
def test_figures_of_papers_can_be_read(study, kind, panels, width):
    found = compare(study, by="strategy", where=WHERE[panels])
    figure, _ = comparison_figure(found, kind, width=width, **SETTINGS.get(kind, {}))
    assert figure.get_figwidth() == {"column": 3.3, "page": 6.9}[width]
    assert illegible(figure) == []
    shown = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    wanted = {"heatmap": {1: 1, 2: 2, 4: 2}, "trend": {1: 1, 2: 1, 4: 2}, "parallel": {1: 1, 2: 1, 4: 1}}
    assert len(shown) == wanted.get(kind, {}).get(panels, panels)


@pytest.mark.parametrize("kind", ["curves", "heatmap", "parallel"])
def test_two_hundred_runs_make_a_figure_that_can_be_read(large, kind, compared_large):
    figure, notes = comparison_figure(
        compared_large, kind, width="column" if kind == "heatmap" else "page", **SETTINGS.get(kind, {})
    )
    assert illegible(figure) == []
    assert len([ax for ax in figure.axes if ax.get_label() != "<colorbar>"]) <= 9
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    assert all(len(legend.get_texts()) <= 14 for legend in legends)
    if kind == "curves":
        assert any("each under its best of 50 conditions, by" in note for note in notes)


@pytest.fixture(scope="module")
def compared_large(large):
    return compare(large, by="strategy")


def test_points_are_replicas_and_means(study):
    found = compare(study, by="strategy", where=WHERE[1])
    ax = plot_compared_points(found, "hessian_trace", "test_accuracy", ax=Figure().subplots())
    for place, (container, index) in enumerate(zip(ax.containers, (0, 4, 8), strict=True)):
        planted = finals(index)
        (line,) = [line for line in ax.lines if line.get_label() == f"_around {container.get_label()}"]
        assert line.get_xdata() == pytest.approx(planted["hessian_trace"]), place
        mean = np.mean(planted["test_accuracy"])
        (_, low), (_, high) = container[2][1].get_segments()[0]
        assert container[0].get_ydata() == pytest.approx([mean])
        assert (high - low) / 2 == pytest.approx(np.std(planted["test_accuracy"], ddof=1) / 3**0.5)


def test_curves_are_means_over_what_was_spent(study):
    found = compare(study, by="strategy", where=WHERE[1])
    line = plot_compared_curves(found, x="bytes", ax=Figure().subplots()).lines[0]
    assert line.get_xdata().tolist() == [0, 500, 1000]
    assert line.get_ydata() == pytest.approx([0.1, 0.6, np.mean(finals(0)["test_accuracy"])])
    with pytest.raises(ExperimentError, match="no run has recorded test_accuracy over seconds"):
        comparison_figure(found, "curves", x="seconds")


def bars_of(values, interval):
    """Return the ends of the bars around a mean, the bootstrap's by scipy."""
    if interval == "error":
        return [np.mean(values) + side * stats.sem(values) for side in (-1, 1)]
    return stats.bootstrap((values,), np.mean, method="percentile", rng=0).confidence_interval


SKEWED = {"test_accuracy": [0.5, 0.51, 0.53, 0.52, 0.9, 0.1], "hessian_trace": [1.0, 1.1, 1.2, 1.0, 5.0, 90.0]}


@pytest.mark.parametrize("interval", ["error", "bootstrap"])
def test_bars_and_bands_are_intervals_of_replicas_that_did_not_diverge(tmp_path, interval):
    curves = {"test_accuracy": [[0.1]] * 6}
    found = compare(write_run(tmp_path, "a", SKEWED, curves=curves, diverged={5: 90}))
    across, up = (bars_of(SKEWED[name][:5], interval) for name in ("hessian_trace", "test_accuracy"))
    ax = plot_compared_curves(found, interval=interval, ax=Figure().subplots())
    band = ax.collections[0].get_paths()[0].vertices
    assert sorted({y for x, y in band.tolist() if x == 100}) == pytest.approx(up, abs=0.003)
    ax = plot_compared_points(found, "hessian_trace", "test_accuracy", interval=interval, ax=Figure().subplots())
    (horizontal, vertical) = ax.containers[0][2]
    assert horizontal.get_segments()[0][:, 0] == pytest.approx(across, abs=0.03)
    assert vertical.get_segments()[0][:, 1] == pytest.approx(up, abs=0.003)
    ax = plot_heat_map(found, "test_accuracy", x="batch_size", y="optimizer.lr", ax=Figure().subplots())
    assert np.asarray(ax.images[0].get_array()) == pytest.approx(np.mean(SKEWED["test_accuracy"][:5]))
    ax = plot_trend(found, "test_accuracy", x="batch_size", interval=interval, ax=Figure().subplots())
    assert ax.containers[0][2][0].get_segments()[0][:, 1] == pytest.approx(up, abs=0.003)


def test_of_many_series_the_best_are_shown_each_at_its_best(study, tmp_path, monkeypatch):
    monkeypatch.setattr(compared_series, "MOST_SERIES", 2)
    found = compare(study, by="strategy")
    for metric, names in (("test_accuracy", STRATEGIES[:2]), ("excess_risk", ["consensus", "exact diffusion"])):
        kept, note = chosen(found, metric)
        assert {group.label for group in kept.groups} == {*names} and "the best 2 of 3 series" in note
    monkeypatch.setattr(compared_series, "MOST_PANELS", 1)
    for strategy, size in itertools.product(("diffusion", "consensus"), (8, 64)):
        best = (strategy == "diffusion") == (size == 8)
        ends = {"test_accuracy": [0.5 + 0.1 * best, 0.5]}
        write_run(tmp_path, f"{strategy}{size}", ends, strategy=strategy, batch_size=size, optimizer__lr=size / 10)
    kept, note = chosen(compare(*sorted(tmp_path.iterdir())), "test_accuracy")
    assert [(group.label, group.condition) for group in kept.groups] == [
        ("consensus, optimizer.lr=6.4", ""),
        ("diffusion, optimizer.lr=0.8", ""),
    ]
    assert "all series, each under its best of 2 conditions" in note


def test_parallel_axes_run_from_the_smallest_to_the_largest(tmp_path):
    for place, (size, trace) in enumerate(((8, 1.0), (64, 100.0), (16, 10.0))):
        ends = {"test_accuracy": [0.5 + 0.1 * place] * 2, "hessian_trace": [trace] * 2}
        write_run(tmp_path, f"{size}", ends, batch_size=size, optimizer__lr=0.1)
    ax = plot_parallel(compare(*tmp_path.iterdir()), ["hessian_trace", "test_accuracy"], ax=Figure().subplots())
    heights = [line.get_ydata() for line in ax.lines]
    assert [line.get_xdata().tolist() for line in ax.lines] == [[0, 1, 2]] * 3  # what all share has no axis
    # the flattest is drawn last; flatness is on a logarithmic axis, batch sizes on a linear one
    wanted = [[1, 1, 0.5], [1 / 7, 0.5, 1], [0, 0, 0]]
    assert np.array(heights) == pytest.approx(np.array(wanted))


def test_trends_are_over_graphs_and_settings(study):
    found = compare(study, by="strategy", where=["batch_size=8"])
    ax = plot_trend(found, ax=Figure().subplots())
    assert ax.lines[0].get_xdata() == pytest.approx([2 / 3, 1])  # of W = I/3 + ring/3, and of 11ᵀ/4
    assert ax.lines[0].get_ydata() == pytest.approx([np.mean(finals(place)["test_accuracy"]) for place in (0, 2)])
    assert ax.get_legend_handles_labels()[1] == ["diffusion", "consensus", "exact diffusion", "ring", "complete"]
    ax = plot_trend(compare(study, by="strategy", where=["topology=ring"]), x="batch_size", ax=Figure().subplots())
    assert ax.lines[0].get_xdata().tolist() == [8, 64]


def test_maps_are_means_over_two_keys(study):
    found = compare(study, by=("batch_size", "strategy"), where=["topology=ring"])
    ax = plot_heat_map(found, "hessian_trace", ax=Figure().subplots())
    wanted = [[np.mean(finals(4 * k + b)["hessian_trace"]) for b in (0, 1)] for k in range(3)]
    assert np.asarray(ax.images[0].get_array()) == pytest.approx(np.array(wanted)) and ax.images[0].origin == "lower"
    assert [text.get_text() for text in ax.get_yticklabels()] == ["diffusion", "consensus", "exact diffusion"]


def test_empty_cells_of_maps_are_explained(study):
    found = compare(study, where=["batch_size=8"], by=["strategy", "topology"])
    fewer = replace(found, groups=found.groups[1:], means=found.means[1:])
    figure, notes = comparison_figure(fewer, "heatmap", metrics=["test_accuracy"])
    assert [text.get_text() for text in figure.axes[0].texts].count("–") == 1
    assert notes[0] == "cells without a colour (1): there is no run, or no replica has test_accuracy"
    assert "colour" not in " ".join(comparison_figure(found, "heatmap")[1])


def test_series_that_coincide_in_one_panel_are_in_the_legend_once(tmp_path):
    ends = {("diffusion", 8): 0.5, ("consensus", 8): 0.5, ("diffusion", 64): 0.5, ("consensus", 64): 0.9}
    ends |= {("isolated", 8): 0.7, ("isolated", 64): 0.7, ("d2", 8): 0.7, ("d2", 64): 0.7}
    for (strategy, size), end in ends.items():
        for lr in (0.1, 0.2):
            own = {"strategy": strategy, "batch_size": size, "optimizer__lr": lr}
            write_run(tmp_path, f"{strategy}{size}{lr}", {"test_accuracy": [end - lr] * 2}, **own)
    figure, _ = comparison_figure(compare(*sorted(tmp_path.iterdir())), "trend", x="optimizer.lr")
    (legend,) = figure.legends
    said = [" ".join(text.get_text().split()) for text in legend.get_texts()]
    assert sorted(said) == ["D² ≈ isolated", "consensus", "diffusion"]
    colors = {line.get_color() for line in legend.get_lines()}
    assert len(colors) == 3


def test_a_map_never_shows_one_strategy_in_the_place_of_others(study):
    two = compare(study, where=["strategy=diffusion,consensus"])
    found, _ = comparison_figure(two, "heatmap", x="topology", y="batch_size")
    titles = [ax.get_title() for ax in found.axes if ax.images]
    assert titles == ["strategy=diffusion", "strategy=consensus"]
    shown = [np.asarray(ax.images[0].get_array())[0, 0] for ax in found.axes if ax.images]
    assert shown == pytest.approx([np.mean(finals(place)["test_accuracy"]) for place in (0, 4)])


def test_a_map_tells_strategies_by_what_was_set_for_them_and_takes_lists(tmp_path):
    for place, lr in enumerate((0.1, 0.2)):
        for hidden in ([6], [6, 6]):
            more = {"optimizer__lr": lr, "model": {"name": "mlp", "hidden": hidden}, "strategy_keys": ["optimizer.lr"]}
            write_run(tmp_path, f"{lr}-{len(hidden)}", {"test_accuracy": [0.1 * place, 0.1 * len(hidden)]}, **more)
    ax = plot_heat_map(compare(*sorted(tmp_path.iterdir())), x="model.hidden", y="strategy", ax=Figure().subplots())
    assert [text.get_text() for text in ax.get_xticklabels()] == ["[6]", "[6, 6]"]
    assert [text.get_text() for text in ax.get_yticklabels()] == [f"diffusion, optimizer.lr=0.{k}" for k in (1, 2)]
    assert np.asarray(ax.images[0].get_array()) == pytest.approx(np.array([[0.05, 0.1], [0.1, 0.15]]))


def test_a_line_is_never_a_mean_over_a_part_of_the_replicas(tmp_path):
    for seed, (last, half) in enumerate(((100, 0.6), (60, 0.4))):  # the second ended early
        values = {"test_accuracy": [[0.1, half]]}
        write_run(tmp_path, f"{seed}", {"test_accuracy": [0.9]}, curves=values, step=last, seed=seed)
    line = plot_compared_curves(compare(*sorted(tmp_path.iterdir())), ax=Figure().subplots()).lines[0]
    assert line.get_xdata().tolist() == [0, 50] and line.get_ydata() == pytest.approx([0.1, 0.5])


@pytest.mark.parametrize("suffix", [".pdf", ".svg", ".png"])
def test_the_command_writes_figures(study, tmp_path, capsys, suffix):
    file = tmp_path / f"figure{suffix}"
    words = ["--where", "batch_size=8", "--where", "topology=ring", "--width", "column", "--plot", "trend"]
    assert main(["compare", str(study), *words, "--out", str(file)]) == 0
    first = file.read_bytes()
    assert main(["compare", str(study), *words, "--out", str(file)]) == 0 and file.read_bytes() == first
    starts = {".pdf": b"%PDF", ".svg": b"<?xml", ".png": b"\x89PNG"}
    assert file.read_bytes().startswith(starts[suffix]) and f"figure: {file}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--plot", "flatnes", "--out", "a.pdf"], "did you mean 'flatness'"),
        (["--plot", "curves", "--out", "a.pdf", "--x", "byts"], "did you mean 'bytes'"),
        (["--plot", "flatness"], "a figure needs a file with .pdf, .svg, .png"),
        (["--plot", "flatness", "--out", "a.docx"], "got a.docx"),
        (["--plot", "flatness", "--out", "a.pdf", "--width", "wide"], "allowed are column (3.3 in), page (6.9 in)"),
        (["--plot", "flatness", "--out", "a.pdf", "--width", "nan"], "--width: got nan"),
        (["--plot", "flatness", "--out", "a.pdf", "--json"], "--json: a figure has no such setting"),
        (["--plot", "scatter", "--out", "a.pdf", "--x", "hessian_trace"], "give --x and --y"),
        (["--plot", "scatter", "--out", "a.pdf", "--x", "strategy", "--y", "test_accuracy"], "numbers are needed"),
        (["--plot", "heatmap", "--out", "a.pdf", "--x", "batch_size", "--y", "batch_size"], "needs two keys"),
        (
            ["--plot", "heatmap", "--out", "a.pdf", "--x", "batch_size", "--y", "test_accuracy"],
            "is measured, not chosen",
        ),
        (["--plot", "trend", "--out", "a.pdf", "--x", "topology"], "numbers are needed"),
        (["--plot", "trend", "--out", "a.pdf", "--x", "test_loss"], "no run has this key or metric"),
        (["--width", "column"], "give --plot, too"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(study, tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", str(study), *words]) == 2
    said = capsys.readouterr().err
    assert sentence in said and "Traceback" not in said and not list(tmp_path.iterdir())


def test_groups_that_are_not_shown_are_named(tmp_path):
    one = write_run(tmp_path, "one", {"test_accuracy": [0.5, 0.6]}, strategy="consensus")
    two = write_run(tmp_path, "two", {"test_accuracy": [0.5, 0.6], "hessian_trace": [1.0, 2.0]})
    figure, notes = comparison_figure(compare(one, two), "flatness")
    assert notes[0] == "bars and bands around means over replicas: one standard error to both sides"
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["diffusion"]
    assert notes[-1].startswith("no replica of consensus has hessian_trace and test_accuracy")


def test_without_a_hessian_the_figure_says_what_to_measure(tmp_path):
    for strategy in STRATEGIES:
        write_run(tmp_path, strategy, {"test_accuracy": [0.5, 0.6]}, strategy=strategy)
    with pytest.raises(ExperimentError, match="no run has measured a Hessian"):
        comparison_figure(compare(tmp_path / STRATEGIES[0], tmp_path / STRATEGIES[1]), "flatness")
