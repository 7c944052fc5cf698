"""The analysis of whole runs: its tables and figures, its progress, what is kept when it is interrupted."""

import dataclasses
import io
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from basinet.analysis.measures import risk
from basinet.analysis.report.landscapes import landscape_drawings
from basinet.analysis.runs import measure_again as again_module
from basinet.analysis.runs import solution_barriers as solutions
from basinet.analysis.runs.measure_again import measure_again
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.analysis.runs.solution_barriers import measure_between
from basinet.analysis.statistics.incidents import incidents
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.checkpoints.tensor_files import TensorFile
from basinet.sim.run.files import write_atomically
from basinet.sim.run.folder import RunFolder, load_run, load_runs
from basinet.sim.run.records import lines_of, read_table
from basinet.sim.run.simulation import Interrupted, prepare, simulate

pytestmark = pytest.mark.usefixtures("short_spectra")

TINY = {
    "task": "digits",
    "model": {"name": "mlp", "hidden": [4]},
    "topology": {"name": "ring", "agents": 3},
    "strategy": ["consensus", "diffusion"],
    "batch_size": 4,
    "steps": 20,
    "evaluate_every": 10,
    "replicas": 2,
    "runtime": {"dtype": "float64", "device": "cpu"},
    "analysis_samples": 60,
}
MEASURES = ["hessian_top_eigenvalue", "hessian_density", "stability_limit", "loss_slices", "loss_surface"]
MEASURES += ["agent_barriers"]


class Watching:
    def __init__(self, stop=None, after=None, at=None):
        self.stop, self.after, self.at, self.seen, self.measures, self.ended = stop, after, at, [], [], []

    def analyzing(self, run, done, total, what):
        if what:
            self.measures.append(what)
        else:
            self.seen.append((run, done, total))
        if len(self.seen) == self.after or (what and what == self.at):
            self.stop.set()

    def started(self, *_):
        pass

    advanced = started

    def finished(self, run, state):
        self.ended.append(state)


def carry_out(out: Path, after=None, at=None, **changes):
    stop = threading.Event()
    watching = Watching(stop, after, at)
    setups = prepare(Experiment(TINY | changes), out)
    try:
        return watching, simulate(setups, out, watching, stop, measure_replica)
    except Interrupted:
        return watching, None


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    carry_out(out, analysis=MEASURES)
    return out


def test_tables_belong_to_replicas_and_agents(finished):
    run = finished / "consensus"
    densities = read_table(run / "density.csv")
    assert {row["replica"] for row in densities} == {"0", "1"}
    for replica in "01":
        assert sum(float(row["weight"]) for row in densities if row["replica"] == replica) == pytest.approx(1)
    barriers = read_table(run / "barriers.csv")
    assert len(barriers) == 2 * 3 * 11
    agents = read_table(run / "surface_agents.csv")
    assert len(agents) == 6
    assert {row["direction"] for row in read_table(run / "slices.csv")} == {
        "eigenvector 1", "eigenvector 2", "random 1", "random 2",
    }  # fmt: skip
    rows = [row for row in load_run(run).metrics if "agent" in row]
    for row in rows:
        path = [b for b in barriers if (int(b["replica"]), int(b["agent"])) == (row["replica"], row["agent"])]
        losses = np.array([float(b["loss"]) for b in path])
        assert row["barrier"] == pytest.approx((losses - np.linspace(losses[0], losses[-1], 11)).max(), abs=1e-12)


def test_figures_come_with_their_data(finished):
    measure_between(finished)
    drawings = {drawing.name: drawing for drawing in landscape_drawings(load_runs(finished))}
    assert list(drawings) == ["stability", "density", "slices", "surface", "barriers", "solution_barriers"]
    for drawing in drawings.values():
        assert drawing.rows
        drawing.figure.savefig(io.BytesIO())
    assert len(drawings["stability"].rows) == 4
    assert all(row["stability_limit"] == pytest.approx(20) for row in drawings["stability"].rows)
    assert {row["run"] for row in drawings["density"].rows} == {"consensus", "diffusion ATC"}


