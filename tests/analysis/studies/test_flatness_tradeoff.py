"""The study of flatness and optimization: its statistics, and that short forms of it run from end to end."""

import io

import numpy as np
import pytest
from scipy.stats import ttest_rel

from basinet.analysis.runs.context import lanczos_steps
from basinet.analysis.statistics.multiple_tests import holm
from basinet.analysis.studies import STUDIES, write_findings
from basinet.analysis.studies.flatness_tradeoff.claims import SHORT, above_one
from basinet.analysis.studies.flatness_tradeoff.comparisons import (
    Difference,
    at_the_loss,
    best_of_others,
    larger,
    nested_errors,
)
from basinet.analysis.studies.flatness_tradeoff.departures import rest_checks
from basinet.analysis.studies.flatness_tradeoff.phases import Cell, phase_checks
from basinet.analysis.studies.flatness_tradeoff.presets import CIFAR10, CIFAR100, CIFAR100_WRN, DIGITS
from basinet.analysis.studies.flatness_tradeoff.settings import Departure, Family, Regime, Setting, Variant
from basinet.analysis.studies.flatness_tradeoff.starts import regressions
from basinet.analysis.studies.flatness_tradeoff.tradeoff import find_out, flatness_tradeoff
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.folder import load_runs


def test_paired_intervals_are_those_of_the_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 12))
    wanted = ttest_rel(a, b).confidence_interval(0.95)
    found = Difference(a, b)
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(a - b), wanted.low, wanted.high))
    assert found.p == pytest.approx(ttest_rel(a, b).pvalue)
    assert Difference([3.0, 3.0], [1.0, 1.0]).p == 0 and Difference([1.0, 1.0], [1.0, 1.0]).p == 1
    gone = Difference([*a, np.nan, 1.0], [*b, 0.0, np.inf])
    assert (gone.low, gone.high, gone.pairs, gone.left_out) == (found.low, found.high, 12, 2)


def test_verdicts_tell_what_is_not_shown_from_what_is_reversed():
    up = np.array([1.0, 1.1, 0.9, 1.0])
    assert larger("", up, 0 * up).verdict == "agrees"
    assert larger("", 0 * up, up).verdict == "reversed"
    assert larger("", [1.0, -1.0, 0.5], [0.0, 0.0, 0.0]).verdict == "not shown"
    assert larger("", [1.0, np.nan], [0.0, 0.0]).verdict == "too few pairs"
    assert larger("", 1 + 1e-7 * up, np.ones(4)).verdict == "not shown"  # a difference of rounding


def test_holm_keeps_chance_findings_to_one_family_of_twenty():
    """Also where some of the tests do have something to find; by themselves they would show in nearly all families."""
    rng = np.random.default_rng(0)
    p = rng.random((2000, 20))
    p[:, :3] *= 1e-6
    wrong = np.mean([holm(family)[3:].any() for family in p])
    assert wrong < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)
    assert wrong > 0.5 * 0.05  # it is not far from the level, either
    assert all(holm(family)[:3].all() for family in p[:50])
    # Once one does not show, no larger one does; what could not be tested counts for nothing.
    assert holm([0.04, np.nan, 0.03]).tolist() == [False, False, False]
    assert holm([0.04, np.nan, 0.025]).tolist() == [True, False, True]
    assert holm([np.nan]).tolist() == [False]


@pytest.mark.parametrize(
    ("start", "cap", "ends", "verdicts"),
    [
        (20.0, 10.0, [9.0, 9.5, 9.2], ("agrees", "agrees")),
        (20.0, 10.0, [12.0, 12.5, 12.2], ("agrees", "disagrees")),
        (20.0, 10.0, [5.0, 19.0, 2.0], ("not shown", "not shown")),  # no interval, however wide, agrees by its width
        (20.0, 10.0, [9.0], ("too few pairs", "too few pairs")),
        (20.0, 10.0, [np.nan, np.nan, 9.0], ("too few pairs", "too few pairs")),
        (8.0, 10.0, [7.0, 7.5, 7.2], ("not tested", "not tested")),
        (20.0, None, [9.0, 9.5, 9.2], ("not tested", "not tested")),
        (np.nan, 10.0, [9.0, 9.5, 9.2], ("not tested", "not tested")),
    ],
)
def test_consensus_has_to_leave_a_minimum_above_its_cap(start, cap, ends, verdicts):
    checks = rest_checks(start=start, cap=cap, consensus=np.array(ends), diffusion=np.full(len(ends), 18.0), where="x")
    assert tuple(check.verdict for check in checks) == verdicts
    assert ("cannot rest at a minimum of λ_max 20, above" in checks[0].claim) == (verdicts[0] != "not tested")


