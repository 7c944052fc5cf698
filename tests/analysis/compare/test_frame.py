import dataclasses
import json
import math

import numpy as np
import pytest

from basinet.analysis.compare.frame_reading import read
from basinet.analysis.compare.histories import history
from basinet.sim.experiment import yaml_files
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.files import GrowingFile, read_json, sealed_json
from basinet.sim.run.folder import load_run, load_runs, read_run
from basinet.sim.run.records import lines_of
from tests.planted_runs import lines_of_run, write_record, write_run

ACCURACY = {"test_accuracy": [0.9, 0.8, 0.7]}


@pytest.fixture
def grid(tmp_path):
    for name, strategy, seed in (("a", "diffusion", 0), ("b", "consensus", 0), ("c", "consensus", 5)):
        write_run(tmp_path, name, ACCURACY, strategy=strategy, seed=seed, curves={"test_accuracy": [[0.1, 0.5]] * 3})
    return write_record(tmp_path, ["a", "b", "c"])


def test_a_row_for_each_replica_and_a_column_for_each_key(grid):
    frame = read([grid])
    assert (len(frame), len(frame.runs), frame.notes) == (9, 3, ())
    assert frame.column("strategy") == ["diffusion"] * 3 + ["consensus"] * 6
    assert frame.column("seed") == [0] * 6 + [5] * 3 and frame.column("replica") == [0, 1, 2] * 3
    assert frame.column("optimizer.lr") == [0.1] * 9 and frame.column("topology") == ["ring"] * 9
    assert frame.numbers("test_accuracy").tolist() == ACCURACY["test_accuracy"] * 3
    assert {*frame.numbers("samples")} == {100 * 8 * 4} and {*frame.numbers("bytes")} == {1000.0}
    assert np.isnan(frame.numbers("seconds")).all()
    # a ring of four with weights 1/3 has the eigenvalues 1, 1/3, 1/3, -1/3
    assert frame.numbers("spectral_gap") == pytest.approx([2 / 3] * 9) and {*frame.numbers("degree")} == {2.0}
    assert frame.quantity("test_accuracy").direction == "larger"
    assert {"optimizer.lr", "test_accuracy", "degree"} <= {*frame.frame().columns}


def test_rows_are_selected(grid):
    frame = read([grid], where=["strategy=consensus", "seed=5,7"])
    assert len(frame) == 3 and [run.name for run in frame.runs] == ["c"]
    assert len(frame.select([0, 2])) == 2 and len(frame.where(["optimizer.lr=1e-1"])) == 3


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        ("strategy", "allowed is key=value"),
        ("strategy=difusion", "did you mean 'diffusion'"),
        ("optimizer.lrr=1", "did you mean 'optimizer.lr'"),
        ("seed=[", "--where: seed=["),
    ],
)
def test_conditions_that_select_nothing(grid, condition, sentence):
    with pytest.raises(ExperimentError) as raised:
        read([grid], where=[condition])
    assert sentence in str(raised.value)


def test_curves_are_read_when_asked_for(grid):
    places, values = read([grid]).curves("test_accuracy", x="bytes")[0]
    assert places.tolist() == [0, 500, 1000] and values.tolist() == [0.1, 0.5, 0.9]


@pytest.mark.parametrize("odd", ["", '{"step": 100, "replica": 0, "test_loss": 0.25}\n', '{"step": 10', "key"])
def test_columns_are_those_of_all_rows(tmp_path, odd):
    """Evaluations, what the analysis adds in lines of its own, agents, infinite values; lines that are not recorded."""
    values = {
        "test_accuracy": [[0.1, math.nan, 0.3], [0.2, math.inf, 1e-7]],
        "test_accuracy_top5": [[1.0, 2.0, 3.0]] * 2,
    }
    key = 'x"test_loss' if odd == "key" else "step_size"
    run = write_run(tmp_path, "a", {"test_accuracy": [0.9, 0.8], key: [7.0, 8.0]}, curves=values)
    rows = lines_of_run(run)
    rows += [{"step": step, "replica": 1, "hessian_trace": -2.5 * step} for step in (33, 100)]
    rows += [
        {"step": 33, "replica": 0, "agent": 2, "test_accuracy": 5.0},
        {"step": 33, "replica": 0, "test_accuracy": 9},
    ]
    (run / "metrics.jsonl").write_bytes(lines_of(rows))
    status = read_json(run / "status.json") | {"files": {"metrics.jsonl": GrowingFile(run / "metrics.jsonl").vouch()}}
    (run / "status.json").write_text(sealed_json(status))
    with open(run / "metrics.jsonl", "a") as file:
        file.write("" if odd == "key" else odd)
    whole = read_run(run)
    wanted = sorted((r for r in whole.metrics if "agent" not in r), key=lambda r: (r["step"], r["replica"]))
    names = ("test_accuracy", "hessian_trace", "communicated_bytes", "test_loss", "nothing")
    found = history(read_run(run, last=True), names)
    for name in ("step", "replica", *names):
        column = [row.get(name, math.nan) for row in wanted]
        assert np.array_equal(found[name], np.array(column, dtype=float), equal_nan=True), name


def test_what_cannot_be_read_is_named_and_the_rest_is_there(grid, tmp_path):
    with open(grid / "a" / "metrics.jsonl", "a") as file:
        file.write('{"step": 100, "repl')
    (grid / "b" / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines_of_run(grid / "b")[:2])))
    frame = read([grid, tmp_path / "nowhere", grid / "a"])
    assert [run.name for run in frame.runs] == ["a", "c"] and len(frame) == 6
    half, damaged, foreign = frame.notes
    assert "half written" in half and "a/metrics.jsonl" in half
    assert "b/metrics.jsonl" in damaged and "is damaged" in damaged
    assert "nowhere holds no runs" in foreign
    (grid / "c" / "config.yaml").unlink()
    assert any("c is not the folder of a run" in note for note in read([grid]).notes)
    with pytest.raises(ExperimentError, match="holds no runs"):
        read([tmp_path / "nowhere"])


def test_a_replica_that_diverged_and_a_value_that_is_none(tmp_path):
    finals = {"test_accuracy": [0.9, 0.5, math.nan]}
    frame = read([write_run(tmp_path, "a", finals, diverged={1: 40}, state="done")])
    assert frame.column("state") == ["done", "diverged", "done"]
    assert np.array_equal(frame.numbers("test_accuracy"), [0.9, math.nan, math.nan], equal_nan=True)


def test_the_last_rows_are_those_of_the_whole_file(grid):
    for run in load_runs(grid):
        last = read_run(run.path, last=True)
        assert last.final("test_accuracy") == run.final("test_accuracy")
        assert dataclasses.replace(last, metrics=run.metrics) == load_run(run.path) == run
        assert len(last.metrics) == 3 < len(run.metrics)


@pytest.mark.parametrize(
    "value",
    [
        {"a": {"b": [1, 2.5]}, "about": "two: words\nx: y\n\nz", "c.d": None, "e": "it's\n\nfine: yes"},
        {"about": "word " * 60, "list": ["a: b", "- c"], "empty": {}, "q": '"quoted": \\ \u2028'},
        {},
    ],
)
def test_written_documents_are_read_in_parts_as_at_once(value):
    text = yaml_files.dump(value)
    assert yaml_files.load_written(text) == yaml_files.load(text) == value


def test_shared_parts_are_read(tmp_path):
    shared = [1, 2]
    text = yaml_files.dump({"a": shared, "b": shared})
    assert yaml_files.load_written(text) == {"a": shared, "b": shared}
