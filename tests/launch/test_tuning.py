"""Tuning on disk: what is chosen and recorded, how the search is halved, extended and resumed, and how it is shown."""

import itertools
import json

import pytest
import torch
import yaml

import basinet
from basinet.analysis.compare.comparison import compare
from basinet.analysis.drawing.legibility import illegible
from basinet.analysis.report import tuning_section
from basinet.analysis.report.report import write_report
from basinet.analysis.report.tuning_section import tuning_drawing
from basinet.analysis.statistics.quantities import quantities, quantity_of
from basinet.launch.cli import main
from basinet.launch.tuning import search
from basinet.launch.tuning.choosing import Score, at_edge, best_of, differences
from basinet.launch.tuning.search_plan import about_search
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.tuning.tuned_experiment import TunedExperiment
from basinet.sim.run.files import sealed_json
from basinet.sim.run.folder import RunFolder, load_run, load_runs
from basinet.sim.run.records import lines_of, load_status, load_tuning
from basinet.sim.run.simulation import Interrupted, RunFailed
from tests.planted_runs import write_run

pytestmark = pytest.mark.usefixtures("shared_parts", "untried")

LANDSCAPE = {
    "task": {"name": "quadratic", "curvature": [1.0], "noise": 0.0},
    "topology": {"name": "ring", "agents": 3},
    "strategy": ["centralized", "diffusion"],
    "batch_size": 1,
    "steps": 4,
    "evaluate_every": 1,
    "replicas": 2,
    "analysis": [],
    "runtime": {"dtype": "float64", "device": "cpu", "engine": "loop"},
}
NAMES = ["centralized", "diffusion-atc"]
ALONE = {"steps": 6, "replicas": 1, "strategy": "centralized"}


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    """Reports take longer than all else."""
    monkeypatch.setattr("basinet.analysis.report.report.write_report", lambda folder: folder / "report.html")


def tune(out, tune, **changes):
    return basinet.run(**LANDSCAPE | changes, tune=tune, out=out, quiet=True)


def states(folder):
    return {path.parent.name: json.loads(path.read_text())["state"] for path in folder.glob("*/status.json")}


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """Gradient descent on J = ½ (w − 1)² from 0, with J = ½ (1 − lr)^2T after T steps: 1 is best."""
    out = tmp_path_factory.mktemp("tuning") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("basinet.analysis.report.report.write_report", lambda folder: folder / "report.html")
        return out, tune(out, {"optimizer.lr": [0.001, 0.01, 0.1], "replicas": 2})


def test_the_choice_is_that_of_the_closed_form_beyond_the_edge(extended):
    out, results = extended
    assert results.tuning == {name: {"optimizer.lr": 1.0} for name in NAMES}
    assert set(results.states) == {*NAMES} and basinet.load(out).tuning == results.tuning
    record = load_tuning(out)
    assert record["keys"] == {"optimizer.lr": [0.001, 0.01, 0.1, 1.0, 10.0]}
    assert record["rounds"] == ["tuning/1-given", "tuning/2-extended", "tuning/3-extended"]
    assert (record["metric"]["name"], record["metric"]["direction"]) == ("train_loss", "smaller")
    for group in record["groups"].values():
        assert group["edges"] == {}
        for row in group["candidates"]:
            rate = row["values"]["optimizer.lr"]
            assert row["mean"] == pytest.approx(0.5 * (1 - rate) ** 8, abs=1e-14) and (row["n"], row["lost"]) == (2, 0)
            assert row["chosen"] == (rate == 1.0) and row["ended"]
            if rate != 1.0:
                assert row["difference"] == pytest.approx(0.5 * (1 - rate) ** 8, abs=1e-14)
                assert row["difference_se"] == pytest.approx(0, abs=1e-14) and row["indistinguishable"] is False
    for name in NAMES:
        run = load_run(out / name)
        assert run.config["tuned"] == ["optimizer.lr"] and run.config["optimizer"]["lr"] == 1.0
        assert run.metrics[-1]["train_loss"] == pytest.approx(0, abs=1e-14)
    assert record["notes"] == [
        "optimizer.lr: 1 added, since the best of centralized, diffusion-atc was the largest",
        "optimizer.lr: 10 added, since the best of centralized, diffusion-atc was the largest",
    ]


