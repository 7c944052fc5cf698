"""Predictions for finished runs: Hessian, noise and heterogeneity as measured there, and what theory makes of them."""

import dataclasses
import json
from functools import partial

import numpy as np
import pytest
import torch

from basinet.analysis.curvature.hessian import hessian_matrix
from basinet.analysis.theory import excess_risk_after, prediction
from basinet.analysis.theory import local_quadratic as basins
from basinet.analysis.theory.local_quadratic import local_quadratic
from basinet.analysis.theory.prediction import predict_run
from basinet.launch.api import run
from basinet.launch.cli import main
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.run.folder import load_run
from basinet.sim.setup.build import build_setup

pytestmark = pytest.mark.usefixtures("no_reports")

RUNTIME = {"dtype": "float64", "device": "cpu"}
QUADRATIC = {
    "task": {"name": "quadratic", "heterogeneity": 1.0, "minimum": 0.0},
    "topology": {"name": "ring", "agents": 6},
    "batch_size": 2,
    "replicas": 10,
    "analysis": [],
    "runtime": RUNTIME,
    "quiet": True,
}


@pytest.fixture
def digits(make_setup):
    """A small network on digits, its task, and who holds what."""
    setup = make_setup(task={"name": "digits", "train_size": 120}, model={"name": "mlp", "hidden": [3]})
    return setup.template().double().eval(), setup.task, setup.holdings[0], setup.weights.toarray()


def test_noise_and_heterogeneity_are_those_of_the_samples(digits):
    model, task, holdings, W = digits
    found = local_quadratic(model, task, holdings, W, agents=4)
    values, vectors = np.linalg.eigh(hessian_matrix(model, task.objective, task.train))
    assert found.curvature == pytest.approx(values)
    for agent, held in enumerate(holdings):
        rows = []
        for i in held:
            model.zero_grad()
            task.objective(model, tuple(t[i : i + 1] for t in task.train)).backward()
            rows.append(torch.cat([p.grad.flatten() for p in model.parameters()]).numpy())
        along = np.array(rows) @ vectors
        assert found.shifts[agent] == pytest.approx(along.mean(0), abs=1e-12)
        assert found.noise[agent] == pytest.approx(along.var(0), abs=1e-12)


def test_quadrature_agrees_with_all_eigenvectors(digits, monkeypatch):
    model, task, holdings, W = digits
    dense = local_quadratic(model, task, holdings, W, agents=4)
    monkeypatch.setattr(basins, "DENSE_PARAMETERS", 10)
    nodes = local_quadratic(model, task, holdings, W, agents=4, probes=100)
    assert "quadrature" in nodes.method and "eigenvectors" in dense.method
    mean = dense.shifts.mean(0)
    parts = [
        excess_risk_after("consensus", W, rates=[0.3] * 40, curvature=q.curvature, noise=q.noise, shifts=b)
        for q, b in ((dense, dense.shifts - mean), (nodes, nodes.shifts))
    ]
    assert parts[1].disagreement_bias == pytest.approx(parts[0].disagreement_bias, rel=1e-6)
    # Random signs: a relative variance of at most 2 / 100.
    assert parts[1].disagreement_noise == pytest.approx(parts[0].disagreement_noise, rel=4 * np.sqrt(2 / 100))
    assert parts[1].centroid_noise == pytest.approx(parts[0].centroid_noise, rel=4 * np.sqrt(2 / 100))