def test_barriers_between_solutions(finished):
    rows = measure_between(finished)
    assert {(row["first"], row["second"], row["replica"]) for row in rows} == {
        ("consensus", "diffusion ATC", 0),
        ("consensus", "diffusion ATC", 1),
    }
    for replica in range(2):
        losses = np.array([row["loss"] for row in rows if row["replica"] == replica])
        height = (losses - np.linspace(losses[0], losses[-1], 11)).max()
        (barrier,) = {row["barrier"] for row in rows if row["replica"] == replica}
        assert barrier == pytest.approx(height, abs=1e-12)
    # The centroid is where the paths to the agents begin, under the same samples.
    for row in read_table(finished / "consensus" / "barriers.csv"):
        if float(row["position"]) == 0:
            (start,) = (r["loss"] for r in rows if r["replica"] == int(row["replica"]) and r["position"] == 0)
            assert float(row["loss"]) == pytest.approx(start, rel=1e-12)
    with pytest.raises(ExperimentError, match="two finished runs"):
        measure_between(finished / "consensus")


def test_progress_and_interruption(tmp_path):
    measures = {"analysis": ["hessian_top_eigenvalue"], "strategy": "diffusion"}
    watching, states = carry_out(tmp_path, after=2, **measures)
    assert states is None
    assert watching.seen == [("diffusion-atc", 0, 2), ("diffusion-atc", 1, 2)]
    run = load_run(tmp_path / "diffusion-atc")
    assert run.status["state"] == "done"
    assert set(run.final("hessian_top_eigenvalue")) == {0}  # what was measured is kept
    watching, states = carry_out(tmp_path, **measures)
    assert states == {"diffusion-atc": "done"} and watching.seen == [("diffusion-atc", 0, 1)]
    run = load_run(tmp_path / "diffusion-atc")
    assert set(run.final("hessian_top_eigenvalue")) == {0, 1}
    watching, _ = carry_out(tmp_path, **measures)
    assert watching.seen == []
    watching, _ = carry_out(tmp_path, **measures, analysis_points=["agents"])  # another analysis is another
    assert len(watching.seen) == 2


def test_an_analysis_stops_within_a_measure_and_keeps_those_that_are_finished(tmp_path):
    changes = {"strategy": "diffusion", "replicas": 1, "analysis": ["hessian_top_eigenvalue", "average_sharpness"]}
    watching, states = carry_out(tmp_path / "stopped", at="average_sharpness", **changes)
    assert states is None and watching.measures[-1] == "average_sharpness" and "done, its" in watching.ended[0]
    assert watching.measures.count("average_sharpness") == 1  # the next product is not taken
    row = load_run(tmp_path / "stopped" / "diffusion-atc").metrics[-1]
    assert "hessian_top_eigenvalue" in row and "average_sharpness" not in row
    watching, states = carry_out(tmp_path / "stopped", **changes)
    assert states == {"diffusion-atc": "done"} and {*watching.measures} == {"average_sharpness"}
    carry_out(tmp_path / "whole", **changes)
    stopped, whole = (load_run(tmp_path / out / "diffusion-atc") for out in ("stopped", "whole"))
    assert stopped.metrics == whole.metrics
    again, _ = carry_out(tmp_path / "stopped", **changes)
    assert not again.seen


def test_measuring_again(finished):
    seen = []
    settings = {"analysis": ["hessian_density", "hessian_bottom_eigenvalue"], "analysis_views": ["all", "own"]}
    measure_again(finished / "consensus", settings, lambda done, text: seen.append((done, text)))
    assert seen == [(0.0, "consensus"), (0.5, "consensus"), (1.0, "")]
    own = read_table(finished / "consensus" / "density_own_at_centroid.csv")
    assert {(row["replica"], row["agent"]) for row in own} == {(r, a) for r in "01" for a in "012"}
    assert len(load_run(finished / "consensus").final("hessian_bottom_eigenvalue")) == 2
    with pytest.raises(ExperimentError, match=r"no measure 'hessian_trace_'.*did you mean 'hessian_trace'"):
        measure_again(finished, {"analysis": ["hessian_trace_"]})
    with pytest.raises(ExperimentError, match="analysis_mode"):
        measure_again(finished, {"analysis": ["m_sharpness"], "analysis_mode": "training"})