def test_a_search_that_is_finished_is_not_repeated(extended, monkeypatch):
    out, _ = extended
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.json*")}
    monkeypatch.setattr(search, "prepare", None)
    written = ({"optimizer.lr": [0.001, 0.01, 0.1]}, {"optimizer": {"lr": {"log": [0.001, 0.1, 3]}}, "halving": 3})
    for one in written:  # the same in other words
        assert tune(out, one | {"replicas": 2}).tuning
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.json*")} == before


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"tune": {"optimizer.lr": [0.1, 1.0]}}, r"tune\.optimizer\.lr is \[0\.001, 0\.01, 0\.1\], not \[0\.1, 1\.0\]"),
        ({"tune": {"optimizer.lr": [0.001, 0.01, 0.1]}}, r"tune\.replicas is 2, not 3"),
        ({"steps": 5}, "of the runs, centralized is not the same"),
        ({"strategy": ["centralized", "diffusion", "isolated"]}, "of the runs, isolated is not the same"),
        ({"strategy": ["diffusion"]}, "of the runs, centralized is not the same"),
    ],
)
def test_another_search_into_the_folder_is_an_error(extended, changes, said):
    out, _ = extended
    with pytest.raises(ExperimentError, match=rf"holds another experiment \({said}\); choose"):
        basinet.run(
            **LANDSCAPE | {"tune": {"optimizer.lr": [0.001, 0.01, 0.1], "replicas": 2}} | changes, out=out, quiet=True
        )


def test_a_fresh_search_discards_the_runs_and_the_rounds_before(tmp_path):
    tune(tmp_path, {"optimizer.lr": [0.01, 0.1, 1.0], "replicas": 1}, **ALONE)
    assert len(list((tmp_path / "tuning").iterdir())) == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "simulate", None)
        with pytest.raises(TypeError):
            basinet.run(**LANDSCAPE | ALONE, tune={"optimizer.lr": [0.5, 1.0]}, out=tmp_path, quiet=True, fresh=True)
    assert [path.name for path in (tmp_path / "tuning").iterdir() if path.is_dir()] == ["1-given"]
    assert not (tmp_path / "centralized").exists() and load_tuning(tmp_path)["state"] == "searching"
    assert tune(tmp_path, {"optimizer.lr": [0.5, 1.0]}, **ALONE).tuning == {"centralized": {"optimizer.lr": 1.0}}


def test_what_was_tuned_is_a_column_and_no_condition(extended):
    out, _ = extended
    found = compare(out)
    assert [row["optimizer.lr"] for row in found.rows()] == ["1", "1"]
    assert "optimizer.lr" in found.table().markdown() and not any("differ" in note for note in found.notes)


def test_the_report_shows_the_sweep(extended):
    out, _ = extended
    page = write_report(out).read_text()
    assert "<h2>Tuning</h2>" in page and "10 added, since the best" in page
    assert 'alt="Training loss over optimizer.lr. Horizontal axis: optimizer.lr.' in page
    assert "Chosen: centralized: 1; diffusion ATC: 1." in page
    assert len((out / "figures" / "tuning.csv").read_text().splitlines()) == 11


class Dies(Exception):
    """The process is gone."""


def planted(out, asked, curve, key="lr", dies_at=None, **changes):
    """Search for what a function of value, run, replica and step says; return the record and who was called for."""
    calls = []

    def simulate(setups, folder, monitor, stop, until=None):
        calls.append(sorted(setup.config.optimizer.settings[key] for setup in setups.values()))
        for name, setup in setups.items():
            run = RunFolder(folder / name)
            known = load_status(run.path)
            end = setup.num_steps if until is None else max(until[name], known["step"])
            if known["state"] in ("done", "diverged"):
                continue
            found = {
                (step, replica): curve(setup.config.optimizer.settings[key], setup.config, replica, step)
                for step in range(end + 1)
                for replica in range(setup.config.replicas)
            }
            replicas = range(setup.config.replicas)
            lost = [step for step in range(end + 1) if all(found[step, replica] is None for replica in replicas)]
            end = lost[0] if lost else end
            rows = [
                {"step": step, "replica": replica, "train_loss": value}
                for (step, replica), value in found.items()
                if value is not None and step <= end
            ]
            run.write(run.metrics.path, lines_of(rows))
            state = "diverged" if lost else "done" if end == setup.num_steps else "paused"
            run.write_status(state=state, step=end)
        if len(calls) - 1 == dies_at:
            raise Dies
        return dict.fromkeys(setups, "done")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "simulate", simulate)
        search.searched(TunedExperiment(LANDSCAPE | changes | {"tune": asked}), out, fresh=False, quiet=True)
    return load_tuning(out), calls