@pytest.mark.parametrize(
    ("strategy", "more"),
    [
        ("centralized", {}),
        ("consensus", {"schedule": "cosine"}),
        ({"name": "diffusion", "rounds": 2}, {}),
        ("exact_diffusion", {}),
        ("diffusion", {"optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.4}}),
        ("diffusion", {"topology": {"name": "star", "agents": 6, "policy": "uniform"}}),
        ({"name": "local_sgd", "period": 4}, {"steps": 7}),
        ("diffusion", {"topology": {"name": "one_peer_exponential", "agents": 6}, "steps": 2}),
        ("exact_diffusion", {"schedule": "cosine", "steps": 20}),
    ],
)
def test_a_quadratic_run_does_what_is_predicted(tmp_path, strategy, more):
    keys = QUADRATIC | {"strategy": strategy, "optimizer": {"name": "sgd", "lr": 0.1}, "steps": 60} | more
    results = run(**keys, out=tmp_path / "out")
    found = predict_run(results.runs[0].path)
    for row in found.rows()[:3]:
        if row["error"] > 1e-15:
            assert abs(row["measured"] - row["predicted"]) < 4 * row["error"], row
    assert found.newton == pytest.approx(found.centroid, rel=1e-6, abs=1e-12)
    assert found.top_eigenvalue == pytest.approx([2.0] * 10)


UNLIKE = {
    "model": {"name": "linear"},
    "batch_size": 2,
    "replicas": 1,
    "steps": 7,
    "optimizer": {"name": "sgd", "lr": 0.1},
    "analysis": [],
    "runtime": RUNTIME,
    "quiet": True,
}


def regression(samples: int = 5):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, 3)) * [1.5, 0.6, 1.0]
    y = x @ [1.0, -2.0, 0.5] + rng.standard_normal(samples)
    return torch.tensor(x), torch.tensor(y)[:, None]


def unlike(agents, per_agent):
    """A linear regression whose agents hold samples of their own, begun where its mean loss has its minimum."""
    x, y = regression(agents * per_agent)
    best = torch.linalg.lstsq(x, y).solution[:, 0]
    task = {"name": regression, "samples": agents * per_agent}
    return {"task": task, "topology": {"name": "ring", "agents": agents}, "start": best}


@pytest.mark.parametrize(
    ("strategy", "schedule"),
    [("centralized", "constant"), ("diffusion", "constant"), ("local_sgd", "constant"), ("slowmo", "cosine")],
)
def test_agents_with_hessians_of_their_own_do_what_is_predicted(tmp_path, strategy, schedule):
    """One sample an agent, so that there is no noise: on a quadratic loss theory is then exact."""
    keys = UNLIKE | unlike(5, 1) | {"strategy": strategy, "schedule": schedule}
    path = run(**keys, out=tmp_path / "out").runs[0].path
    found = predict_run(path)
    assert "each agent's own Hessian" in found.method
    (parts,) = found.predicted
    # The descent knows the minimum to a gradient of 1e-5.
    assert parts.centroid == pytest.approx(found.centroid[0], rel=1e-4, abs=1e-9)
    assert parts.disagreement == pytest.approx(found.disagreement[0], rel=1e-4, abs=1e-9)


def test_how_far_the_agents_hessians_are_apart_is_said(tmp_path, monkeypatch):
    keys = UNLIKE | unlike(5, 4) | {"strategy": "diffusion"}
    path = run(**keys, out=tmp_path / "out").runs[0].path
    x = regression(20)[0].numpy()
    (held,) = build_setup(Config.parse(load_run(path).config)).holdings
    own = np.array([2 * x[places].T @ x[places] / len(places) for places in held])
    spread = np.sqrt(((own - own.mean(0)) ** 2).sum((1, 2)).mean()) / np.linalg.norm(own.mean(0))
    for numbers, what in ((800, "the largest stable learning rate assumes"), (0, "all agents are assumed to have")):
        monkeypatch.setattr(basins, "OWN_NUMBERS", numbers)
        (sentence,) = (text for text in predict_run(path).assumptions if "their own differ by" in text)
        assert sentence.startswith(what)
        # Eight vectors of signs: ‖A g‖² has a relative variance of at most 2 / 8.
        assert float(sentence.split("differ by ")[1].split()[0]) == pytest.approx(spread, rel=0.5)
    keys["task"]["partition"] = "shared"
    same = run(**keys, out=tmp_path / "same").runs[0].path
    assert not any("their own differ" in text for text in predict_run(same).assumptions)


@pytest.mark.parametrize("products", ["exact", "differences"])
def test_batches_of_all_samples_have_no_noise(tmp_path, products):
    keys = UNLIKE | unlike(4, 3) | {"strategy": "local_sgd", "sampling": "epochs", "batch_size": 3}
    keys |= {"analysis_products": products}
    found = predict_run(run(**keys, out=tmp_path / "out").runs[0].path)
    assert found.predicted[0].centroid_noise == found.predicted[0].disagreement_noise == 0
    assert found.predicted[0].total == pytest.approx(found.centroid[0] + found.disagreement[0], rel=1e-4, abs=1e-9)


