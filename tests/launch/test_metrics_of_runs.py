"""Metrics of an experiment: from files, words and Python, to records, tables, plots and the report."""

import json
import sys
from pathlib import Path

import pytest
import torch

import basinet
from basinet.analysis.measures import PointMeasure
from basinet.analysis.metrics import Metric
from basinet.analysis.plots import plot_curves, plot_flatness_accuracy
from basinet.analysis.runs.check_analysis import check_analysis
from basinet.analysis.statistics.quantities import main_metric, quantities
from basinet.analysis.statistics.ranking import ranking
from basinet.analysis.statistics.summary_table import baseline_cells, cells
from basinet.launch.cli import main
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run.folder import load_run
from basinet.sim.run.quantity import QUANTITIES, Quantity
from basinet.sim.setup.build import build_setup
from basinet.sim.tasks import Task, supervised

CODE = '''
from basinet.analysis.metrics import Metric, SampleMean

class Near(SampleMean):
    """The fraction of predictions near the target."""
    label, unit, direction = "near", "fraction", "larger"

    def __init__(self, distance: int = 1):
        self.distance = distance

    def values(self, outputs, batch, task):
        return (task.predict(outputs) - task.targets(batch)).abs() <= self.distance
'''
TINY = {
    "task": {"name": "digits", "train_size": 60},
    "model": {"name": "mlp", "hidden": [2]},
    "topology": {"name": "ring", "agents": 3},
    "strategy": "diffusion",
    "batch_size": 4,
    "steps": 4,
    "replicas": 2,
    "analysis": [],
}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The folder where a user has metrics beside the experiment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "basinettest_metrics.py").write_text(CODE)
    yield "basinettest_metrics"
    sys.modules.pop("basinettest_metrics", None)


def test_from_a_file_to_records_tables_plots_and_the_report(mine, capsys):
    metrics = ["f1_macro", "accuracy", {"name": "topk", "k": 1}, {"name": "topk", "k": 10}]
    own = [{"name": f"{mine}:Near", "distance": d} for d in (0, 9)]
    asked = TINY | {"metrics": metrics + own, "metrics_on": ["test", "train"], "strategy": ["diffusion", "consensus"]}
    Path("own.yaml").write_text(json.dumps(asked | {"analysis": ["hessian_trace"]}))
    assert main(["run", "own.yaml", "--out", "out", "--quiet"]) == 0
    table = capsys.readouterr().out
    assert "majority class" in table
    for run in (runs := basinet.load("out").runs):
        rows = [row for row in run.metrics if "test_loss" in row]
        assert len(rows) == 2 * 5
        for row in rows:
            for where in ("test", "train"):
                assert row[f"{where}_top1_accuracy"] == row[f"{where}_accuracy"] == row[f"{where}_near_distance_0"]
                assert row[f"{where}_top10_accuracy"] == row[f"{where}_near_distance_9"] == 1
        known = run.metric_quantities
        assert next(iter(known)) == "test_f1_macro" and known["train_near_distance_9"].axis == (
            "training near, distance=9 (fraction)"
        )
        assert run.baselines["majority class"]["test_accuracy"] == pytest.approx(0.1, abs=0.01)
    # Another process, which does not have the module, knows the same names.
    sys.modules.pop(mine)
    Path(f"{mine}.py").unlink()
    assert main_metric(runs) == ranking(runs) == "test_f1_macro"
    headings = cells(runs)[0]
    assert headings[3:6] == ["test F1 (macro) ↑", "train F1 (macro) ↑", "test accuracy ↑"]
    (baseline,) = baseline_cells(runs)
    assert baseline[:3] == ["", "majority class (baseline)", ""] and len(baseline) == len(headings)
    assert float(baseline[5]) == pytest.approx(runs[0].baselines["majority class"]["test_accuracy"], rel=1e-3)
    ax = plot_curves(runs, "test_accuracy")
    assert ax.get_ylabel() == "test accuracy\n(fraction correct)"
    assert "majority class" in {line.get_label() for line in ax.lines}
    assert plot_flatness_accuracy(runs).get_ylabel() == "test macro F1"
    page = Path("out/report.html").read_text()
    assert "majority class (baseline)" in page and Path("out/figures/test_near_distance_9.png").exists()


def test_the_accuracy_is_the_usual_metric_of_classes_and_others_have_none():
    classes = build_setup(Config.parse(TINY))
    assert [*classes.quantities] == ["test_accuracy", *QUANTITIES]
    assert classes.quantities["test_accuracy"] == Quantity(
        "test accuracy", "test accuracy", "fraction correct", "larger",
        "The fraction of correctly predicted classes, on the test data", linear=True,
    )  # fmt: skip
    assert [classes.direction(name) for name in ("test_accuracy", "test_loss", "step")] == ["larger", "smaller", None]
    assert "metrics" not in classes.config.describe() and "metrics_on" not in classes.config.describe()
    x = torch.rand(30, 2)
    numbers = build_setup(Config.parse(TINY | {"task": supervised((x, x.sum(1)), (x, x.sum(1)))}))
    assert [*numbers.quantities] == [*QUANTITIES]


def test_a_regression_is_judged_by_its_first_metric(tmp_path, no_reports):
    x = torch.rand(30, 2, generator=torch.Generator().manual_seed(0))
    data = (x[:20], x[:20].sum(1)), (x[20:], x[20:].sum(1))
    results = basinet.run(**TINY | {"task": data, "metrics": ["rmse", "r2"]}, out=tmp_path, quiet=True)
    (run,) = results.runs
    assert main_metric([run]) == ranking([run]) == "test_rmse"
    for row in run.metrics:
        assert row["test_rmse"] ** 2 == pytest.approx(row["test_loss"], rel=1e-5)
    known = quantities([run])
    assert known["test_r2"].is_better(0.5, than=0.4) and known["test_rmse"].is_better(0.4, than=0.5)
    assert not known["consensus_distance"].is_better(0.4, than=0.5)
    assert run.baselines["mean target"]["test_r2"] <= 0