def test_extension_ends_after_three_steps_or_at_what_is_allowed_and_says_so(tmp_path):
    def best_far_off(rate, *_):
        return 1 - rate

    rates = [1e-8, 1e-7, 1e-6]
    asked = {"optimizer.lr": rates, "replicas": 1, "by": "loss"}
    record, calls = planted(tmp_path / "far", asked, best_far_off, **ALONE)
    assert [len(rates) for rates in calls] == [3, 1, 1, 1]
    assert record["keys"]["optimizer.lr"][-1] == pytest.approx(1e-3) and len(record["keys"]["optimizer.lr"]) == 6
    assert record["groups"]["centralized"]["edges"] == {"optimizer.lr": "largest"}
    assert record["notes"][-1] == "centralized: the best optimizer.lr, 0.001, is the largest tried"
    values = {"optimizer.momentum": [0.2, 0.1, 0.0], "replicas": 1}
    record, _ = planted(tmp_path / "end", values, lambda momentum, *_: 1 + momentum, "momentum", **ALONE)
    assert record["keys"]["optimizer.momentum"] == [0.2, 0.1, 0.0]
    assert "optimizer.momentum cannot be extended to -0.1: " in record["notes"][0]
    assert record["groups"]["centralized"]["edges"] == {"optimizer.momentum": "smallest"}


HALVED = {"optimizer.lr": {"log": [0.001, 1.0, 10]}, "replicas": 1}


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    out = tmp_path_factory.mktemp("halved") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("basinet.analysis.report.report.write_report", lambda folder: folder / "report.html")
        return out, tune(out, HALVED, **ALONE)


def test_halving_trains_the_best_to_the_end_and_pauses_the_others(halved):
    out, results = halved
    assert results.tuning == {"centralized": {"optimizer.lr": 1.0}}
    rows = {row["values"]["optimizer.lr"]: row for row in load_tuning(out)["groups"]["centralized"]["candidates"]}
    first = sorted(rows)[:10]
    assert [rows[rate]["ended"] for rate in first] == [False] * 6 + [True] * 4
    for rate in first[:6]:
        assert (rows[rate]["step"], rows[rate]["steps"]) == (2, 6)
        assert rows[rate]["mean"] == pytest.approx(0.5 * (1 - rate) ** 4, rel=1e-12)
        assert rows[rate]["difference"] is None
    assert sorted(states(out / "tuning" / "1-given").values()) == ["done"] * 4 + ["paused"] * 6


def test_a_search_that_was_stopped_ends_like_an_unbroken_one(tmp_path, halved):
    whole, _ = halved
    calls = iter(range(9))

    def broken(setups, folder, monitor, stop, until=None):
        if next(calls) == 1:
            advanced = monitor.advanced

            def stopping(run, step, rows):
                if step >= 4:
                    stop.set()
                return advanced(run, step, rows)

            monitor.advanced = stopping
        return simulate(setups, folder, monitor, stop, until=until)

    simulate = search.simulate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "simulate", broken)
        with pytest.raises(Interrupted, match=f"the progress is in {tmp_path}, and the same experiment"):
            tune(tmp_path, HALVED, **ALONE)
    assert load_tuning(tmp_path)["state"] == "searching" and not (tmp_path / "experiment.yaml").exists()
    with pytest.raises(FileNotFoundError, match=r"holds no runs yet; those of its search are in .*tuning.1-given$"):
        basinet.load(tmp_path)
    tune(tmp_path, HALVED, **ALONE)
    for file in sorted(
        path.relative_to(whole) for path in whole.rglob("*") if path.name in ("metrics.jsonl", "tuning.json")
    ):
        assert (tmp_path / file).read_bytes() == (whole / file).read_bytes(), file


