"""Measurements of runs in the forms of other tools: frames, tables, films, loggers, and the models of all agents."""

import importlib.util
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import basinet
from basinet.analysis.drawing.data_checks import NoDataError
from basinet.analysis.plots.compared.compared_figures import KINDS, OF_RUNS
from basinet.analysis.plots.network.graph_film import agents_over_time
from basinet.launch.cli import main
from basinet.launch.exporting.logged_afterwards import log_again
from basinet.launch.exporting.plot_kinds import plot_kinds
from basinet.launch.exporting.tidy_frames import tidy_frame, write_table
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.experiment import parse_loggers
from basinet.sim.run.listeners import Feeds
from basinet.sim.run.records import load_config
from basinet.sim.run.trajectory import load_trajectory
from tests.reports import least_effort, without_reports

pytestmark = pytest.mark.usefixtures("untried")

BASE = {
    "task": {"name": "digits", "train_size": 32},
    "model": {"name": "mlp", "hidden": [3]},
    "topology": {"name": "path", "agents": 3},
    "optimizer": {"name": "sgd", "lr": [0.1, 0.2]},
    "steps": 4,
    "evaluate_every": 2,
    "replicas": 2,
    "runtime": {"engine": "stacked", "device": "cpu"},
}
RECORDING = {"strategy": "diffusion", "trajectory": "agents", "keep_every": 2}
MEASURED = {"analysis": ["average_sharpness"], "analysis_points": ["centroid", "agents"]}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two runs whose agents are recorded."""
    with without_reports(), least_effort():
        return basinet.run(**BASE | RECORDING | MEASURED, out=tmp_path_factory.mktemp("runs"), quiet=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run that records nothing of its agents."""
    with without_reports():
        keys = BASE | {"strategy": "isolated", "analysis": [], "optimizer": "sgd"}
        return basinet.run(**keys, out=tmp_path_factory.mktemp("plain"), quiet=True)


def test_a_frame_has_a_row_for_each_measurement_with_the_keys_of_its_run(results, tmp_path, capsys):
    pandas = pytest.importorskip("pandas")
    frame = results.frame()
    assert not frame.duplicated(["run", "replica", "step", "agent"]).any()
    assert sorted(frame["agent"].dropna().unique()) == [0, 1, 2]
    for run in results.runs:
        mine = frame[frame["run"] == run.name]
        assert set(mine["optimizer.lr"]) == {run.config["optimizer"]["lr"]} and set(mine["topology.name"]) == {"path"}
        whole = mine[mine["agent"].isna() & (mine["replica"] == 1)]
        steps, values = run.series("test_loss")[1]
        assert whole["step"].tolist() == steps and whole["test_loss"].tolist() == values
    for name in ("m.csv", "m.parquet"):
        if name.endswith("parquet"):
            pytest.importorskip("pyarrow")
        assert main(["export", str(results.folder), str(tmp_path / name)]) == 0
        assert f"({len(frame)} rows, {frame.shape[1]} columns)" in capsys.readouterr().err
        again = (pandas.read_csv if name.endswith("csv") else pandas.read_parquet)(tmp_path / name)
        assert list(again) == list(frame) and again["test_loss"].equals(frame["test_loss"])


