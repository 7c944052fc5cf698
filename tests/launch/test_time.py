"""`basinet time`: times of runs on other networks, without training."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import basinet
from basinet.launch.cli import main
from basinet.launch.finished.retiming import retimed
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import load_run
from basinet.sim.run.records import read_lines

TINY = {
    "task": {"name": "digits", "train_size": 60},
    "model": {"name": "mlp", "hidden": [2]},
    "topology": {"name": "ring", "agents": 4},
    "strategy": "diffusion",
    "batch_size": 4,
    "steps": 6,
    "evaluate_every": 2,
    "replicas": 3,
    "analysis": [],
    "quiet": True,
}
NETWORK = {"name": "uniform", "latency": "5 ms", "bandwidth": "1 MB/s"}
COMPUTE = {"name": "lognormal", "mean": "20 ms"}
WORDS = ["network={name: uniform, latency: 5 ms, bandwidth: 1 MB/s}", "compute={name: lognormal, mean: 20 ms}"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run without times."""
    return basinet.run(**TINY, out=tmp_path_factory.mktemp("plain")).runs[0]


def printed(capsys, *words):
    assert main(["time", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_gets_the_times_that_it_would_have_had(run, tmp_path, no_reports, capsys):
    timed = basinet.run(**TINY, network=NETWORK, compute=COMPUTE, out=tmp_path / "timed").runs[0]
    (row,) = printed(capsys, run.path, *WORDS, "--write", tmp_path / "again")
    (again,) = (path.parent for path in (tmp_path / "again").glob("*/config.yaml"))
    assert read_lines(again / "metrics.jsonl") == read_lines(timed.path / "metrics.jsonl")
    written = load_run(again)
    assert written.config == timed.config and written.status["state"] == "done"
    assert row["seconds"] == pytest.approx(sum(written.final("simulated_time").values()) / 3, rel=1e-12)
    ends = [*written.final("simulated_time").values()]
    assert row["seconds_error"] == pytest.approx(np.std(ends, ddof=1) / np.sqrt(3))
    assert sum(row[f"{share}_share"] for share in ("compute", "communication", "idle")) == pytest.approx(1, rel=1e-12)
    # A run with times is timed as it was, or anew.
    assert printed(capsys, timed.path) == [row | {"run": timed.name}]
    slow = printed(capsys, timed.path, "network.latency=50 ms", "compute=null")[0]
    each = 50e-3 + (timed.final("communicated_bytes")[0] / 6 / 8) / 1e6
    assert slow["seconds_per_step"] == pytest.approx(each, abs=1e-9) and slow["compute_share"] == 0


def test_several_values_are_timed_one_after_the_other(run, capsys):
    rows = printed(capsys, run.path, "compute={name: constant, mean: [20 ms, 5 ms]}")
    assert [row["seconds_per_step"] for row in rows] == pytest.approx([20e-3, 5e-3], rel=1e-12)
    assert main(["time", str(run.path), "compute.name=constant", "compute.mean=20 ms,5 ms"]) == 0
    table = capsys.readouterr().out
    assert "compute.mean" in table and "20 ms" in table and "0.03" in table and "100.0" in table  # % computing


def test_the_time_to_a_target_is_that_of_the_first_evaluation_that_reaches_it(run, capsys):
    (timed,) = retimed(run, ["compute.name=constant", "compute.mean=20 ms"])
    values = sorted(row["train_loss"] for row in run.metrics if row["step"] == 4)
    found = timed.until("train_loss", values[1])  # the second of three
    assert (found.median, found.number) == (4 * 20e-3, 3) and found.count >= 2
    assert timed.until("train_loss", 0).median == float("inf")
    words = ["compute.name=constant", "compute.mean=20 ms", "--target", f"train_loss={values[1]}"]
    assert printed(capsys, run.path, *words)[0]["target"]["median"] == 4 * 20e-3


def test_replicas_that_diverged_have_no_part_in_totals(run):
    def total(lost):
        (timed,) = retimed(replace(run, status={**run.status, "diverged": lost}), WORDS)
        return timed.final["simulated_time"].tolist()

    every = total({})
    assert len({*every}) == 3 and total({"1": 4}) == [every[0], every[2]]
    assert total({"0": 2, "1": 4, "2": 6}) == every


def test_replicas_without_the_target_are_censored_when_they_were_last_measured(run):
    """The first one reaches it at step 4, the last one does not, and the other ends at step 2."""
    losses = {0: (3, 3, 1, 1), 1: (3, 3), 2: (3, 3, 3, 3)}
    metrics = [
        {"step": 2 * place, "replica": replica, "train_loss": loss}
        for replica, values in losses.items()
        for place, loss in enumerate(values)
    ]
    law = ["compute.name=constant", "compute.mean=20 ms"]

    def until(value, **lost):
        status = {**run.status, "diverged": {name[1:]: step for name, step in lost.items()}}
        (timed,) = retimed(replace(run, metrics=metrics, status=status), law)
        found = timed.until("train_loss", value)
        return found.median, found.count, found.number

    assert until(1) == (4 * 20e-3, 1, 3)  # one of the two that are left
    assert until(1, _1=2) == (float("inf"), 1, 3)  # of three: it will never reach it
    assert until(3, _1=2) == (0, 2, 3)  # nor has it, whatever it was before it diverged


def test_another_trace_may_be_taken_but_a_recorded_one_may_not_have_changed(run, tmp_path):
    recorded, other = tmp_path / "recorded.csv", tmp_path / "other.csv"
    recorded.write_text("0.02,0.02,0.02,0.02\n")
    other.write_text("0.05,0.05,0.05,0.05\n")
    (timed,) = retimed(run, ["compute.name=trace", f"compute.path={recorded}"])
    traced = replace(run, config={**run.config, "compute": timed.given["compute"]})
    for words, each in ([], 0.02), ([f"compute.path={other}"], 0.05):
        (again,) = retimed(traced, words)
        assert again.final["simulated_time"].tolist() == pytest.approx([6 * each] * 3)
    recorded.write_text("0.03,0.03,0.03,0.03\n")
    with pytest.raises(ExperimentError, match=r"^compute: trace has changed"):
        next(retimed(traced))


def test_an_unfinished_run_is_timed_to_its_end(run):
    begun = replace(run, status={**run.status, "state": "interrupted", "step": 2}, metrics=run.metrics[:6])
    (timed,) = retimed(begun, ["compute.name=constant", "compute.mean=20 ms"])
    assert timed.steps == 6 and [*timed.moments] == [0, 2, 6]
    assert timed.final["simulated_time"].tolist() == pytest.approx([0.12] * 3)


def test_a_run_whose_messages_were_lost_belongs_to_its_network(run):
    lossy = replace(run, config={**run.config, "faults": [{"name": "network_loss"}], "network": {"loss": 0.1}})
    (timed,) = retimed(lossy, ["compute.name=constant", "compute.mean=20 ms"])
    assert timed.final["simulated_time"].tolist() == pytest.approx([0.12] * 3)
    with pytest.raises(ExperimentError, match=r"^network: messages of .* were lost as its network says"):
        next(retimed(lossy, ["network.loss=0.2"]))


def test_agents_that_act_at_events_are_timed_as_they_were(tmp_path, no_reports, capsys):
    """A law for each agent, too, so that fewer of them can be tried, and one measurement for all strategies."""
    law = {"name": "measured", "factors": [1, 1, 1, 3]}
    keys = TINY | {"strategy": ["wait_free", "async_server"], "compute": law, "steps": 4}
    runs = basinet.run(**keys, out=tmp_path / "events").runs
    rows = printed(capsys, tmp_path / "events")
    for run, row in zip(runs, rows, strict=True):
        times = run.final("simulated_time")
        assert row["run"] == run.name and row["seconds"] == pytest.approx(sum(times.values()) / 3, rel=1e-12)
    assert len({run.status["pass_seconds"] for run in runs}) == 1
    for words in (["compute.sigma=0.1"], ["--timeline", "x.json"]):
        assert main(["time", str(runs[0].path), *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "agents of wait_free act at events" in line


def test_timelines_are_figures_and_traces(run, tmp_path, capsys):
    words = ["compute={name: constant, mean: 20 ms}", "--rounds", "2:3"]
    for file in ("rounds.png", "rounds.json"):
        printed(capsys, run.path, *words, "--timeline", tmp_path / file)
    assert (tmp_path / "rounds.png").read_bytes().startswith(b"\x89PNG")
    events = json.loads((tmp_path / "rounds.json").read_text())["traceEvents"]
    computed = [(e["ts"], e["dur"]) for e in events if e["ph"] == "X" and e["pid"] == 2 and e["tid"] == 6]
    assert computed == [(20_000, 20_000), (40_000, 20_000)]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["seed=3"], "seed=3: times depend on network and compute alone; give keys of these"),
        ([], "network: .* has neither network nor compute; give some"),
        (["compute.mean=20 ms"], "compute.name: a mapping needs the key 'name'"),
        (["compute=constant"], "compute.mean: constant needs the setting 'mean'"),
        ([*WORDS, "--timeline", "x.json", "--rounds", "3:9"], "--rounds: got 3:9; allowed are steps from 1 to 6"),
        ([*WORDS, "network.latency=1 ms,2 ms", "--timeline", "x.json"], "it is of one run, but there are 2 timings"),
        ([*WORDS, "--timeline", "x.bmp"], "--timeline: got x.bmp; a figure needs"),
        ([*WORDS, "--timeline", "x.json", "--rounds", "0:2"], "--rounds: got 0:2; allowed are steps from 1 to 6"),
        ([*WORDS, "--target", "accuracy=3"], "--target: no run has measured accuracy"),
    ],
)
def test_mistakes_are_one_sentence(run, words, sentence, capsys):
    assert main(["time", str(run.path), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(sentence, line)
