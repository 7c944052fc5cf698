"""A measure of the user's own: from YAML, from Python and on the command line, to tables, reports and plots."""

import json
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import basinet
from basinet.analysis.measures import Needs, NetworkMeasure, PointMeasure
from basinet.analysis.plots import plot_agents, plot_curves
from basinet.analysis.plots.scatter import plot_scatter
from basinet.analysis.report.report import write_report
from basinet.analysis.runs.check_analysis import check_analysis
from basinet.analysis.runs.measure_again import measure_again
from basinet.analysis.runs.measure_replica import measure_point, measure_replica
from basinet.analysis.statistics.incidents import incidents
from basinet.analysis.statistics.summary import summarize
from basinet.analysis.statistics.summary_table import cells
from basinet.launch.cli import main
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.models import Point
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.folder import load_run
from basinet.sim.run.monitor import Monitor
from basinet.sim.run.records import load_journal, read_table
from basinet.sim.run.simulation import prepare, simulate
from basinet.sim.setup.build import build_setup
from basinet.sim.tasks import quadratic
from tests.reports import without_reports

pytestmark = pytest.mark.usefixtures("short_spectra")

CODE = '''
from basinet.analysis.measures import NetworkMeasure, PointMeasure

class Steepness(PointMeasure):
    """Norm of the gradient of the loss."""
    label, heading, direction = "steepness ‖∇J‖", "steepness", "smaller"

    def __init__(self, power: float = 1.0):
        self.power = power

    def at(self, points):
        return points.hessian.gradients().norm(dim=1) ** self.power

class FarthestAgent(NetworkMeasure):
    """Distance of the farthest agent from the centroid."""
    def of(self, network):
        return (network.agents().points - network.center.hessian.points).norm(dim=1).max()
'''
TINY = {
    "task": {"name": "digits", "train_size": 60},
    "model": {"name": "mlp", "hidden": [2]},
    "topology": {"name": "ring", "agents": 3},
    "strategy": ["diffusion", "consensus"],
    "batch_size": 4,
    "steps": 4,
    "replicas": 2,
}


class Steepness(PointMeasure):
    """Norm of the gradient of the loss, to some power."""

    direction = "smaller"

    def __init__(self, power: float = 1.0) -> None:
        self.power = power

    def at(self, points):
        return points.hessian.gradients().norm(dim=1) ** self.power


class Broken(PointMeasure):
    """Divides by nothing."""

    def at(self, points):
        return [1 / 0 for _ in points.agents]


class Few(PointMeasure):
    """A value too few."""

    def at(self, points):
        return torch.zeros(len(points.agents) - 1)


class Endless(PointMeasure):
    """No number."""

    def at(self, points):
        return torch.full((len(points.agents),), torch.inf)


class Centred(NetworkMeasure):
    """Where the centroid is."""

    def of(self, network):
        return network.center.hessian.points.norm()


class OfTheGraph(NetworkMeasure):
    """How many edges there are."""

    needs = Needs(graph=True, mode=False)

    def of(self, network):
        return network.setup.graph.number_of_edges()


class GradientNorm(Steepness):
    """Called as what every run measures."""


class Silent(Monitor):
    advanced = analyzing = started = finished = waiting = lambda *_: None


def config(*analysis, **keys):
    return Config.parse({**TINY, "strategy": "diffusion", "analysis": list(analysis), **keys})


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The folder where a user has measures beside the experiment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "basinettest_mine.py").write_text(CODE)
    yield "basinettest_mine"
    sys.modules.pop("basinettest_mine", None)


def gradient_norm(run, replica, agent):
    """The norm at an agent after the last step, from scratch."""
    setup = build_setup(Config.parse({**run.config, "analysis": []}))
    state = load_checkpoint(run.path / "checkpoint" / "state.safetensors")["rows"]["parameters"]
    model = setup.plain_model().double()
    rows = state[3 * replica : 3 * replica + 3]
    point = rows.double().mean(0) if agent is None else rows[agent].double()
    torch.nn.utils.vector_to_parameters(point, model.parameters())
    x, y = setup.task.train
    gradients = torch.autograd.grad(setup.task.objective(model, (x.double(), y)), list(model.parameters()))
    return float(torch.cat([g.flatten() for g in gradients]).norm())


