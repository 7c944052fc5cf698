"""Measurements are read as they grow, and averaged over the replicas of groups."""

import os
from statistics import fmean, stdev

import pytest
import yaml

from basinet.analysis.compare.efforts import spent
from basinet.launch.serve.growing_metrics import GrowingMetrics, last_values
from basinet.launch.serve.page_curves import curves
from basinet.launch.serve.study_index import StudyIndex
from basinet.sim.run.files import Damaged, GrowingFile, sealed_json, sealed_yaml
from basinet.sim.run.folder import load_run
from basinet.sim.run.records import lines_of
from tests.launch.serve.planted_studies import ask, listing, plant, rows_of, serving


def same(metrics, folder, *names):
    run = load_run(folder)
    for name in names:
        found = metrics.series(name, "step")
        assert {replica: (s.tolist(), v.tolist()) for replica, (s, _, v) in found.items()} == run.series(name)


@pytest.mark.parametrize("spaces", [True, False])
def test_a_file_is_read_as_it_grows_whatever_the_pieces(tmp_path, spaces):
    rows = [row | {"epoch": row["step"] ** 2 / 1000} for row in rows_of(40)]
    later = [{"step": step, "replica": r, "hessian_trace": 1.0 + step + r} for step in (100, 390) for r in (0, 1)]
    agents = [{"step": 390, "replica": 0, "agent": k, "train_loss": 0.5} for k in range(300)]
    content = lines_of([*rows, *later[:2], *agents, *later[2:]])
    if not spaces:  # as runs never write it
        content = content.replace(b": ", b":")
    folder = plant(tmp_path / "run")
    (folder / "status.json").write_text(sealed_json({"state": "running", "step": 0}))
    metrics = GrowingMetrics(folder)
    for place in range(0, len(content), 997):  # which ends within lines
        with open(folder / "metrics.jsonl", "ab") as file:
            file.write(content[place : place + 997])
        metrics.read()
        metrics.series("train_loss", "step")
    same(metrics, folder, "train_loss", "hessian_trace", "epoch")
    for _, places, epochs in metrics.series("epoch", "epoch").values():
        assert places.tolist() == epochs.tolist()
    # What the analysis adds has no epoch of its own.
    assert metrics.series("hessian_trace", "epoch")[1][1].tolist() == [10.0, 152.1]
    assert {name: last_values(folder, 2)[name] for name in ("train_loss", "hessian_trace")} == {
        name: load_run(folder).final(name) for name in ("train_loss", "hessian_trace")
    }


@pytest.mark.parametrize("change", ["cut and continued", "replaced", "replaced before", "deleted"])
def test_a_file_that_was_cut_or_replaced_is_read_again(tmp_path, change):
    folder = plant(tmp_path / "run", rows_of(20))
    metrics = GrowingMetrics(folder)
    metrics.read()
    path = folder / "metrics.jsonl"
    (folder / "status.json").write_text(sealed_json({"state": "running", "step": 0}))
    other = lines_of(rows_of(30, seed=1))
    if change == "replaced before":  # and the same from there on
        other = path.read_bytes().replace(b'"train_loss": 2.', b'"train_loss": 3.', 1)
    if change.startswith("replaced"):
        (folder / "new").write_bytes(other)
        os.replace(folder / "new", path)
    elif change == "deleted":
        path.unlink()
    else:
        with open(path, "r+b") as file:
            file.truncate(len(other) // 3)
            file.seek(0, 2)
            file.write(b"\n" + other)
    if change == "cut and continued":
        with pytest.raises(Damaged, match="line"):  # the cut line is still there
            metrics.read()
        path.write_bytes(other)
    metrics.read()
    same(metrics, folder, "train_loss")


def test_long_files_are_thinned_to_every_so_many_evaluations(tmp_path):
    rows = rows_of(3001, replicas=2, every=1)
    folder = plant(tmp_path / "run", rows)
    pieces, whole = GrowingMetrics(folder), GrowingMetrics(folder)
    content = (folder / "metrics.jsonl").read_bytes()
    for end in (1000, 200_000, len(content)):
        (folder / "metrics.jsonl").write_bytes(content[:end])
        pieces.read()
    whole.read([GrowingFile(folder / "metrics.jsonl").vouch()])
    assert whole.every == pieces.every == 4
    for metrics in (whole, pieces):
        steps, _, values = metrics.series("train_loss", "step")[1]
        assert steps.tolist() == list(range(0, 3001, 4))
        assert values.tolist() == [row["train_loss"] for row in rows[1::2]][::4]


def test_measurements_are_checked_against_what_was_recorded(tmp_path):
    folder = plant(tmp_path / "run", rows_of(9))
    recorded = GrowingFile(folder / "metrics.jsonl").vouch()
    GrowingMetrics(folder).read([recorded])
    with pytest.raises(Damaged, match="missing or has changed"):
        GrowingMetrics(folder).read([{**recorded, "crc32": "00000000"}])
    with pytest.raises(Damaged, match="missing"):
        GrowingMetrics(folder).read([{**recorded, "bytes": recorded["bytes"] + 1}])
    (folder / "metrics.jsonl").unlink()
    with pytest.raises(Damaged, match="missing or has changed"):
        GrowingMetrics(folder).read([recorded])


def test_a_run_that_was_resumed_since_it_was_looked_at_is_read(tmp_path):
    rows = rows_of(9)
    folder = plant(tmp_path / "run", rows, state="running")
    index = StudyIndex(tmp_path)
    index.refresh(99)
    (entry,) = index.entries()
    (folder / "metrics.jsonl").write_bytes(lines_of(rows[:4]))  # the checkpoint was of an earlier step
    files = {"metrics.jsonl": GrowingFile(folder / "metrics.jsonl").vouch()}
    (folder / "status.json").write_text(sealed_json({"state": "running", "step": 10, "files": files}))
    found, _ = index.series(entry, "train_loss", "step")
    assert found[0][0].tolist() == [0, 10]


def test_of_long_curves_the_beginning_is_drawn_as_dense_as_it_is_known(tmp_path):
    plant(tmp_path / "a", rows_of(3001, replicas=1, every=1))
    plant(tmp_path / "b", rows_of(3, replicas=1, every=1))
    index = StudyIndex(tmp_path)
    index.refresh(99)
    (curve,) = curves(index, [[0, 1]], "train_loss")["curves"]
    assert curve["every"] == 2 and len(curve["x"]) < 600
    assert curve["x"][:5] == [0, 1, 2, 4, 6] and curve["x"][-1] == 3000


def test_curves_are_means_and_deviations_over_the_replicas_of_a_group(runs):
    index = StudyIndex(runs)
    index.refresh(99)
    number = {entry.id: entry.number for entry in index.entries()}
    both = [number["first/diffusion"], number["first/consensus"]]
    found = curves(index, [both, [number["second/now"]], [99]], "train_loss", "epoch")
    one, two, none = found["curves"]
    every = [load_run(runs / "first" / name).series("train_loss") for name in ("diffusion", "consensus")]
    columns = list(zip(*(curve[1] for run in every for curve in run.values()), strict=True))
    assert one["x"] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5] and one["n"] == [4] * 6
    assert one["mean"] == pytest.approx(list(map(fmean, columns)), rel=1e-6)
    assert one["sd"] == pytest.approx(list(map(stdev, columns)), rel=1e-6)
    assert one["low"] == pytest.approx(list(map(min, columns)), rel=1e-6)
    assert len(two["x"]) == 3 and none["x"] == [] and found["pending"] == 0


