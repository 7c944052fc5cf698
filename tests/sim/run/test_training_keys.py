"""Runs with groups, clipping, accumulation, averages, plateaus and early stopping: on disk, resumed, and stopped."""

import json

import pytest
import torch

from basinet.sim.run.folder import load_run
from basinet.sim.run.simulation import Interrupted
from basinet.sim.setup.reached import read_points
from tests.sim.run.test_simulation import LOOKS_AT_EVERY_STEP, assert_same, carry_out, final_state

pytestmark = pytest.mark.usefixtures("shared_parts")

SMALL = {
    "model": {"name": "mlp", "hidden": [4]},
    "strategy": "diffusion",
    "steps": 40,
    "evaluate_every": 4,
    "replicas": 2,
    "analysis": [],
}
EVERYTHING = SMALL | {
    "optimizer": {"name": "adamw", "lr": 0.05, "groups": [{"match": "*.bias", "weight_decay": 0, "lr": 0.1}]},
    "clipping": {"norm": 1.0},
    "accumulate": 2,
    "averaging": {"name": "ema", "decay": 0.9},
    "schedule": {"name": "plateau", "metric": "test_accuracy", "patience": 0, "threshold": 0.2, "factor": 0.5},
    "stop_early": {"metric": "test_accuracy", "patience": 4, "min_delta": 0.1},
}
KEYS = {"run": "run", "replica": "replica", "point": "point", "step": "step"}


@pytest.mark.parametrize("changes", [
    EVERYTHING,
    EVERYTHING | {
        "averaging": {"name": "swa", "start": 0.1, "evaluate": False}, "stop_early": None,
        "runtime": {"device": "cpu", "autocast": "float16", "engine": "vectorized"},
    },
])  # fmt: skip
def test_a_stopped_run_ends_like_an_unbroken_one(tmp_path, changes):
    carry_out(tmp_path / "whole", rhythm=LOOKS_AT_EVERY_STEP, **changes)
    for at in (6, 16):
        with pytest.raises(Interrupted):
            carry_out(tmp_path / "broken", rhythm=LOOKS_AT_EVERY_STEP, at=at, **changes)
    carry_out(tmp_path / "broken", rhythm=LOOKS_AT_EVERY_STEP, **changes)
    whole, broken = (tmp_path / name / "diffusion-atc" for name in ("whole", "broken"))
    assert_same(final_state(whole), final_state(broken))
    assert (whole / "metrics.jsonl").read_text() == (broken / "metrics.jsonl").read_text()
    status = json.loads((broken / "status.json").read_text())
    assert ("stopped" in status) == (status["step"] < 40) == (changes["stop_early"] is not None)
    shares = [row["clipped_share"] for row in load_run(whole).metrics if row["step"]]
    assert all(0 <= share <= 1 for share in shares) and any(0 < share < 1 for share in shares)


def test_a_run_stops_when_its_metric_stalls(tmp_path):
    stop = {"metric": "test_loss", "patience": 3, "min_delta": 0.5}
    assert carry_out(tmp_path, **SMALL, stop_early=stop) == {"diffusion-atc": "done"}
    run = load_run(tmp_path / "diffusion-atc")
    means = {}
    for row in run.metrics:
        means.setdefault(row["step"], []).append(row["test_loss"])
    best, stalled, wanted = float("inf"), 0, None
    for step, values in means.items():
        value = sum(values) / len(values)
        best, stalled = (value, 0) if value < best - 0.5 else (best, stalled + 1)
        if stalled == 3:
            wanted = step
            break
    assert wanted is not None and run.status["step"] == max(means) == wanted < 40
    assert run.status["stopped"].startswith("test_loss has not improved by more than 0.5 for 3 evaluations on the ")
    before = (run.path / "status.json").read_text()
    assert carry_out(tmp_path, **SMALL, stop_early=stop) == {"diffusion-atc": "done"}  # there is nothing left to do
    assert (run.path / "status.json").read_text() == before


@pytest.mark.parametrize("averaging", [None, {"name": "swa", "start": 0.5}])
def test_points_of_a_run_are_its_averages_where_asked(tmp_path, averaging):
    carry_out(tmp_path, **SMALL, averaging=averaging)
    rows = final_state(tmp_path / "diffusion-atc")["rows"]
    found = read_points(tmp_path / "diffusion-atc", None, 2, keys=KEYS).parameters
    assert torch.equal(found, rows["averages" if averaging else "parameters"][[2, 6]])
    if averaging:
        assert not torch.equal(found, rows["parameters"][[2, 6]])


def test_a_plateau_scales_the_rate_of_later_steps(tmp_path):
    """Rates of zero after the first evaluation leave the parameters where they are."""
    keys = SMALL | {"optimizer": {"name": "sgd", "lr": 0.1}, "strategy": "isolated"}
    plateau = {"name": "plateau", "patience": 0, "threshold": 1e9, "factor": 1e-30}
    carry_out(tmp_path / "short", **keys | {"steps": 4, "schedule": "constant"})
    carry_out(tmp_path / "long", **keys | {"schedule": plateau})
    short, long = (final_state(tmp_path / name / "isolated")["rows"]["parameters"] for name in ("short", "long"))
    torch.testing.assert_close(long, short, rtol=0, atol=1e-15)


def bursting(t):
    """Spoil what has been learnt in the second half."""
    return 1.0 if t < 20 else 200.0


@pytest.mark.parametrize("keep_every", [None, 8])
def test_the_state_of_the_best_evaluation_is_kept(tmp_path, keep_every):
    keys = SMALL | {"schedule": bursting, "keep_every": keep_every, "strategy": "centralized"}
    stop = {"metric": "test_accuracy", "patience": 100, "keep_best": True}
    with pytest.raises(Interrupted):
        carry_out(tmp_path, rhythm=LOOKS_AT_EVERY_STEP, at=14, **keys, stop_early=stop)
    carry_out(tmp_path, rhythm=LOOKS_AT_EVERY_STEP, **keys, stop_early=stop)
    run = load_run(tmp_path / "centralized")
    accuracy = {}
    for row in run.metrics:
        accuracy[row["step"]] = accuracy.get(row["step"], 0) + row["test_accuracy"] / 2
    best = max(accuracy, key=accuracy.get)
    assert 0 < best < 40 and run.status["best_step"] == best
    kept = {f"step-{step}.safetensors" for step in [best, *range(0, 40, keep_every or 40)][: None if keep_every else 1]}
    assert {file.name for file in (run.path / "checkpoint").glob("step-*.safetensors")} == kept
    found = read_points(run.path, 1, "centroid", best, keys=KEYS)
    assert found.parameters.shape[0] == 1