def test_keys_of_several_kinds_are_text_and_types_those_of_all_runs(results, plain, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = tidy_frame(iter([*results.runs, *plain.runs]))
    assert set(frame["analysis"]) == {"[average_sharpness]", "[]"}
    assert frame["keep_every"].isna().sum() == len(plain.frame())
    if importlib.util.find_spec("pyarrow"):
        # What only the second run has: its key has no type in the first, which comes alone into the file.
        rows, columns = write_table([*plain.runs, *results.runs], tmp_path / "m.parquet")
        again = pandas.read_parquet(tmp_path / "m.parquet")
        assert (rows, columns) == again.shape == frame.shape
        assert again.dtypes["train_loss"] == again.dtypes["average_sharpness"] == "float64"
        assert again.dtypes["step"] == "int64" and again["keep_every"].isna().sum() == len(plain.frame())


def test_agents_over_time_are_their_distances_and_measurements(results):
    run = results.runs[0]
    trajectory = load_trajectory(run.path)
    points = torch.tensor(np.array(trajectory.points[:, 1], dtype=np.float64))
    weights = torch.tensor([[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]], dtype=torch.float64)  # a path's, of equal weights
    centroid, agents = points[:, :1], points[:, 1:]
    found = agents_over_time(run, replica=1)
    assert found.steps.tolist() == [0, 2, 4] and "centroid" in found.label
    np.testing.assert_allclose(found.values, (agents - centroid).norm(dim=2), rtol=1e-12)
    apart = agents_over_time(run, "disagreement", replica=1).values
    np.testing.assert_allclose(apart, (weights * torch.cdist(agents, agents) ** 2).sum(2).sqrt(), atol=1e-7)
    loss = agents_over_time(run, "train_loss", replica=1)
    assert loss.steps.tolist() == [0, 2, 4][-len(loss.steps) :]
    rows = {(row["step"], row["agent"]): row["train_loss"] for row in run.metrics if row.get("agent") is not None}
    assert set(loss.values[-1]) <= set(rows.values())
    assert agents_over_time(run, most=2).steps.tolist() == [0, 4]


@pytest.mark.parametrize("ending", ["gif", "mp4"])
def test_a_film_has_a_picture_for_each_evaluation(results, tmp_path, capsys, ending):
    file = tmp_path / f"graph.{ending}"
    if ending == "mp4":
        av = pytest.importorskip("av")
    assert main(["export", str(results.runs[0].path), str(file)]) == 0
    assert capsys.readouterr().err == f"film: {file} (3 pictures)\n"
    if ending == "gif":
        with Image.open(file) as film:
            assert film.n_frames == 3
    else:
        with av.open(str(file)) as film:
            assert sum(1 for _ in film.decode(video=0)) == 2 * 12 + 38  # 0.5 s each, the last one 1.5 s


def test_what_cannot_be_filmed_is_named(results, plain, tmp_path):
    (run,) = plain.runs
    first = results.runs[0].name
    for films, name, file, options, sentence in (
        (plain, run, "g.gif", {}, r"does not record where its agents are; run it with trajectory=agents"),
        (plain, run, "g.gif", {"colour": "train_loss"}, r"trajectory\.metrics=true .*nothing is known of its agents"),
        (
            results,
            first,
            "g.gif",
            {"colour": "test_los"},
            r"allowed: distance, disagreement, .*did you mean 'test_loss'",
        ),
        (results, first, "g.gif", {"replica": 2}, r"replica: got 2, but .* has replicas 0 to 1"),
        (results, first, "g.png", {}, r"allowed endings of films are \.gif and \.mp4"),
    ):
        with pytest.raises(ExperimentError, match=sentence):
            films.film(name, tmp_path / file, **options)


def test_figures_are_drawn_by_kind(results):
    ax = results.plot("curves", metric="test_loss")
    assert results.plot("curves", ax, metric="train_loss") is ax
    assert {"curves", "consensus", "scatter"} <= {*plot_kinds()} and "panels" not in plot_kinds()
    with pytest.raises(ExperimentError, match=r"kind: got 'curve'; allowed: agents, .*did you mean 'curves'"):
        results.plot("curve")
    with pytest.raises(ExperimentError, match=r"kind: trend is a figure of a comparison: basinet compare --plot trend"):
        results.plot("trend")
    with pytest.raises(NoDataError, match="no run has measured"):
        results.plot("risk")  # as of comparisons
    assert {*OF_RUNS.values()} <= {*plot_kinds()} and {*OF_RUNS} <= {*KINDS}
    with pytest.raises(ExperimentError, match=r"metrc: .*has no argument 'metrc'; allowed: metric, x"):
        results.plot("curves", metrc="train_loss")


def test_all_agents_are_written_at_once(results, tmp_path, capsys):
    run = results.runs[0]
    assert main(["export", str(run.path), str(tmp_path / "model.pt"), "--agent", "all", "--replica", "1"]) == 0
    assert "model-centroid.pt to model-agent-2.pt (4 tensors each; torch.load reads them" in capsys.readouterr().err
    for point in ("centroid", 0, 1, 2):
        name = point if point == "centroid" else f"agent-{point}"
        state = torch.load(tmp_path / f"model-{name}.pt", weights_only=True)
        wanted = results.state_dict(run, replica=1, agent=point)
        assert all(torch.equal(state[key], value) for key, value in wanted.items())


class Kept:
    """A logger that appends to a file."""

    def __init__(self, folder):
        self.file = folder / "kept.txt"

    def log(self, metrics, step):
        with self.file.open("a") as file:
            file.write(f"{step} {'train_loss' in metrics}\n")

    def close(self):
        pass


def test_loggers_receive_finished_runs_once(results, tmp_path, capsys):
    words = ["export", str(results.folder), str(tmp_path / "out"), "--to", f"{__name__}:Kept"]
    for _ in range(2):
        assert log_again(results.folder, [Kept], tmp_path / "out") == [run.name for run in results.runs]
    lines = (tmp_path / "out" / results.runs[0].name / "kept.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines if "True" in line] == ["0", "2", "4"]
    assert len(lines) > 3  # what the analysis has measured follows
    assert main([*words[:-1], "tensorbord"]) == 2 and "did you mean 'tensorboard'" in capsys.readouterr().err


def test_a_ready_logger_is_closed_once_whatever_a_run_holds(tmp_path):
    said = []
    logger = SimpleNamespace(log=lambda metrics, step: said.append(step), close=lambda: said.append("closed"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("steps: 10\n")
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 0, "replica": 0, "loss": 1}\n{"step":\n')
    (tmp_path / "run" / "status.json").write_text('{"state": "running", "step": 0}')
    with pytest.raises(ExperimentError, match=r"metrics\.jsonl: the file is damaged \(line 2"):
        log_again(tmp_path / "run", [logger], tmp_path / "out")
    assert said == ["closed"]


def test_tensorboard_reads_what_was_logged_once_over_several_processes(results, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.summary.writer.record_writer import RecordWriter
    from tensorboard.util.tensor_util import make_ndarray

    write = RecordWriter.write
    monkeypatch.setattr(RecordWriter, "write", lambda *given: (time.sleep(0.005), write(*given)))  # a slow disk
    run = results.runs[0]
    (tmp_path / "config.yaml").write_bytes((run.path / "config.yaml").read_bytes())
    lines = (run.path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    begun = time.time()
    # Two evaluations, of which the second is taken again, and the rest.
    for count, evaluations in ((2, 1), (4, 2), (2, 2), (len(lines), 3)):
        (tmp_path / "metrics.jsonl").write_bytes(b"".join(lines[:count]))
        with Feeds(parse_loggers(["tensorboard"]), tmp_path) as feeds:
            feeds.update("run", tmp_path)
            read = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()  # though the process may die now
            assert len(read.Scalars("test_loss/replica_1")) == evaluations
    ended = time.time()

    names = {name for row in run.metrics if "agent" not in row for name in row} - {"step", "replica"}
    assert {"train_loss", "average_sharpness"} <= names
    assert {*read.Tags()["scalars"]} == {f"{name}{end}" for name in names for end in ("", "/replica_0", "/replica_1")}
    for name in names:
        series = run.series(name)
        wanted = {f"/replica_{replica}": found for replica, found in series.items()}
        wanted[""] = series[0][0], np.mean([values for _, values in series.values()], 0)
        for end, (steps, values) in wanted.items():
            found = sorted(read.Scalars(name + end), key=lambda event: event.step)
            assert [event.step for event in found] == steps, name
            np.testing.assert_allclose([event.value for event in found], values, rtol=2**-23)  # float32
            assert all(begun <= event.wall_time <= ended for event in found)
    (text,) = read.Tensors("experiment/text_summary")
    said = make_ndarray(text.tensor_proto).item().decode()
    assert json.loads(said.removeprefix("```json").removesuffix("```")) == load_config(tmp_path)