def test_from_a_file_to_tables_report_and_plots(mine, tmp_path, capsys):
    measures = ["hessian_trace", f"{mine}:Steepness", f"{mine}:FarthestAgent"]
    Path("own.yaml").write_text(json.dumps(TINY | {"analysis": measures, "analysis_points": ["centroid", "agents"]}))
    with without_reports():
        assert main(["run", "own.yaml", "--out", "out", "--quiet"]) == 0
    assert {"steepness", "farthest"} <= {*capsys.readouterr().out.split()}
    runs = basinet.load("out").runs
    assert runs[0].config["analysis"] == measures  # as briefly as it was given
    for run in runs:
        for row in run.metrics[-6:]:
            if "steepness" in row:
                expected = gradient_norm(run, row["replica"], row.get("agent"))
                assert row["steepness"] == pytest.approx(expected, rel=1e-6)
    assert "farthest agent" in cells(runs)[0] and "steepness ↓" in cells(runs)[0]
    # Another process, which does not have the module, knows the same names: the run has recorded them.
    sys.modules.pop(mine)
    Path(f"{mine}.py").unlink()
    write_report("out")
    table = {row["run"]: row for row in read_table(Path("out/summary.csv"))}
    assert {"steepness_mean", "farthest_agent_mean"} <= table["consensus"].keys()
    assert "steepness" in read_table(Path("out/points.csv"))[0]
    page = Path("out/report.html").read_text()
    assert Path("out/figures/steepness_accuracy.png").exists()
    assert "steepness\N{NO-BREAK SPACE}↓" in page and "Steepness ‖∇J‖" in page
    assert plot_curves(runs, "steepness").get_ylabel() == "steepness ‖∇J‖"
    assert plot_agents(runs, "steepness").get_ylabel() == "steepness ‖∇J‖"
    axes = plot_scatter(runs, "steepness", "farthest_agent")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("steepness ‖∇J‖", "farthest agent")


def test_finished_runs_are_measured_with_it_and_again_with_other_settings_or_code(mine, tmp_path, no_reports):
    basinet.run(**TINY | {"strategy": "diffusion", "analysis": []}, out="out", quiet=True)
    run = Path("out/diffusion-atc")

    def taken(*words):
        before = len((run / "metrics.jsonl").read_text().splitlines())
        assert main(["analyze", "out", "--only", *words]) == 0
        return len((run / "metrics.jsonl").read_text().splitlines()) - before

    assert taken(f"{mine}:Steepness") == 2 and taken(f"{mine}:Steepness") == 0
    first = load_run(run).final("steepness")
    assert taken(f"{{name: '{mine}:Steepness', power: 2.0}}") == 2
    assert {r: v**2 for r, v in first.items()} == pytest.approx(load_run(run).final("steepness"))
    assert "diffusion ATC: measured with power=2.0: basinettest_mine:Steepness (centroid all)." in incidents(
        [load_run(run)]
    )
    assert taken("{name: worst_sharpness, radius: 0.05}") == 2  # which is the default
    assert taken("worst_sharpness") == 0 and taken("{name: worst_sharpness, radius: 0.1}") == 2
    (entry, *_) = load_journal(run)["state"]["measured"]["worst_sharpness"]["0"]
    assert entry["settings"]["measure"] == {"radius": 0.1}
    assert taken(f"{mine}:Steepness") == 2
    Path(f"{mine}.py").write_text(CODE.replace("** self.power", "** self.power + 1"))
    sys.modules.pop(mine)
    assert taken(f"{mine}:Steepness") == 2
    assert load_run(run).final("steepness") == pytest.approx({r: v + 1 for r, v in first.items()})