def test_nothing_is_measured_twice(tmp_path, monkeypatch):
    carry_out(tmp_path, analysis=["hessian_top_eigenvalue"], strategy="diffusion")
    run = tmp_path / "diffusion-atc"
    asked = []

    def counted(setup, state, replica, *share, **least):
        if not least:  # no trial
            asked.append((replica, list(setup.config.measures)))
        return measure_replica(setup, state, replica, *share, **least)

    monkeypatch.setattr(again_module, "measure_replica", counted)

    def again(*names, **settings):
        asked.clear()
        measure_again(run, {"analysis": list(names), **settings})
        return list(asked)

    assert again("hessian_top_eigenvalue") == []  # the run itself has done so
    assert again("hessian_top_eigenvalue", "newton_decrement") == [(0, ["newton_decrement"]), (1, ["newton_decrement"])]
    before = (run / "metrics.jsonl").read_bytes()
    assert again("newton_decrement") == [] and (run / "metrics.jsonl").read_bytes() == before
    # Other settings give other values, which take the place of the old ones.
    assert len(again("newton_decrement", analysis_samples=30)) == 2
    assert len(again("newton_decrement")) == 2
    assert len(again("newton_decrement", analysis_points=["centroid", "agents"])) == 2
    assert again("newton_decrement", analysis_points=["agents"]) == again("newton_decrement") == []
    # Another state is another one.
    state = load_checkpoint(run / "checkpoint" / "state.safetensors")
    state["rows"]["parameters"] += 1e-3
    write_atomically(run / "checkpoint" / "state.safetensors", TensorFile(state))
    assert len(again("newton_decrement")) == 2


def test_what_a_value_depends_on_is_known(tmp_path, monkeypatch):
    carry_out(tmp_path, analysis=["hessian_trace"], strategy="diffusion", model={"name": "mlp", "hidden": [20]})
    run = tmp_path / "diffusion-atc"
    counts = []

    def counted(setup, *where, **least):
        if not least:  # no trial
            counts.append(list(setup.config.analysis_points))
        return measure_replica(setup, *where, **least)

    monkeypatch.setattr(again_module, "measure_replica", counted)

    def again(**settings):
        counts.clear()
        measure_again(run, {"analysis": ["hessian_trace", "hessian_density"], **settings})
        return len(counts)

    assert again() == 2
    assert again(analysis_memory=512) == 0  # there is room for as many Lanczos steps
    assert again(analysis_memory=1) == 2  # for fewer
    assert again() == 2
    # What has been measured in one place stays known, and stays in the tables, when another is measured.
    assert again(analysis_points=["agents"]) == 2
    assert again() == again(analysis_points=["centroid", "agents"]) == 0
    assert {row["agent"] for row in read_table(run / "density.csv")} == {"", "0", "1", "2"}
    # The same name of a task may mean other data.
    build = again_module.build_setup

    def with_other_data(config, shared=None):
        setup = build(config, shared)
        task = dataclasses.replace(setup.task, train=tuple(part.flip(0) for part in setup.task.train))
        return dataclasses.replace(setup, task=task)

    monkeypatch.setattr(again_module, "build_setup", with_other_data)
    assert again() == 2
    measure_again(run, {"analysis": ["hessian_trace"]})
    monkeypatch.setattr(again_module, "build_setup", build)
    measure_again(run, {"analysis": ["hessian_trace"]})
    (sentence,) = incidents(load_runs(tmp_path))
    assert sentence == (
        "diffusion ATC: measured on different training data: hessian_trace (agents all), hessian_trace (centroid all),"
        " hessian_density (agents all) | hessian_density (centroid all)."
    )