def ends_badly(rate, config, replica, step):
    """Large rates are best at first, and of those that go to the end the largest is worst there."""
    return 1 - rate if step < 6 else rate


@pytest.mark.parametrize("dies_at", [0, 1])
def test_a_search_that_was_killed_chooses_by_what_counted_at_each_rung(tmp_path, dies_at):
    whole, calls = planted(tmp_path / "whole", HALVED, ends_badly, **ALONE)
    rates = [row["values"]["optimizer.lr"] for row in whole["groups"]["centralized"]["candidates"]]
    assert calls == [rates, rates[-4:]] and whole["groups"]["centralized"]["choice"] == {"optimizer.lr": rates[-4]}
    with pytest.raises(Dies):
        planted(tmp_path / "killed", HALVED, ends_badly, dies_at=dies_at, **ALONE)
    assert planted(tmp_path / "killed", HALVED, ends_badly, **ALONE) == (whole, calls)


def test_candidates_that_all_reach_the_end_at_the_first_rung_are_all_judged_there(tmp_path):
    changes = ALONE | {"evaluate_every": 6}
    record, calls = planted(tmp_path, HALVED, lambda rate, *_: abs(rate - 0.1), **changes)
    (group,) = record["groups"].values()
    assert [len(rates) for rates in calls] == [10] and all(row["ended"] for row in group["candidates"])
    assert "10 runs to step 6; 60 steps in all" in about_search(TunedExperiment(LANDSCAPE | changes | {"tune": HALVED}))


def test_where_all_have_diverged_the_last_to_do_so_is_taken_and_that_is_said(tmp_path):
    def diverges(rate, config, replica, step):
        return None if step >= 1 / rate else 1.0

    record, _ = planted(
        tmp_path / "some", {"optimizer.lr": [1.0, 0.5, 0.25], "replicas": 2}, diverges, **ALONE | {"steps": 4}
    )
    (group,) = record["groups"].values()
    assert record["keys"]["optimizer.lr"] == [0.0625, 0.125, 1.0, 0.5, 0.25] and group["choice"] == {
        "optimizer.lr": 0.125
    }
    record, _ = planted(tmp_path / "all", {"optimizer.lr": [1.0, 0.5], "replicas": 2}, diverges, **ALONE)
    (group,) = record["groups"].values()
    assert group["choice"] == {"optimizer.lr": 0.5} and [row["lost"] for row in group["candidates"]] == [2, 2]
    assert record["notes"] == ["centralized: all candidates diverged; of them, the one that went furthest is taken"]


def pairs(count, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 2, generator=generator)
    return x, (x[:, 0] > 0).long()


def test_the_test_data_have_no_part_in_the_choice(tmp_path):
    train, (x, y) = pairs(60, 0), pairs(20, 1)
    asked = {"optimizer.lr": [0.01, 0.1, 1.0], "replicas": 2, "share": 0.25}
    records = []
    for name, test in (("true", (x, y)), ("poisoned", (1e3 + 0 * x, 1 - y))):
        changes = {
            "task": (train, test),
            "model": "linear",
            "batch_size": 4,
            "strategy": "diffusion",
            "evaluate_every": 4,
        }
        tune(tmp_path / name, asked, **changes)
        records.append(load_tuning(tmp_path / name))
    for part in ("groups", "keys", "metric", "seeds", "rounds"):
        assert records[0][part] == records[1][part]
    assert records[0]["metric"]["label"] == "validation accuracy"
    files = sorted(
        path.relative_to(tmp_path / "true") for path in (tmp_path / "true" / "tuning").rglob("metrics.jsonl")
    )
    assert len(files) >= 3
    for file in files:
        assert (tmp_path / "true" / file).read_bytes() == (tmp_path / "poisoned" / file).read_bytes()
    final, tried = (load_run(tmp_path / "true" / where) for where in ("diffusion-atc", files[0].parent))
    assert final.config["seed"] == 0 != tried.config["seed"] == records[0]["seeds"][0]["search"]
    assert final.metrics[0]["train_loss"] != tried.metrics[0]["train_loss"]
    found = compare(tmp_path / "true" / "tuning" / "1-given", by="optimizer.lr")
    notes, runs = found.notes, load_runs(tmp_path / "true" / "tuning" / "1-given")
    for name in ("test_loss", "test_accuracy"):
        for known in (found.frame.quantity(name), quantity_of(name, runs), quantities(runs)[name]):
            assert known.heading.startswith("validation ")
    assert compare(tmp_path / "true").frame.quantity("test_loss").heading == "test loss"
    assert "what is called test in all runs is of training samples that were held out for validation" in notes