class Median(Metric):
    """The median target."""

    def reset(self):
        self.seen = []

    def update(self, outputs, batch, task):
        self.seen.append(task.targets(batch))

    def compute(self):
        return torch.cat(self.seen).double().median()


class Raises(Median):
    """Divides by nothing."""

    def compute(self):
        return 1 / 0


class Text(Median):
    """No number."""

    def compute(self):
        return "high"


class Several(Median):
    """Several numbers."""

    def compute(self):
        return torch.zeros(3)


class Undefined(Median):
    """Not a number."""

    def compute(self):
        return float("nan")


class TestMedian(PointMeasure):
    """A measure that is called as the value of a metric."""

    __test__ = False

    def at(self, points):
        return points.hessian.gradients().norm(dim=1)


class Loss(Median):
    """Called as what every run measures."""


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("acuracy", "metrics: there is no metric 'acuracy'; .*did you mean 'accuracy'"),
        ({"name": "topk", "k": 0}, "metrics.k: got 0, which should be greater than or equal to 1"),
        ({"name": "topk", "k": 11}, "metrics: topk.k: got 11; allowed are at most 10"),
        ({"name": "accuracy", "k": 1}, "metrics.k: accuracy has no setting 'k'"),
        ("mse", "metrics: mse needs targets that are numbers, and those of the task are classes"),
        ("hamming", "metrics: hamming needs several targets of 0 or 1 for a sample, and the task has classes"),
        (["accuracy", "accuracy"], "metrics: accuracy is given twice, with the same settings"),
        (len, "metrics.obj: builtins:len needs the setting 'obj'"),
        (dict, "metrics: builtins:dict makes a dict; allowed are metrics"),
        (Loss, "metrics: got a metric called loss, which every run measures; rename it"),
        (Raises, r"metrics: .*Raises raises ZeroDivisionError: .*\(.*test_metrics_of_runs.py:\d+\)"),
        (Text, "metrics: .*text returns a str; allowed is one number"),
        (Several, r"metrics: .*several returns a Tensor of shape \(3,\); allowed is one number"),
    ],
)
def test_mistakes_are_sentences(metrics, message):
    with pytest.raises(ExperimentError, match=message):
        build_setup(Config.parse(TINY | {"metrics": metrics}))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"metrics": "f1_macro"}, "metrics: f1_macro needs .*0 or 1"),
        (
            {"metrics": "mse", "metrics_on": ["test"]},
            "metrics_on: mse is to be measured on test data, and",
        ),
        ({"metrics": "auroc", "metrics_on": ["train"]}, "metrics: auroc needs targets that are classes, or 0 or 1"),
    ],
)
def test_metrics_that_do_not_fit_the_data_are_refused(keys, message):
    x = torch.rand(30, 2)
    data = ((x, x.sum(1)), (x, x.sum(1))) if keys["metrics"] == "f1_macro" else (x, x.sum(1))
    with pytest.raises(ExperimentError, match=message):
        build_setup(Config.parse(TINY | {"task": data} | keys))


def test_a_task_that_measures_in_its_own_way_has_to_measure_what_is_asked():
    class Own(Task):
        def evaluate(self, model, *, chunk=4096):
            return {"train_loss": 1.0}

    task = Own(train=(torch.rand(30, 2), torch.arange(30) % 2), num_outputs=2)
    build_setup(Config.parse(TINY | {"task": task}))
    with pytest.raises(ExperimentError, match=r"metrics: .* in its own way and does not measure train_accuracy"):
        build_setup(Config.parse(TINY | {"task": task, "metrics": "accuracy", "metrics_on": ["train"]}))


def test_a_measure_is_not_called_as_a_metric():
    setup = build_setup(Config.parse(TINY | {"analysis": [TestMedian], "metrics": [Median]}))
    with pytest.raises(ExperimentError, match=r"analysis: .*TestMedian has a value called test_median, a name that"):
        check_analysis(setup)
    check_analysis(build_setup(Config.parse(TINY | {"analysis": [TestMedian]})))


def test_what_is_undefined_is_left_out_and_objects_are_copied(tmp_path, no_reports):
    given = Median()
    agents = {"analysis": ["hessian_trace"], "analysis_points": ["centroid", "agents"]}
    asked = TINY | agents | {"metrics": ["accuracy", Undefined, given]}
    run = load_run(basinet.run(**asked, out=tmp_path, quiet=True).folder / "diffusion-atc")
    assert all("test_undefined" not in row and row["test_median"] == 4 for row in run.metrics)
    assert sum("agent" in row for row in run.metrics) == 2 * 3
    assert "test_undefined" in run.metric_quantities and not vars(given)
    with pytest.raises(ExperimentError, match="another experiment"):
        basinet.run(**asked | {"metrics": ["accuracy"]}, out=tmp_path, quiet=True)


def test_metrics_are_no_axis_of_the_grid():
    words = Experiment(TINY | {"metrics": ["accuracy", "auroc"], "metrics_on": ["train", "test"]})
    (config,) = words.runs.values()
    assert [component.name for component in config.metrics] == ["accuracy", "auroc"]
    assert config.metrics_on == ("train", "test")
    assert Config.parse(config.describe()).describe() == config.describe()
