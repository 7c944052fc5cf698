"""Losses of whole batches are measured on fixed batches, by evaluation and curvature alike."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian, jacobian
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from basinet.analysis.curvature.hessian import FisherOperator, GaussNewtonOperator, HessianOperator
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.curvature.plain import hessian_operator
from basinet.analysis.curvature.samples import Share
from basinet.analysis.measures import MEASURES
from basinet.analysis.measures.measured import Effort
from basinet.analysis.runs.check_analysis import check_analysis
from basinet.analysis.runs.measure_replica import measure_point, measure_replica
from basinet.sim.data.rows import take
from basinet.sim.evaluation.measuring import evaluate_with_gradient, fixed_batches
from basinet.sim.evaluation.metric import Metric
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.run.analyzed import analysis_settings
from basinet.sim.setup.build import build_setup
from basinet.sim.tasks import Task

N, SIZE = 11, 4

OF_SAMPLES = {"fisher_trace", "fisher_top_eigenvalue", "m_sharpness", "tail_index"}
OF_SAMPLES |= {"gradient_noise_trace", "noise_curvature", "noise_alignment"}


def contrast(left: Tensor, right: Tensor) -> Tensor:
    return cross_entropy(left @ right.T, torch.arange(len(left)))


class Contrastive(Task):
    """InfoNCE: the other samples of a batch are what each sample is told from."""

    def outputs(self, model: Callable[..., Tensor], batch: Any) -> tuple[Tensor, Tensor]:
        return model(batch["left"]), model(batch["right"])

    def loss(self, outputs: tuple[Tensor, Tensor], batch: Any) -> Tensor:
        return contrast(*outputs)


def make(**settings: Any) -> tuple[nn.Module, Contrastive]:
    g = torch.Generator().manual_seed(1)
    data = {side: torch.randn(N, 3, generator=g, dtype=torch.float64) for side in ("left", "right")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2)).double().eval()
    return model, Contrastive(
        train=data, test=data, num_outputs=2, classification=False, mean_over="batch", measured_batch=SIZE, **settings
    )


class Pair(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return self.model(left), self.model(right)


def call(model: nn.Module, flat: Tensor, x: Tensor) -> Tensor:
    parts = flat.split([p.numel() for p in model.parameters()])
    named = zip(model.named_parameters(), parts, strict=True)
    return functional_call(model, {name: part.view_as(p) for (name, p), part in named}, (x,))


def flat(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def dense(operator: Any) -> np.ndarray:
    return operator @ np.eye(operator.shape[0])


def test_the_batches_are_of_one_size_and_the_same_everywhere() -> None:
    _, task = make()
    rows = fixed_batches(task, N)
    assert rows.shape == (N // SIZE, SIZE) and len(set(rows.flatten().tolist())) == rows.numel()
    assert torch.equal(rows, fixed_batches(make()[1], N))
    assert fixed_batches(task, 3).shape == (1, 3)  # fewer samples than a batch has


def test_curvature_is_that_of_the_mean_over_the_fixed_batches() -> None:
    model, task = make()
    batches = [take(task.train, rows) for rows in fixed_batches(task, N)]

    def mean(point: Tensor) -> Tensor:
        losses = [contrast(call(model, point, b["left"]), call(model, point, b["right"])) for b in batches]
        return sum(losses) / len(losses)

    operator = HessianOperator(model, task.objective, task.train, chunk=SIZE)
    expected = hessian(mean, flat(model)).numpy()
    np.testing.assert_allclose(dense(operator), expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(operator.gradient(), jacobian(mean, flat(model)).numpy(), rtol=0, atol=1e-13)
    assert operator.loss() == pytest.approx(float(mean(flat(model))), rel=1e-14)
    by_loader = hessian_operator(Pair(model), lambda z, _: contrast(*z), batches, mean_over="batch")
    np.testing.assert_allclose(dense(by_loader), expected, rtol=0, atol=1e-13)
    evaluated = evaluate_with_gradient(task, model, chunk=2)
    assert evaluated["train_loss"] == pytest.approx(operator.loss(), rel=1e-14)
    assert task.evaluate(model) == {key: evaluated[key] for key in ("train_loss", "test_loss", "generalization_gap")}
    assert evaluated["gradient_norm"] == pytest.approx(float(np.linalg.norm(operator.gradient())), rel=1e-13)


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_share_the_batches(workers: int) -> None:
    model, task = make()
    parts = []
    for rank in range(workers):  # of three, one has no batch
        objective = Objective(model, task.objective, task.train, share=Share(rank, workers))
        parts += [
            objective.losses(objective.point, {}, chunk).detach() for chunk in objective.samples.chunks(slice(0, 1))
        ]
    assert float(sum(parts)) == pytest.approx(HessianOperator(model, task.objective, task.train).loss(), rel=1e-14)


def test_gauss_newton_is_of_the_outputs_of_each_batch() -> None:
    model, task = make()
    expected, rows = np.zeros((len(flat(model)),) * 2), fixed_batches(task, N)
    for batch in (take(task.train, places) for places in rows):
        first, z = (f(batch, flat(model)) for f in (partial(pulled, model), partial(outputs, model)))
        inner = hessian(lambda z: contrast(*z.view(2, SIZE, 2)), z)
        expected += (first.T @ inner @ first).numpy() / len(rows)
    operator = GaussNewtonOperator(model, task.objective, task.train)
    np.testing.assert_allclose(dense(operator), expected, rtol=0, atol=1e-13)


def outputs(model: nn.Module, batch: Any, point: Tensor) -> Tensor:
    return torch.stack([call(model, point, batch["left"]), call(model, point, batch["right"])]).flatten()


def pulled(model: nn.Module, batch: Any, point: Tensor) -> Tensor:
    return jacobian(partial(outputs, model, batch), point)


def test_single_samples_have_no_losses() -> None:
    model, task = make()
    settings = (model, task.objective, task.train)
    with pytest.raises(ValueError, match="no Fisher matrix of its samples"):
        FisherOperator(*settings) @ np.ones(len(flat(model)))
    for wrong in ({"chunk": SIZE - 1}, {"holdings": [[0, 1], [2, 3]]}):
        with pytest.raises(ValueError, match="leave out holdings, and a chunk smaller than a batch"):
            Objective(*settings, **wrong)
    objective = Objective(*settings)
    (chunk, *_) = objective.samples.chunks(slice(0, 1))
    with pytest.raises(ValueError, match="single samples have no gradient"):
        objective.sample_gradients(objective.point[0], {}, chunk)


def make_config(**keys: Any) -> Config:
    model, task = make()
    return Config.parse(
        {
            "task": replace(task, measured_batch=None),
            "model": model,
            "topology": {"name": "ring", "agents": 3},
            "strategy": "diffusion",
            "steps": 2,
            "batch_size": SIZE,
            "replicas": 1,
            "runtime": {"dtype": "float64", "device": "cpu"},
        }
        | keys
    )


def test_a_run_measures_batches_of_its_own_size() -> None:
    measures = [name for name in MEASURES if name not in OF_SAMPLES]
    setup = build_setup(make_config(analysis=measures, analysis_points=["centroid", "agents"]))
    check_analysis(setup)
    assert setup.task.measured_batch == SIZE == analysis_settings(setup)["measured_batch"]
    assert f"fixed batches of {SIZE} samples" in setup.task.about_loss
    assert replace(setup.task, measured_batch=1).about_loss.endswith("fixed batches of 1 sample")
    model, task = make()
    state = {"step": 2, "rows": {"parameters": flat(model).expand(3, -1).clone(), "buffers": {}}}
    rows = measure_replica(setup, state, 0, effort=Effort((10, 30), (4, 4), trial=True))
    assert [row for row in rows if "failed" in row] == []
    trace = np.trace(dense(HessianOperator(model, task.objective, task.train)))
    assert rows[0]["hessian_trace"] == pytest.approx(trace, abs=1e-10 + 4 * rows[0]["hessian_trace_error"])
    for products in ("exact", "differences"):  # the basis is complete
        alone = measure_point(model, task, ["hessian_trace"], products=products)
        assert alone["hessian_trace"] == pytest.approx(trace, rel=1e-7)


@pytest.mark.parametrize("asked", [*sorted(OF_SAMPLES), "own"])
def test_measures_of_samples_are_refused_in_one_sentence(asked: str) -> None:
    keys = {"analysis": [asked]} if asked in OF_SAMPLES else {"analysis_views": ["all", asked]}
    with pytest.raises(ExperimentError, match=f"{asked} .*(losses of|so) single samples"):
        check_analysis(build_setup(make_config(**keys)))


class Places(Metric):
    """The samples that are measured, in their order, as a number."""

    def reset(self) -> None:
        self.seen: list[Tensor] = []

    def update(self, outputs: Any, batch: Any, task: Task) -> None:
        self.seen.append(batch["left"][:, 0])

    def compute(self) -> float:
        found = torch.cat(self.seen)
        return float(found @ torch.arange(1.0, len(found) + 1, dtype=found.dtype))


def test_metrics_are_of_all_samples_in_their_order() -> None:
    model, task = make(metrics=(Places(),))
    values = task.test["left"][:, 0]
    expected = float(values @ torch.arange(1.0, N + 1, dtype=values.dtype))
    assert N % SIZE and task.evaluate(model, chunk=2)["test_places"] == pytest.approx(expected, rel=1e-12)