def test_a_ratio_above_one_has_to_show():
    assert above_one("", 2.0, 2.0, 0.3).agrees
    assert not above_one("", 2.0, 2.0, 0.4).agrees
    assert not above_one("", 2.0, 0.5, 0.01).agrees


def test_nested_regressions():
    """A target of both features, one of a single one, and noise: the gain shows where there is one."""
    rng = np.random.default_rng(1)
    x, z = rng.standard_normal((2, 120))
    groups = np.arange(120) // 6
    noise = 0.1 * rng.standard_normal(120)
    both = nested_errors({"x": x, "z": z}, x + z + noise, groups)
    assert both["all"].mean() < 0.02 and both["x"].mean() > 0.5 and both["z"].mean() > 0.5
    assert both["nothing"].mean() == pytest.approx(2, rel=0.5)
    one = nested_errors({"x": x, "z": z}, x + noise, groups)
    gain = Difference(one["x"], one["all"])
    assert gain.low <= 0 and abs(gain.mean) < 1e-3
    # A mean of its own for each level of a factor: what only follows from this is not told by the features.
    level = groups % 2
    beside = nested_errors({"x": x + 5 * level}, 3 * level + noise, groups // 2, factor=level)
    assert beside["nothing"].mean() < 0.02
    assert nested_errors({"x": x + 5 * level}, 3 * level + noise, groups // 2)["nothing"].mean() > 1
    # Of a level that is in no other group nothing is known; nor of the only group.
    assert len(nested_errors({"x": x}, z, groups // 5, factor=groups // 15)["all"]) == 3
    assert len(nested_errors({"x": x}, z, 0 * groups)["all"]) == 0
    # Left out means left out: a group of its own level is not seen by what predicts it.
    alone = nested_errors({"x": np.zeros(4)}, [0.0, 0.0, 1.0, 1.0], [0, 0, 1, 1])
    assert alone["x"] == pytest.approx([1.0, 1.0])


def test_matched_losses_are_interpolated_between_trainings():
    losses = [np.array([loss, loss]) for loss in (1.0, 0.01, 0.1)]
    values = [np.array([value, np.nan]) for value in (0.5, 0.9, 0.7)]
    assert at_the_loss(losses, values, np.array([10**-0.5, 0.1]))[0] == pytest.approx(0.6)
    assert np.isnan(at_the_loss(losses, values, np.array([2.0, 0.1]))).all()
    assert np.isnan(at_the_loss(losses, values, np.array([np.nan, 0.1]))[0])


def test_the_best_step_of_a_replica_is_chosen_by_the_others():
    """Its own loss has no say: replica 0 is an exception, and 2 diverged under the third setting."""
    losses = [np.array([0.0, 5.0, 5.0]), np.array([9.0, 4.0, 4.0]), np.array([0.0, 0.0, np.nan])]
    # Means without 0: 5, 4, of one alone 0. Without 1: 2.5, 6.5, of one alone 0. Without 2: 2.5, 6.5, 0.
    assert best_of_others(losses).tolist() == [1, 0, 2]
    assert best_of_others([np.array([np.nan, np.nan, 1.0]), np.array([3.0, np.nan, 2.0])]).tolist() == [0, 1, 1]


def test_a_phase_diagram_counts_where_a_claim_holds():
    regimes = [Regime(batch=batch, lr=0.1 * batch, steps=1) for batch in (1, 2)]
    cells = [Cell(regime, factor, "ring") for regime in regimes for factor in (1.0, 2.0)]
    rng = np.random.default_rng(0)
    values = {}
    for cell, gain in zip(cells, (1.0, 1.0, 0.0, -1.0), strict=True):
        noise = 0.1 * rng.standard_normal(8)
        noise -= noise.mean()  # where there is no gain there is none in the mean
        labels = {"centralized": gain + noise, "diffusion ATC": np.zeros(8), "consensus": np.zeros(8)}
        values[cell] = {(q, label): v for q in ("flatness", "loss", "accuracy") for label, v in labels.items()}
    checks, drawings = phase_checks(values, "x", "nowhere")
    assert (checks[0].measured, checks[0].verdict) == (
        "holds in 2, not shown in 1, reversed in 1",
        "mixed",
    )
    assert checks[1].verdict == "not shown"  # consensus and diffusion are the same
    assert [row["verdict"] for row in drawings[0].rows] == ["holds", "holds", "not shown", "reversed"]
    assert {row["lr"] for row in drawings[0].rows} == {0.1, 0.2, 0.4}


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((1.0, 1.0, 1.0, 1.0), "agrees"),
        ((1.0, 0.0, 0.0, 0.0), "in part of the range"),
        ((-1.0, -1.0, -1.0, -1.0), "reversed"),
        ((0.0, -1.0, 0.0, 0.0), "reversed"),
        ((1.0, 0.0, 0.0, -1.0), "mixed"),
        ((0.1, 0.0, 0.0, 0.0), "not shown"),  # p = 0.03, of which one in four cells is no wonder
        ((np.nan, np.nan, np.nan, np.nan), "too few pairs"),
        ((np.nan, 0.0, 0.0, 0.0), "not shown"),
    ],
)
def test_a_range_is_told_by_all_of_its_cells(gains, verdict):
    noise = 0.1 * np.random.default_rng(0).standard_normal(8)
    noise *= 0.1068 / noise.std(ddof=1)
    noise -= noise.mean()
    values = {}
    for batch, gain in enumerate(gains, 1):
        labels = {"centralized": gain + noise, "diffusion ATC": np.zeros(8), "consensus": np.zeros(8)}
        here = {(q, label): v for q in ("flatness", "loss", "accuracy") for label, v in labels.items()}
        values[Cell(Regime(batch=batch, lr=0.1, steps=1), 1.0, "ring")] = here
    checks, _ = phase_checks(values, "x", "nowhere")
    assert checks[0].verdict == verdict
    if gains[0] == 0.1:
        assert Difference(0.1 + noise, np.zeros(8)).verdict == "holds"


def test_regressions_need_three_groups():
    rng = np.random.default_rng(0)
    rows = [
        {
            "batch": batch, "replica": replica, "condition": f"{label}{batch}", "test_accuracy": a + b,
            "hessian_top_eigenvalue": np.exp(a), "train_loss": np.exp(b),
        }
        for batch in (1, 2) for label in "cde" for replica in range(2) for a, b in rng.standard_normal((1, 2))
    ]  # fmt: skip
    assert [check.verdict for check in regressions(rows, "x", "replica")] == ["not tested", "not tested"]
    found = regressions(rows, "x", "condition")
    assert all("→ 1.00" in check.claim for check in found)  # both together tell all of it
    assert [check.agrees for check in found] == [True, True]


def test_a_setting_is_changed_by_keys():
    found = CIFAR10.changed(
        {"task": {"path": "parquet"}, "model": {"name": "wide_resnet", "norm": "none"}, "replicas": 1}
    )
    assert (found.task["path"], found.task["image"], found.replicas) == ("parquet", "img", 1)
    assert found.model == {"name": "wide_resnet", "norm": "none"}
    assert CIFAR10.changed({"model": {"norm": "batch"}}).model == {"name": "resnet", "norm": "batch"}
    runtime = CIFAR10.changed({"experiment": {"runtime": {"autocast": "bfloat16"}}}).experiment["runtime"]
    assert runtime == {**CIFAR10.experiment["runtime"], "autocast": "bfloat16"}
    with pytest.raises(ExperimentError, match=r"no setting 'replica'.* did you mean 'replicas'"):
        DIGITS.changed({"replica": 1})
    with pytest.raises(ExperimentError, match="replicas: got 0"):
        DIGITS.changed({"replicas": 0})


@pytest.mark.parametrize("setting", [CIFAR10, CIFAR100, CIFAR100_WRN])
def test_the_full_scale_is_that_of_the_nearest_published_trainings(setting):
    family, (departure,) = setting.families[0], setting.departures
    assert [regime.batch * setting.agents for regime in family.regimes] == [1024, 8192]
    assert len({regime.lr / regime.batch for regime in (*family.regimes, departure.teacher)}) == 1
    # ResNet-18 leaves room for a Krylov run in the memory of the analysis.
    assert lanczos_steps(setting.experiment["analysis_memory"], 11_173_962) >= 40


SMALL = Setting(
    name="digits",
    about="A few digits.",
    task={"name": "digits", "train_size": 64, "partition": "shared"},
    model={"name": "mlp", "hidden": [4], "activation": "tanh"},
    agents=4,
    schedule={"name": "step", "milestones": [0.8]},
    departures=(
        Departure(
            name="one",
            teacher=Regime(batch=8, lr=0.5, steps=20),
            regimes=(Regime(batch=2, lr=0.1, steps=10), Regime(batch=8, lr=0.4, steps=10)),
            level=0.01,
            factors=(1.0, 2.0),
            rest=Regime(batch=16, lr=0.1, steps=3),
        ),
    ),
    families=(
        Family(
            name="two",
            regimes=(Regime(batch=8, lr=0.4, steps=10),),
            factors=(0.5, 1.0),
            topologies=("ring",),
            lengths=(0.5, 2.0),
        ),
    ),
    variants=(
        Variant(
            name="three", regime=Regime(batch=4, lr=0.1, steps=5), keys={"task.partition": "iid"}, lengths=(0.5, 2.0)
        ),
    ),
    replicas=2,
    seed=0,
    experiment={"evaluate_every": 10**9, "runtime": {"engine": "loop"}},
)


@pytest.mark.slow
def test_a_short_form_of_the_study_runs(tmp_path):
    seen = []
    out = tmp_path / "out"
    findings = find_out(lambda done, what: seen.append(done), out, SMALL, SHORT)
    assert min(np.diff([0.0, *seen, 1.0])) > -1e-12  # it only goes on, to rounding
    claims = {check.claim.split(",")[0].split(":")[0] for check in findings.checks}
    assert claims == {"1", "1b", "2", "3", "4", "5", "6"}
    # What does not depend on chance comes out in the short form, too: where a strategy can rest.
    caps = [check for check in findings.checks if "cannot rest where" in check.claim]
    assert [check.predicted for check in caps] == pytest.approx([20.0, 20.0, 20 / 3])
    assert all(check.agrees for check in caps)
    kinds = ("equal steps", "tuned", "range", "three", "whole shards", "each condition", "ratios of exit steps")
    assert all(any(kind in check.claim for check in findings.checks) for kind in kinds)
    controls = [check.claim for check in findings.checks if "control" in check.claim]
    counts = {part: sum(part in claim for claim in controls) for part in ("from a minimum", "two, batch 8", "three")}
    assert counts == {"from a minimum": 2, "two, batch 8": 4, "three": 4}
    paired = sum(check.rule == "the paired 95 % interval lies above 0" for check in findings.checks)
    assert findings.about[-1].startswith(f"{paired} rows") and paired > 20
    page = write_findings(findings, out, command="basinet reproduce flatness-tradeoff", seconds=1.0)
    assert "1b: the speed-up of consensus" in page.read_text()
    assert STUDIES["flatness-tradeoff"] is flatness_tradeoff


def cifar_files(folder, label, count):
    """Write images as the hub has CIFAR: columns img, fine_label or label, as PNG in parquet files."""
    datasets, image = pytest.importorskip("datasets"), pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    files = {}
    for split, size in (("train", 64), ("test", 32)):
        labels = [i % count for i in range(size)]
        rows = []
        for y in labels:
            pixels = rng.integers(0, 120, size=(8, 8, 3), dtype=np.uint8)
            pixels[:, :, y % 3] += 100
            file = io.BytesIO()
            image.fromarray(pixels).save(file, format="PNG")
            rows.append({"bytes": file.getvalue(), "path": None})
        names = datasets.ClassLabel(names=[str(i) for i in range(count)])
        features = datasets.Features({"img": datasets.Image(), label: names})
        files[split] = str(folder / f"{split}.parquet")
        datasets.Dataset.from_dict({"img": rows, label: labels}, features=features).to_parquet(files[split])
    return files


def at_small_size(setting, folder, label, model):
    """Change what makes a setting large, and nothing else: images, steps, agents, replicas and the network."""

    def short(regime):
        return {"batch": regime.batch // 16, "lr": regime.lr / 16, "steps": 3}

    departure, family = setting.departures[0].model_dump(), setting.families[0].model_dump()
    departure |= {"teacher": short(setting.departures[0].teacher), "every": 1}
    departure["regimes"] = [short(regime) for regime in setting.departures[0].regimes]
    departure |= {"factors": [1.0], "rest": {"batch": 16, "lr": 0.1, "steps": 2}}
    family |= {
        "regimes": [short(setting.families[0].regimes[-1])],
        "lengths": [0.5],
        "factors": [1.0],
        "topologies": ["ring", "complete"],
    }
    return setting.changed({
        "task": {"path": "parquet", "data_files": cifar_files(folder, label, 4)},
        "model": model, "agents": 4, "replicas": 2, "departures": [departure], "families": [family],
        "variants": [
            {**variant.model_dump(), "regime": short(variant.regime), "lengths": [0.5]}
            for variant in setting.variants[-1:]
        ],
        "experiment": {"analysis_samples": 8, "evaluate_every": 3},
    })  # fmt: skip


@pytest.fixture
def offline(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.mark.slow
def test_the_full_scale_runs_on_small_files_of_the_same_form(tmp_path, offline):
    """It is interrupted and goes on: what was finished is not done again, and what comes out is that of a whole one."""
    model = {"name": "resnet", "norm": "batch", "widths": [4], "blocks": [1]}
    setting = at_small_size(CIFAR10, tmp_path, "label", model)
    out = tmp_path / "out"

    def interrupted(done, what):
        if done > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_out(interrupted, out, setting, None)
    done = {path: path.read_bytes() for path in (out / "trainings").rglob("state.safetensors")}
    assert done
    findings = find_out(lambda done, what: None, out, setting, None)
    runs = load_runs(out / "trainings" / "starting_cross-entropy")
    assert {run.config["topology"]["name"] for run in runs} == {"ring", "complete"}
    assert all(path.read_bytes() == content for path, content in done.items())
    claims = {check.claim.split(",")[0].split(":")[0] for check in findings.checks}
    assert claims == {"1", "1b", "2", "3", "4", "5", "6"}
    again = find_out(lambda done, what: None, out, setting, None)
    assert [check.row() for check in again.checks] == [check.row() for check in findings.checks]


@pytest.mark.slow
def test_a_wide_network_runs_on_files_with_fine_labels(tmp_path, offline):
    model = {"name": "wide_resnet", "norm": "group", "depth": 10, "widen_factor": 1}
    whole = at_small_size(CIFAR100_WRN, tmp_path, "fine_label", model)
    family = whole.families[0].model_copy(update={"topologies": ("ring",), "factors": (1.0,), "lengths": ()})
    setting = whole.model_copy(update={"departures": (), "families": (family,), "variants": (), "replicas": 1})
    findings = find_out(lambda done, what: None, tmp_path / "out", setting, None)
    assert "".join(check.claim[0] for check in findings.checks) == "2234445555"
    assert all("CIFAR-100, WRN-16-8" in check.claim for check in findings.checks)