def test_a_failed_search_chooses_nothing_and_goes_on_later(tmp_path):
    class Fails(torch.nn.Linear):
        allowed = False

        def forward(self, x):
            if x.shape[0] == 15 and not self.allowed:  # the validation data
                raise RuntimeError("no")
            return super().forward(x)

    changes = {"task": (pairs(60, 0), pairs(20, 1)), "model": Fails(2, 2), "strategy": "diffusion", "batch_size": 4}
    asked = {"optimizer.lr": [0.01, 0.1], "replicas": 1, "share": 0.25}
    with pytest.raises(RunFailed, match="the search has failed runs, so that nothing was chosen") as error:
        tune(tmp_path, asked, **changes)
    assert set(error.value.results.states.values()) == {"failed"} and len(error.value.results.failures) == 3
    assert not (tmp_path / "experiment.yaml").exists()
    Fails.allowed = True
    assert tune(tmp_path, asked, **changes).tuning["diffusion-atc"]


def score(values, results, *, ended=True):
    return Score(values, {("run", (0, place)): value for place, value in enumerate(results)}, 3, 3, ended)


def test_a_diverged_replica_is_worst_and_equal_candidates_are_not_distinguished():
    scores = [
        score({"a": 1}, [0.9, None]),
        score({"a": 2}, [0.5, 0.6]),
        score({"a": 3}, [0.5, 0.6]),
        score({"a": 4}, [0.99, 0.99], ended=False),
        score({"a": 5}, [None, None]),
    ]
    assert best_of([*scores, score({"a": 6}, [0.6, 0.7])], "larger", 9) == [5, 1, 2, 0, 4]
    assert best_of(scores, "smaller") == [1]
    assert differences(scores[2], scores[1]) == {"difference": 0.0, "difference_se": 0.0, "indistinguishable": True}
    assert differences(scores[0], scores[1])["indistinguishable"] is None  # a single pair
    assert differences(scores[3], scores[1])["difference"] is None
    worse, better = (score({}, [0.5, 0.6, last]) for last in (None, 0.4))
    assert differences(worse, better) == {"difference": 0.0, "difference_se": 0.0, "indistinguishable": False}
    found = differences(score({}, [0.7, 0.8]), scores[1])
    assert found["difference"] == pytest.approx(0.2) and found["indistinguishable"] is False
    assert at_edge({"a": 1, "b": "x"}, {"a": [1, 2, 3], "b": ["x", "y", "z"]}) == {"a": False}
    assert at_edge({"a": 1}, {"a": [1, 2]}) == {"a": False} and at_edge({"a": 9}, {"a": [1, 9, 10**9]}) == {}


BAD = {
    "tune.on=test": "tune.on: got 'test'; allowed is validation",
    "tune.by=beauty": "tune: by: got beauty; allowed: ",
    "tune.steps=[5,10]": "tune.steps: it is no part of the training",
    "tune.share=0.01": "tune: digits: a share of 0.01 is none of the",
    "tune.share=0.9": "tune: task.partition: ",
    "tune.optimizer.speed=[1,2]": "optimizer.speed: sgd has no setting 'speed'",
    "optimizer.lr=0.1": "tune: no key is left to be tuned",
}


