"""Jobs that share the runs of a grid, and its folder."""

from contextvars import Context
from pathlib import Path

import pytest
import yaml

from basinet.launch.cli import main
from basinet.sim.run.folder import load_runs
from basinet.sim.run.lock import locked
from basinet.sim.run.records import load_record

GRID = {
    "task": "quadratic",
    "topology": {"name": "ring", "agents": 4},
    "strategy": ["centralized", "diffusion"],
    "optimizer": {"name": "sgd", "lr": [0.05, 0.1]},
    "steps": 20,
    "replicas": 1,
    "runtime": {"dtype": "float64", "engine": "vectorized"},
    "analysis": [],
}
NUM_RUNS = 4


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_text(yaml.safe_dump(GRID))


def another_process(words):
    """Run a command without the locks that this process holds."""
    return Context().run(main, words)


def numbers(out):
    return {run.name: (run.status["state"], run.metrics) for run in load_runs(out)}


@pytest.mark.slow
def test_parts_that_start_together_share_a_new_folder_and_end_like_one_job(processes, no_reports):
    """More parts than runs, all into a folder that does not exist: whoever ends last writes the report."""
    parts = range(1, NUM_RUNS + 2)
    for part in parts:
        processes.start(main, ["run", "grid.yaml", "--part", f"{part}/{len(parts)}", "--out", "shared", "--quiet"])
    statuses, said = processes.end()
    assert statuses == [0] * len(parts), said
    assert main(["run", "grid.yaml", "--out", "alone", "--quiet"]) == 0
    assert len(numbers("shared")) == NUM_RUNS and numbers("shared") == numbers("alone")
    assert load_record(Path("shared"))["runs"] == load_record(Path("alone"))["runs"]
    told = [out for out, _ in said if "diffusion" in out]  # the summary of all runs
    assert told and Path("shared/report.html").exists() and Path("shared/summary.csv").exists()
    assert sum("left to others" in err for _, err in said) == len(parts) - len(told)


def test_a_part_leaves_the_runs_of_others_alone(capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr("basinet.analysis.report.report.write_report", drawn.append)
    words = ["run", "grid.yaml", "--out", "out", "--quiet"]
    assert main([*words, "--part", "1/2"]) == 0
    said = capsys.readouterr()
    assert "2 runs left to others" in said.err and said.out == "" and drawn == []
    names = load_record(Path("out"))["runs"]
    assert {run.name for run in load_runs("out") if run.status["state"] == "done"} == {names[0], names[2]}

    # The second run is in another job's hands, under other numbers of parts, say.
    with locked(Path("out") / names[1]):
        assert another_process([*words, "--part", "2/2"]) == 0
    assert "1 run left to others" in capsys.readouterr().err
    assert {run.status["state"] for run in load_runs("out") if run.name == names[3]} == {"done"}
    assert main([*words, "--part", "2/2"]) == 0 and len(drawn) == 1
    assert "diffusion ATC" in capsys.readouterr().out

    with locked(Path("out"), shared=True):  # one job alone needs the whole folder
        assert another_process(words) == 2
    assert "another process is at work in out" in capsys.readouterr().err
    with locked(Path("out")):
        assert another_process([*words, "--part", "1/2"]) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--part", "3/2"], "--part: got 3/2; allowed are 1/N, 2/N, …, N/N for N jobs"),
        (["--part", "0/2"], "got 0/2"),
        (["--part", "1"], "got 1;"),
        (["--part", "1/2", "--fresh"], "it would discard the runs of other jobs"),
        (["--part", "1/2", "tune={batch_size: [1, 2]}"], "allowed are experiments with neither stages nor tune"),
    ],
)
def test_a_part_that_is_none_is_one_sentence(words, sentence, capsys):
    assert main(["run", "grid.yaml", "--out", "out", *words]) == 2
    found = capsys.readouterr()
    assert sentence in found.err and found.err.count("\n") == 1 and not Path("out").exists()