def test_values_measured_otherwise_are_named(tmp_path):
    carry_out(tmp_path, analysis=["hessian_trace"], strategy="diffusion")
    run = tmp_path / "diffusion-atc"
    assert incidents(load_runs(tmp_path)) == []
    measure_again(run, {"analysis": ["newton_decrement"], "analysis_samples": 90})
    assert all("analysis_samples" not in row for row in load_run(run).metrics)  # which would speak for the trace, too
    assert incidents(load_runs(tmp_path)) == [
        "diffusion ATC: measured with analysis_samples=90: newton_decrement (centroid all)."
    ]
    measure_again(run, {"analysis": ["newton_decrement"], "analysis_points": ["agents"], "analysis_dtype": "float32"})
    measure_again(run, {"analysis": ["gauss_newton_trace"], "analysis_products": "differences"})
    assert incidents(load_runs(tmp_path)) == [
        "diffusion ATC: measured with analysis_samples=90: newton_decrement (centroid all).",
        "diffusion ATC: measured with analysis_dtype=float32: newton_decrement (agents all).",
        "diffusion ATC: measured with analysis_products=differences: gauss_newton_trace (centroid all).",
    ]
    both = ["newton_decrement", "gauss_newton_trace"]
    measure_again(run, {"analysis": both, "analysis_points": ["centroid", "agents"]})
    assert incidents(load_runs(tmp_path)) == []


def test_solutions_are_compared_once(tmp_path, monkeypatch):
    carry_out(tmp_path, analysis=[])
    first = measure_between(tmp_path)
    monkeypatch.setattr(solutions, "path_losses", None)
    assert measure_between(tmp_path) == first
    for settings in ({"analysis_dtype": "float32"}, {"analysis_samples": 30}):
        with pytest.raises(TypeError):
            measure_between(tmp_path, settings)
    (path,) = tmp_path.glob("consensus/checkpoint/state.safetensors")
    state = load_checkpoint(path)
    state["rows"]["parameters"] += 1e-3
    write_atomically(path, TensorFile(state))
    with pytest.raises(TypeError):
        measure_between(tmp_path)


def test_a_table_replaces_the_rows_of_its_replica(tmp_path):
    folder = RunFolder(tmp_path)
    for row in (
        {"table": "t", "step": 1, "replica": 1, "x": 1},
        {"table": "t", "step": 1, "replica": 0, "x": 2, "y": 3},
        {"table": "t", "step": 1, "replica": 1, "x": 4},
    ):
        for name, text in folder.tables([row]).items():
            (tmp_path / name).write_text(text)
    assert read_table(tmp_path / "t.csv") == [
        {"step": "1", "replica": "0", "x": "2", "y": "3"},
        {"step": "1", "replica": "1", "x": "4", "y": ""},
    ]


def test_what_has_not_converged_is_in_the_report(finished):
    RunFolder(finished / "diffusion-atc").metrics.append(lines_of([{"step": 20, "replica": 0, "hessian_converged": 0}]))
    (sentence,) = incidents(load_runs(finished))
    assert sentence == "diffusion ATC: extreme eigenvalues of 1 of 2 replicas have not converged; see their errors."


