"""Named axes, whose keys go together, and copies, which are no samples of their own."""

import io
import re

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from basinet import compare
from basinet.analysis.compare.significance import best_of_each
from basinet.analysis.plots import comparison_figure
from basinet.launch.cli.entry import main
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.experiment.grids.named_axes import named_axes
from basinet.sim.experiment.grids.run_names import point_of
from basinet.sim.run.files import sealed_yaml, write_atomically
from tests.planted_runs import write_run

GRAPHS = ("ring", "complete", "star")
RNG = np.random.default_rng(8)
AXES = {"regime": {"batch_size": [2, 16], "optimizer.lr": [0.2, 0.25]}}


@pytest.fixture
def copied(tmp_path):
    """Isolated agents are the same on all graphs, and better than diffusion; the limit is of the graph."""
    alone = {"test_accuracy": RNG.normal(0.8, 0.01, 6), "hessian_trace": RNG.normal(3, 1, 6)}
    values = {}
    for place, graph in enumerate(GRAPHS):
        for strategy in ("isolated", "diffusion"):
            own = {name: v - 0.1 + RNG.normal(0, 0.01, 6) for name, v in alone.items()}
            values[strategy, graph] = finals = alone if strategy == "isolated" else own
            finals = {name: v.tolist() for name, v in finals.items()} | {"limit": [float(place)] * 6}
            topology = {"name": graph, "agents": 4, "policy": {"name": "metropolis"}}
            write_run(tmp_path, f"{strategy}_{graph}", finals, strategy=strategy, topology=topology)
    return tmp_path, values


def test_copies_count_once_in_relations(copied):
    folder, values = copied
    found = compare(*sorted(folder.iterdir()))
    related = found.relations("test_accuracy", "hessian_trace")
    once = [v for (strategy, graph), v in values.items() if strategy == "diffusion" or graph == GRAPHS[0]]
    y, x = (np.concatenate([v[name] for v in once]) for name in ("test_accuracy", "hessian_trace"))
    assert {one.n for one in related.found} == {24} and len(found.frame) == 36
    assert related.found[0].p == pytest.approx(stats.spearmanr(y, x).pvalue)
    assert related.notes[0].startswith("12 of 36 replicas are copies of others") and "24 points" in related.notes[0]
    # without a graph of its own a replica has no number of a graph, either
    graphs = found.relations("test_accuracy", "limit")
    assert graphs.found[0].n == 18 and "18 of 36 replicas have measures of graphs" in graphs.notes[0]


def test_a_coincidence_of_one_replica_is_no_copy_of_others(copied):
    folder, _ = copied
    for graph in GRAPHS[:2]:  # another strategy, and another seed
        finals = {"test_accuracy": [0.5, 0.6], "hessian_trace": [1.0, 2.0]}
        write_run(folder, f"d2_{graph}", finals, strategy="d2" if graph == "ring" else "extra")
        write_run(folder, f"seed_{graph}", finals, seed=len(graph))
    frame = compare(*sorted(folder.iterdir())).frame
    rows = [row for row, place in enumerate(frame.places.tolist()) if frame.runs[place].name.startswith(("d2", "seed"))]
    assert frame.samples[rows].tolist() == rows and len({*frame.samples.tolist()}) == 24 + len(rows)


def test_copies_count_once_in_tests(copied):
    folder, _ = copied
    found = compare(*sorted(folder.iterdir()), by=["strategy", "topology"])
    best = {g.label for g, means in zip(found.groups, found.means, strict=True) if means["test_accuracy"].best}
    assert best == {f"isolated, {graph}" for graph in GRAPHS}
    assert all("isolated" in note for note in found.notes if "copies" in note) and "copies" in " ".join(found.notes)
    # p = 0.03 passes 5 % as the only test, not as one of two
    zero = {(0, r): 0.0 for r in range(6)}
    close = {(0, r): v for r, v in enumerate((stats.zscore([1, 2, 4, 8, 5, 3], ddof=1) - 3 / 6**0.5).tolist())}
    twice = ["a", "a", "b", "b"], [zero, close, zero, close], "larger"
    assert best_of_each(*twice)[2] == [False] * 4
    assert best_of_each(*twice, samples=[0, 1, 0, 1])[2] == [True, False, True, False]


def write_axes(folder, axes, *strategies):
    """Write runs at the points of a named axis, and their experiment."""
    ((axis, keys),) = axes.items()
    names = []
    for size, lr in zip(*keys.values(), strict=True):
        for strategy in strategies:
            names.append(f"{strategy}_{axis}={size}-{lr}")
            own = {"strategy": strategy, "batch_size": size, "optimizer__lr": lr}
            write_run(folder, names[-1], {"test_accuracy": [0.5, 0.6]}, **own)
    write_atomically(folder / "experiment.yaml", sealed_yaml({"axes": axes, "runs": names}))
    return folder


@pytest.fixture
def regimes(tmp_path):
    return write_axes(tmp_path, AXES, "diffusion", "consensus")


