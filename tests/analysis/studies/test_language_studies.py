"""The studies of language models in a tiny form: they count what they say, and find what is exact."""

from dataclasses import replace

import numpy as np
import pytest

from basinet.analysis.studies.galore_pretraining import SCALES as PRETRAINING
from basinet.analysis.studies.galore_pretraining import find_out as pretrain
from basinet.analysis.studies.lozo_finetuning import SCALES as TUNING
from basinet.analysis.studies.lozo_finetuning import find_out as tune
from basinet.sim.experiment.config import Config
from tests.reports import with_trials

MODEL = {"name": "llama", "layers": 1, "width": 16, "heads": 2}
RUNTIME = {"runtime": {"device": "cpu", "engine": "loop"}}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    small = PRETRAINING["small"]
    scale = replace(
        small,
        task={"name": "language_model", "length": 8, "bytes": 1500},
        model=MODEL,
        batch=1,
        steps=4,
        rates=(0.01,),
        rank=4,
        period=2,
        replicas=2,
        experiment={"evaluate_every": 4, **RUNTIME},
    )
    told = []
    with with_trials(True):  # which find what the optimizers remember
        return pretrain(lambda done, what: told.append(done), tmp_path_factory.mktemp("galore"), scale), told


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lozo")
    for name, text in (("cats", "Cats purr and sleep. "), ("dogs", "Dogs bark and run. ")):
        for number in range(4):
            (folder / "texts" / name).mkdir(parents=True, exist_ok=True)
            (folder / "texts" / name / f"{number}.txt").write_text(text * 8 + f"({number})", encoding="utf-8")
    small = TUNING["small"]
    text = {"name": "language_model", "length": 16, "path": str(folder / "texts/*/*.txt")}
    task = {"name": "prompt_classification", "length": 16, "path": str(folder / "texts/*/*.txt"), "shots": 4}
    scale = replace(
        small,
        model=MODEL,
        pretraining=small.pretraining | {"task": text, "batch_size": 2, "steps": 2, "evaluate_every": 2},
        task=task | {"test_shots": 4},
        methods={name: replace(method, rates=method.rates[:1]) for name, method in small.methods.items()},
        agents=2,
        batch=4,
        steps=4,
        replicas=2,
        experiment=RUNTIME,
    )
    told = []
    return tune(lambda done, what: told.append(done), folder / "out", scale), told


@pytest.mark.parametrize("name", ["pretrained", "tuned"])
def test_a_study_tells_how_far_it_is_and_draws_what_it_found(name, request):
    findings, told = request.getfixturevalue(name)
    assert min(np.diff([0.0, *told])) > -1e-12 and told[-1] == pytest.approx(1)
    assert len(findings.drawings) == 3 and all(drawing.rows for drawing in findings.drawings)
    assert any("What the paper" in paragraph for paragraph in findings.about)


def test_memory_and_bytes_of_subspaces_are_those_of_their_shapes(pretrained):
    findings, _ = pretrained
    exact = [check for check in findings.checks if "bytes" in check.claim or "coordinates" in check.claim]
    assert len(exact) == 4 + 2 + 1
    assert all(check.agrees for check in exact), exact
    kept = {row["training"]: row["kept"] for row in findings.drawings[1].rows}
    assert kept["GaLore"] < kept["AdamW"] and kept["GaLore"] == kept["GoLore"] == kept["GoLore@20%"]
    sent = {row["training"]: row["bytes"] for row in findings.drawings[2].rows}
    assert sent["GoLore's subspaces by diffusion"] < sent["GaLore by diffusion"] == sent["AdamW centralised"]


def test_steps_without_gradients_hold_less_and_exchange_two_numbers(tuned):
    findings, _ = tuned
    exact = [check for check in findings.checks if "(difference)" not in check.claim]
    assert len(exact) == 4 + 2 + 3
    assert all(check.agrees for check in exact), exact
    rows = {row["method"]: row for row in findings.drawings[1].rows}
    assert rows["Adam (last layer)"]["parameters"] == 4 * 16 * 257
    assert rows["Adam (LoRA)"]["kept"] < rows["Adam"]["kept"]
    curve = [row for row in findings.drawings[0].rows if row["replica"] == 0]
    assert {(row["method"], row["evaluations"]) for row in curve} >= {("LOZO", 8), ("Adam", 3), ("MeZO", 0)}


def test_the_published_scale_is_that_of_the_papers():
    """Its text is not here; all other keys are checked, with a small one."""
    large = PRETRAINING["60m"]
    assert large.batch * large.agents * large.task["length"] * large.steps == pytest.approx(1.3e9, rel=0.01)
    described = [large.describe(1, {}) | {"optimizer": o} for o in large.methods(0.01).values()]
    described += [TUNING["20m"].case(method, method.rates[0]) for method in TUNING["20m"].methods.values()]
    for description in described:
        description.pop("cases", None)
        assert (
            Config.parse({"topology": "ring", "strategy": "isolated", **description, "task": "digits"}).optimizer.name
            == description["optimizer"]["name"]
        )