@pytest.mark.parametrize("word", BAD)
@pytest.mark.parametrize("dry", [True, False])
def test_mistakes_are_one_sentence_and_nothing_is_written(tmp_path, capsys, word, dry):
    file = tmp_path / "tuned.yaml"
    description = LANDSCAPE | {
        "task": {"name": "digits", "train_size": 40},
        "model": {"name": "mlp", "hidden": [3]},
        "topology": {"name": "ring", "agents": 12},
        "tune": {"optimizer.lr": [0.1, 0.3]},
    }
    file.write_text(yaml.safe_dump(description))
    assert main(["run", str(file), word, "--out", str(tmp_path / "out"), *(["--dry-run"] if dry else [])]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith(f"basinet: {BAD[word]}") and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "asked, said",
    [
        (
            HALVED,
            "tuning: 10 candidates for each of 2 choices, by the training loss of 1 replica: 20 runs to step 2, 4 of"
            " each choice to step 6; 72 steps in all, and at most 144 if the best values are at an edge\n",
        ),
        (
            {"optimizer.lr": [0.1, 0.2], "replicas": 1},  # too few to go on
            "tuning: 2 candidates for each of 2 choices, by the training loss of 1 replica: 4 runs to step 6; 24 steps"
            " in all\n",
        ),
    ],
)
def test_a_dry_run_says_what_the_search_takes(tmp_path, capsys, asked, said):
    file = tmp_path / "tuned.yaml"
    file.write_text(yaml.safe_dump(LANDSCAPE | {"steps": 6, "tune": asked}))
    assert main(["run", str(file), "--dry-run", "--json", "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["centralized"]["optimizer"]["lr"] == "tuned"
    assert said in err
    assert not (tmp_path / "out").exists()


def made_record(keys, groups, *, halved=False, diverged=False):
    """A record of a search with the best value in the middle."""
    found = {}
    for number in range(groups):
        rows = []
        for place, values in enumerate(itertools.product(*keys.values())):
            places = [keys[key].index(value) - len(keys[key]) // 2 for key, value in zip(keys, values, strict=True)]
            distance = sum(map(abs, places))
            row = {"values": dict(zip(keys, values, strict=True)), "mean": 0.9 - 0.05 * distance - 0.01 * number}
            row["se"] = 0.01
            lost = int(diverged and place == 0)
            rows.append(row | {"n": 3, "lost": lost, "step": 30, "steps": 30, "ended": not (halved and distance > 1)})
            rows[-1] |= {"chosen": distance == 0, "difference": -0.05 * distance, "difference_se": 0.01}
        (best,) = (row for row in rows if row["chosen"])
        name = f"gradient_tracking_with_local_updates_{number}_name=erdos_renyi"
        found[name] = {"runs": [name], "choice": best["values"], "edges": {}, "candidates": rows}
    metric = {"name": "test_accuracy", "label": "validation accuracy", "direction": "larger"}
    return {"keys": keys, "groups": found, "metric": metric, "criterion": "the best", "share": 0.2, "notes": []}


RATE, SIZE = [0.001, 0.00316228, 0.01, 0.0316228, 0.1], [8, 16, 32]


@pytest.mark.parametrize(
    "keys, groups",
    [
        ({"optimizer.lr": RATE}, 20),
        ({"optimizer": [{"name": "sgd", "lr": 0.1}, {"name": "adam", "lr": 0.01}, "nsgd"]}, 2),
        ({"optimizer.lr": RATE, "batch_size": SIZE}, 1),
        ({"optimizer.lr": RATE, "batch_size": SIZE}, 20),
        ({"optimizer.lr": RATE, "batch_size": SIZE, "optimizer.momentum": [0.0, 0.5, 0.9]}, 4),
    ],
)
def test_figures_of_searches_are_legible(keys, groups):
    drawing = tuning_drawing(made_record(keys, groups, halved=True, diverged=True))
    assert illegible(drawing.figure) == []
    if groups == 20:
        assert "of 20 choices the" in drawing.caption.lower()
    if len(keys) == 1 and "optimizer.lr" in keys:
        assert drawing.figure.axes[0].get_xscale() == "log"


def test_a_search_is_drawn_by_strategy_with_a_panel_for_each_condition(tmp_path, monkeypatch):
    pairs = [*itertools.product(("consensus", "diffusion"), ("ring", "star"))]
    for strategy, topology in pairs:
        write_run(tmp_path, f"{strategy} {topology}", {"a": [1.0]}, strategy=strategy, topology__name=topology)
    record = made_record({"optimizer.lr": RATE}, 4)
    record["groups"] = {
        f"{strategy} {topology}": found | {"runs": [f"{strategy} {topology}"]}
        for (strategy, topology), found in zip(pairs, record["groups"].values(), strict=True)
    }
    drawn = []
    monkeypatch.setattr(tuning_section, "figure_html", lambda drawing, folder: drawn.append(drawing) or "")
    page = tuning_section.tuning_html(record, [load_run(tmp_path / " ".join(pair)) for pair in pairs], tmp_path)
    assert ">diffusion, topology=star<" in page and "diffusion star" not in page
    panels = drawn[0].figure.axes
    assert [ax.get_title() for ax in panels] == ["topology=ring", "topology=star"]
    assert illegible(drawn[0].figure) == []
    for place, ax in enumerate(panels):
        lines = {text: bars.lines[0].get_ydata() for bars, text in zip(*ax.get_legend_handles_labels(), strict=True)}
        wanted = {"consensus": 0.9 - 0.01 * place, "diffusion": 0.88 - 0.01 * place}
        assert {text: max(values) for text, values in lines.items()} == pytest.approx(wanted, abs=1e-12)


def test_a_damaged_record_is_named(extended, tmp_path):
    out, _ = extended
    record = load_tuning(out) | {"groups": 3}
    (tmp_path / "tuning.json").write_text(sealed_json(record))
    with pytest.raises(ExperimentError, match=r"tuning\.json: .*groups"):
        load_tuning(tmp_path)


def test_runs_that_share_a_choice_are_judged_by_their_mean_and_its_noise_is_that_of_their_draws(tmp_path):
    """The two graphs differ by the same amount in all draws, which is no noise."""

    def curve(rate, config, replica, step):
        return 10 * (config.topology.component.name == "star") + abs(rate - 1.2) + (rate > 0.5) * 0.2 * replica

    keys = {"strategy": "diffusion", "topology": {"name": ["ring", "star"], "agents": 3}, "seed": [0, 1]}
    asked = {"optimizer.lr": [0.5, 1.5, 1.2], "per": ["strategy"], "replicas": 2}
    record, _ = planted(tmp_path, asked, curve, **ALONE | keys)
    (group,) = record["groups"].values()
    assert len(group["runs"]) == 4 and group["choice"] == {"optimizer.lr": 1.2}
    assert [(row["n"], row["lost"]) for row in group["candidates"]] == [(4, 0)] * 3
    assert [row["mean"] for row in group["candidates"]] == pytest.approx([5.7, 5.4, 5.1])
    # Of 0, 0.2, 0, 0.2: s² = 0.04/3, and s²/4.
    assert [row["se"] for row in group["candidates"]] == pytest.approx([0, (0.01 / 3) ** 0.5, (0.01 / 3) ** 0.5])
    assert [row.get("difference_se") for row in group["candidates"]][:2] == pytest.approx([(0.01 / 3) ** 0.5, 0])
    assert [row.get("indistinguishable") for row in group["candidates"]] == [False, False, None]


def test_a_value_that_is_impossible_for_some_of_them_is_worse_than_all_others(tmp_path, tried):
    """On a ring, an agent with two neighbours cannot tolerate two attackers; on the other graph, most diverge."""

    def curve(rate, config, replica, step):
        tolerated = config.strategy.settings["tolerated"]
        return None if tolerated == 1 and replica and step and "complete" in config.topology.component.name else 1.0

    keys = {"strategy": {"name": "robust"}, "topology": {"name": ["ring", "complete"], "agents": 6}}
    asked = {"strategy.tolerated": [2, 1], "per": ["strategy"], "replicas": 3}
    record, _ = planted(tmp_path, asked, curve, **ALONE | keys, skip="impossible")
    (group,) = record["groups"].values()
    assert [(row["lost"], row["chosen"]) for row in group["candidates"]] == [(3, False), (2, True)]