@pytest.mark.parametrize("given", [Steepness, Steepness(2.0), {"name": Steepness, "power": 2.0}])
def test_from_python(given, make_block):
    task = quadratic(curvature=[3.0, 1.0], minimum=0.0).to("cpu", torch.float64)
    found = measure_point(Point(2, start=1.0).double(), task, [given])
    assert found == {"steepness": pytest.approx(np.sqrt(10) if given is Steepness else 10)}
    asked = config(given)
    assert asked.describe()["analysis"] != ["steepness"]
    check_analysis(build_setup(asked))


def test_an_object_in_a_folder_is_not_read_back_as_another(tmp_path, no_reports):
    basinet.run(**TINY | {"strategy": "diffusion", "analysis": [Steepness(2.0)]}, out=tmp_path, quiet=True)
    assert load_run(tmp_path / "diffusion-atc").final("steepness").keys() == {0, 1}
    with pytest.raises(ExperimentError, match=r"analysis: .*Steepness was given as an object from Python"):
        measure_again(tmp_path)
    measure_again(tmp_path, {"analysis": ["hessian_trace"]})


def test_runs_that_share_their_steps_have_what_is_measured_of_the_graph_of_their_own(tmp_path):
    keys = {"strategy": "centralized", "topology": {"name": ["ring", "complete"], "agents": 5}}
    setups = prepare(Experiment(TINY | keys | {"analysis": [OfTheGraph, Centred]}), tmp_path)
    simulate(setups, tmp_path, Silent(), threading.Event(), measure_replica)
    rows = summarize(basinet.load(tmp_path).runs)
    assert [row["of_the_graph_mean"] for row in rows] == [5, 10]
    assert rows[0]["centred_mean"] == rows[1]["centred_mean"]


class HessianTrace(Few):
    """Called as another measure."""


class Overwriting(PointMeasure):
    """Returns the value of another measure."""

    def at(self, points):
        return [{"overwriting": 1.0, "test_loss": 77.0} for _ in points.agents]


@pytest.mark.parametrize(
    ("analysis", "said"),
    [
        ([HessianTrace], "HessianTrace has a value called hessian_trace, a name that a built-in measure uses"),
        ([Overwriting], "Overwriting cannot be measured: .*it returns a value called test_loss"),
        (["hessian_trace", "excess_risk", "hessian_trace"], "analysis: hessian_trace is named twice"),
        ([Steepness, Steepness(2.0)], "analysis: .*Steepness is named twice"),
        ([GradientNorm], "GradientNorm has a value called gradient_norm, a name that every run uses"),
        ([torch.nn.Linear], "analysis.in_features: .*Linear needs the setting 'in_features'"),
        ([dict], "analysis: builtins:dict is not a measure; allowed are subclasses of PointMeasure or NetworkM"),
        (
            [Broken],
            "analysis: .*Broken cannot be measured: ZeroDivisionError: division by zero .*test_own_measures.py:",
        ),
        ([Few], "Few cannot be measured: .*0 values for 1 points"),
        ([Endless], "Endless cannot be measured: .*at the centroid it is inf"),
        ([{"name": Steepness, "powr": 2}], "analysis.powr: .*Steepness has no setting 'powr'; .*did you mean 'power'"),
        ([{"name": "worst_sharpness", "radius": 0}], "analysis.radius: got 0, which should be greater than 0"),
    ],
)
def test_what_is_no_measure_is_refused_in_a_sentence(analysis, said):
    with pytest.raises(ExperimentError, match=said):
        check_analysis(build_setup(config(*analysis)))


def test_a_measure_of_the_network_has_a_centroid_unless_it_says_otherwise():
    keys = {"personal": ["3.*"], "analysis_points": ["agents"]}
    check_analysis(build_setup(config(OfTheGraph, **keys)))
    with pytest.raises(ExperimentError, match="Centred is measured about the centroid"):
        check_analysis(build_setup(config(Centred, **keys)))