def test_runs_measured_at_other_steps_are_interpolated_but_never_continued(tmp_path):
    for name, steps in (("a", (0, 10, 20)), ("b", (0, 20))):
        plant(tmp_path / name, [{"step": step, "replica": 0, "train_loss": step / 10} for step in (*steps, 30)[:3]])
    index = StudyIndex(tmp_path)
    index.refresh(99)
    (curve,) = curves(index, [[0, 1]], "train_loss")["curves"]
    assert curve["x"] == [0, 10, 20, 30] and curve["mean"] == [0, 1, 2, 3] and curve["n"] == [2, 2, 2, 1]


def test_diverged_replicas_are_left_out_and_a_slow_disk_gives_some_curves_first(tmp_path):
    for name in "abc":
        plant(tmp_path / name, rows_of(4), diverged={"1": 20})
    index = StudyIndex(tmp_path)
    while index.refresh(0.0):
        pass
    groups = [[0, 1], [2]]
    found = curves(index, groups, "train_loss", seconds=0.0)
    assert found["pending"] == 2 and [curve["n"][:1] for curve in found["curves"]] == [[1], []]
    found = curves(index, groups, "train_loss")
    assert [curve["n"] for curve in found["curves"]] == [[2] * 4, [1] * 4]
    assert {entry.finals["train_loss"][2] for entry in index.entries()} == {1}


def test_values_that_overflow_are_left_out(tmp_path):
    rows = [
        {"step": 10 * k, "replica": r, "train_loss": 1.7e308 if k else 1.0, "gap": r, "gap_error": 0.1}
        for k in (0, 1)
        for r in (0, 1)
    ]
    plant(tmp_path / "run", rows)
    with serving(tmp_path) as server:
        (run,) = listing(server)["runs"]
        (curve,) = ask(server, "/api/curves?metric=train_loss&groups=0").content["curves"]
    assert [*run["finals"]] == ["gap"] and run["finals"]["gap"] == [0.5, pytest.approx(0.7071, abs=1e-4), 2]
    assert curve["mean"] == [1.0, None] and curve["n"] == [2, 2]


@pytest.mark.parametrize("known", [True, False])
def test_samples_are_those_of_comparisons_where_they_are_known(tmp_path, known):
    folder = plant(tmp_path / "run", rows_of(3), batch_size=8, agents=5)
    if not known:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        (folder / "config.yaml").write_text(sealed_yaml({key: config[key] for key in config if key != "batch_size"}))
    with serving(tmp_path) as server:
        (run,) = listing(server)["runs"]
        assert run["samples"] == (40 if known else None)
        (curve,) = ask(server, "/api/curves?metric=train_loss&groups=0&x=samples").content["curves"]
    assert curve["x"] == ([0, 400, 800] if known else [])
    assert not known or curve["x"] == spent(load_run(folder), {"step": [0, 10, 20]}, "samples").tolist()