def test_a_named_axis_is_one_condition(regimes):
    found = compare(regimes)
    assert [group.condition for group in found.groups] == ["regime=2-0.2"] * 2 + ["regime=16-0.25"] * 2
    (note,) = found.notes
    assert "differ in regime (2-0.2, 16-0.25) besides" in note and "--by strategy,regime" in note
    assert len(compare(regimes, where="regime=2-0.2").groups) == 2
    for where in ({"regime": ["2-0.2", "16-0.25"], "strategy": "diffusion"}, {"optimizer.lr": (0.25,)}):
        assert len(compare(regimes, where=where).groups) == 2
    assert compare(regimes, where="strategy=diffusion").by == ("regime",)
    # folders of single runs, and runs of no such experiment beside them
    write_run(regimes / "other", "a", {"test_accuracy": [0.5, 0.6]}, batch_size=2, optimizer__lr=0.25)
    more = compare(*regimes.glob("*_*"), regimes / "other" / "a")
    assert {g.condition for g in more.groups} == {
        f"optimizer.lr={lr}, batch_size={size}" for size, lr in ((2, 0.2), (16, 0.25), (2, 0.25))
    }


@pytest.mark.parametrize(
    ("by", "labels"),
    [
        ("regime", ["2-0.2", "16-0.25"]),
        ("batch_size", ["2", "16"]),
        ("optimizer.lr", ["0.2", "0.25"]),
    ],
)
def test_keys_of_an_axis_are_compared_together(regimes, by, labels):
    found = compare(regimes, by=["strategy", by])
    assert {g.label for g in found.groups} == {f"{s}, {v}" for s in ("diffusion", "consensus") for v in labels}
    assert {g.condition for g in found.groups} == {""}
    assert [note.partition(",")[0] for note in found.notes] == (
        [] if by == "regime" else [f"{by} stands for the axis regime"]
    )


def test_figures_of_an_axis(regimes):
    figure, _ = comparison_figure(compare(regimes, by=["strategy", "regime"]), "trend", x="batch_size")
    assert figure.axes[0].get_legend_handles_labels()[1] == ["diffusion ≈ consensus"]  # with the values of both
    figure, _ = comparison_figure(compare(regimes, where="strategy=diffusion"), "parallel")
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()][:-1] == ["regime"]


def test_a_key_that_does_not_tell_the_points_of_its_axis_apart(tmp_path):
    axes = {"size": {"batch_size": [2, 2, 16], "optimizer.lr": [0.1, 0.2, 0.2]}}
    found = compare(write_axes(tmp_path, axes, "diffusion"), by="batch_size")
    assert {group.condition for group in found.groups} == {"size=2-0.1", "size=2-0.2", "size=16-0.2"}


def test_points_are_found_by_the_names_of_runs():
    axes = {"my way": {"batch_size": [1, 1, 10], "optimizer.lr": [0.1, 0.15, 0.1]}, "b": {"steps": [1, 10]}}
    experiment = Experiment(
        task="digits", model="linear", strategy="isolated", topology={"name": "ring", "agents": 3}, axes=axes
    )
    first, second = named_axes(axes)
    for name, config in experiment.runs.items():
        found = tuple(point_of(name, axis.name, axis.texts) for axis in (first, second))
        assert found == (f"{config.batch_size}-{config.optimizer.describe()['lr']:g}", str(config.steps))
    assert point_of("diffusion", "b", ["1", "10"]) is None


def test_the_best_is_marked_where_text_cannot_be_bold(copied, tmp_path, capsys):
    folder, _ = copied
    runs = [str(path) for path in sorted(folder.iterdir()) if path.name.endswith("ring")]
    file = tmp_path / "table.txt"
    assert main(["compare", *runs]) == main(["compare", *runs, "--out", str(file)]) == 0
    for text in (capsys.readouterr().out, file.read_text()):
        assert re.search(r"isolated .* ± [\d.]+\* ", text) and text.count("*: best, and better") == 1
        assert text.count("*") == 3 and "bold" not in text
    drawn = io.StringIO()
    console = Console(file=drawn, width=120, force_terminal=True, color_system="standard")
    console.print(compare(*runs).table().terminal(120))
    assert "*" not in drawn.getvalue() and "bold: best" in drawn.getvalue() and "\x1b[1m" in drawn.getvalue()
    table = compare(*runs).table()
    assert all("bold: best" in text for text in (table.markdown(), table.latex(), table.html()))


def test_metrics_of_some_replicas_are_named(tmp_path):
    finals = {"test_accuracy": [0.5, 0.6, 0.7], "hessian_trace": [1.0, np.nan, np.nan]}
    write_run(tmp_path, "a", finals, diverged={2: 50})
    write_run(tmp_path, "b", {"test_accuracy": [0.4, 0.5], "hessian_trace": [1.0, 2.0]}, strategy="consensus")
    notes = compare(*sorted(tmp_path.iterdir())).notes
    assert notes == ("hessian_trace was measured in only 1 of 2 replicas of diffusion",)


def test_amounts_are_written_to_be_read(tmp_path):
    curves = {"test_accuracy": [[0.1, 0.9]] * 3}
    write_run(tmp_path, "a", {"test_accuracy": [0.9] * 3}, curves=curves, steps=4_000_000, batch_size=16)
    found = compare(tmp_path / "a", target="test_accuracy=0.8", metrics=["bytes", "test_accuracy"])
    row = found.table().markdown().splitlines()[2]
    assert "40 M" in row and "| 2 M \\[2 M, ∞" in row and "128 M \\[" in row and "e+" not in row


def test_relations_of_too_few_replicas(tmp_path):
    write_run(tmp_path, "a", {"test_accuracy": [0.5], "hessian_trace": [1.0]})
    with pytest.raises(ExperimentError, match="--x: 1 replica has test_accuracy and hessian_trace, and 5 are needed"):
        compare(tmp_path / "a").relations("test_accuracy", "hessian_trace")