def test_the_command_prints_it(tmp_path, capsys):
    keys = QUADRATIC | {"strategy": "consensus", "steps": 20, "replicas": 3}
    path = run(**keys, out=tmp_path / "out").runs[0].path
    assert main(["predict", str(path), "--json", "--replicas", "2"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["part"] for row in rows][:3] == [
        "excess risk of the agents", "excess risk of the centroid", "cost of disagreement",
    ]  # fmt: skip
    assert rows[-1]["predicted"] == pytest.approx((1 + 1 - 4 / 3) / 2)  # λ_min of a ring of six is −1/3
    assert main(["predict", str(path), "--at", "centroid"]) == 0
    printed = capsys.readouterr()
    assert "cost of disagreement" in printed.out and "3 replicas" in printed.err


def test_a_descent_that_reached_no_minimum_is_named(tmp_path, monkeypatch):
    keys = QUADRATIC | {"task": {"name": "digits", "train_size": 40}, "model": {"name": "mlp", "hidden": [2]}}
    keys |= {"strategy": "consensus", "optimizer": {"name": "sgd", "lr": 0.1}, "steps": 5, "replicas": 2}
    path = run(**keys, out=tmp_path / "out").runs[0].path
    monkeypatch.setattr(prediction, "descend", partial(prediction.descend, max_products=3))
    for at, said in (("minimum", "use --at centroid"), ("centroid", "excess risk is a lower bound")):
        found = predict_run(path, at=at)
        (sentence,) = (text for text in found.assumptions if "gradient norm" in text)
        assert sentence.startswith("in 2 of 2 replicas the descent reached no minimum") and sentence.endswith(said)


def test_the_smallest_limit_counts_and_what_is_unstable_is_named(tmp_path):
    keys = QUADRATIC | {"strategy": "consensus", "steps": 4, "replicas": 2}
    limit = (1 + 1 - 4 / 3) / 2
    for lr, unstable in ((0.99 * limit, 0), (1.01 * limit, 1)):
        path = run(**keys | {"optimizer": {"name": "sgd", "lr": lr}}, out=tmp_path / str(lr)).runs[0].path
        found = predict_run(path)
        named = [text for text in found.assumptions if "not below the largest stable one" in text]
        assert len(named) == unstable and all(text.startswith("in 2 of 2 replicas") for text in named)
        assert not any("gradient norm" in text for text in found.assumptions)
    uneven = dataclasses.replace(found, stability_limit=[300.0, limit])
    assert uneven.rows()[-1]["predicted"] == limit


def test_what_theory_cannot_follow_is_refused(tmp_path):
    keys = QUADRATIC | {"steps": 10, "replicas": 2}
    for index, (change, message) in enumerate([
        ({"strategy": "diffusion", "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 0.1}}, "weight_decay"),
        ({"strategy": "diffusion", "gradient_noise": {"size": 0.1}}, "gradient_noise: theory covers"),
        ({"strategy": "diffusion", "optimizer": {"name": "adam", "lr": 0.1}}, "not affine"),
        ({"strategy": "diffusion", "clipping": {"norm": 1}}, "^clipping: theory covers only plain steps"),
        ({"strategy": "diffusion", "averaging": "ema"}, "^averaging: theory covers only plain steps"),
        ({"strategy": "diffusion", "schedule": "plateau"}, "^schedule: plateau sets rates that are not known"),
        (
            {"strategy": "diffusion", "optimizer": {"name": "sgd", "lr": 0.1, "groups": [{"match": "*", "lr": 0.2}]}},
            "^optimizer.groups: theory covers only one learning rate",
        ),
        (
            {"strategy": "diffusion", "optimizer": {"name": "sgd", "lr": 0.1, "layer_decay": 0.5}},
            "^optimizer.layer_decay: theory covers only one learning rate",
        ),
    ]):  # fmt: skip
        path = run(**(keys | change), out=tmp_path / str(index)).runs[0].path
        with pytest.raises(ExperimentError, match=message):
            predict_run(path)