def test_a_measure_that_fails_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    descend = risk.descend

    def fail(operator, *, max_products, **settings):
        if max_products > 1:  # no trial
            raise RuntimeError("the descent\nhas no ground")
        return descend(operator, max_products=max_products, **settings)

    monkeypatch.setattr(risk, "descend", fail)
    keys = {"strategy": "diffusion", "analysis": ["hessian_trace", "excess_risk", "agent_barriers"]}
    _, states = carry_out(tmp_path, **keys)
    assert states == {"diffusion-atc": "done"}
    (run,) = load_runs(tmp_path)
    assert set(run.final("hessian_trace")) == {0, 1} and run.final("excess_risk") == {}
    assert len(read_table(run.path / "barriers.csv")) == 2 * 3 * 11
    assert not any("failed" in row for row in run.metrics)
    sentence = "diffusion ATC: excess_risk could not be measured in 2 of 2 replicas: RuntimeError: the descent."
    assert [re.sub(r" \(\S+:\d+\)", "", said) for said in incidents([run])] == [sentence]
    assert "in fail" in (run.path / "analyzed.json").read_text()  # the traceback
    watching, _ = carry_out(tmp_path, **keys)
    assert watching.seen == []  # resuming does not try for ever
    measure_again(tmp_path)
    assert [re.sub(r" \(\S+:\d+\)", "", said) for said in incidents(load_runs(tmp_path))] == [sentence]
    counts = []

    def right(operator, *, max_products, **settings):
        counts.append(max_products)
        return descend(operator, max_products=max_products, **settings)

    monkeypatch.setattr(risk, "descend", right)
    measure_again(tmp_path)
    assert counts == [300, 300]
    (run,) = load_runs(tmp_path)
    assert set(run.final("excess_risk")) == {0, 1} and incidents([run]) == []


def test_states_on_the_way_are_kept_and_measured(tmp_path: Path) -> None:
    keys = {"strategy": "consensus", "analysis": ["hessian_trace", "hessian_density"], "evaluate_every": 10}
    watching, _ = carry_out(tmp_path / "whole", keep_every=8, **keys)
    carry_out(tmp_path / "shorter", steps=8, **keys)
    run, shorter = (load_run(tmp_path / name / "consensus") for name in ("whole", "shorter"))
    assert [path.name for path in RunFolder(run.path).checkpoints()] == [
        "step-0.safetensors", "step-8.safetensors", "step-16.safetensors", "state.safetensors"
    ]  # fmt: skip
    assert watching.seen[-1] == ("consensus", 7, 8)
    for replica, (steps, values) in run.series("hessian_trace").items():
        assert steps == [0, 8, 16, 20]
        assert values[1] == shorter.final("hessian_trace")[replica]
        assert values[3] == run.final("hessian_trace")[replica]
    assert {row["step"] for row in read_table(run.path / "density.csv")} == {"20"}
    before = {path.name: path.read_bytes() for path in RunFolder(run.path).checkpoints()}
    (run.path / "checkpoint" / "state.safetensors").unlink()  # as if it had been killed before
    (run.path / "status.json").unlink()
    carry_out(tmp_path / "whole", keep_every=8, **keys)
    assert load_run(run.path).metrics == run.metrics
    for path in RunFolder(run.path).checkpoints():
        assert path.read_bytes() == before[path.name]


def test_all_kept_states_are_measured_again(tmp_path: Path) -> None:
    carry_out(tmp_path, strategy="consensus", analysis=["hessian_trace"], keep_every=10)
    measure_again(tmp_path, {"analysis": ["hessian_frobenius_norm"]})
    (steps, _) = load_run(tmp_path / "consensus").series("hessian_frobenius_norm")[0]
    assert steps == [0, 10, 20]


def test_of_runs_with_personal_parameters_the_agents_are_measured_again(tmp_path):
    carry_out(tmp_path, personal=["3.*"], analysis=[], strategy="diffusion")
    settings = {"analysis": ["hessian_trace"], "analysis_points": ["centroid", "agents"]}
    measure_again(tmp_path, settings)
    (run,) = load_runs(tmp_path)
    measured = {row.get("agent") for row in run.metrics if "hessian_trace" in row}
    assert measured == {0, 1, 2}
    with pytest.raises(ExperimentError, match="got centroid, but agents with personal parameters have none"):
        measure_again(tmp_path, settings | {"analysis_points": ["centroid"]})
    with pytest.raises(ExperimentError, match="without personal parameters"):
        measure_between(tmp_path)
