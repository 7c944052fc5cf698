"""Every measure of models of every type, against matrices from differences of plain gradients; or a refusal."""

from collections import defaultdict
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.measures import MEASURES
from basinet.analysis.measures.measured import Effort
from basinet.analysis.runs.check_analysis import check_analysis
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks.model_outputs import output_of
from tests.module_types import CLASSES, LENGTH, MODULE_TYPES, WORDS, Bag, words
from tests.sim.setup.test_trainable_modules import REFUSED as UNTRAINABLE

EFFORT = Effort(lanczos_steps=(30, 200), probes=(10, 10))

SETTINGS: dict[str, dict[str, int]] = {
    "excess_risk": {"products": 100},
    "newton_decrement": {"steps": 200},
    "pac_bayes_sigma": {"bisections": 10},
    "loss_slices": {"positions": 5},
    "loss_surface": {"positions": 3},
    "random_plane": {"positions": 3},
    "agent_barriers": {"positions": 3},
}

HESSIAN = {name for name in MEASURES if name.startswith(("hessian", "adaptive_trace", "filter_normalized"))}
HESSIAN |= {"noise_alignment", "noise_curvature", "gradient_noise_trace", "excess_risk", "newton_decrement"}
HESSIAN |= {"relative_flatness", "loss_slices", "consensus_sharpness", "disagreement_alignment"}
HESSIAN |= {"implicit_regularization"}
REFUSED = {"opaque": HESSIAN, "branching": {"fisher_trace", "fisher_top_eigenvalue", "gradient_noise_trace"}}
REFUSED["branching"] |= {"noise_curvature", "noise_alignment", "m_sharpness"}
REFUSED |= {"backward_hook": HESSIAN, "written_in_place": HESSIAN}

ODD = {"backward_hook", "written_in_place"}
"""Types whose gradient is on purpose none of the loss, so that there is nothing to compare other measures with."""

TRIED = {"hessian_trace", "noise_curvature", "excess_risk", "relative_flatness", "implicit_regularization"}
TRIED |= {"fisher_trace", "gauss_newton_trace", "m_sharpness"}
"""Measures of all kinds that may be refused; what all of them find is measured anyway."""

CONVEX = {"linear", "frozen", "unused", "buffers", "writes_input"}

WHOLE = CONVEX | {"convolution", "gru", "attention", "tied", "batch_norm", "sparse_embedding_bag"}
WHOLE |= {"branching", "opaque", "zero_norm", "mixed"}
"""Types that everything is measured of: one for each way to call, to map and to differentiate a layer."""

OF_MATRICES = {name for name in MEASURES if name.startswith(("hessian", "gauss_newton", "fisher"))}
OF_MATRICES |= {"adaptive_trace", "filter_normalized_trace", "noise_alignment", "noise_curvature"}
OF_MATRICES |= {"gradient_noise_trace"}
"""What is measured of the other types."""


class Cut(nn.Module):
    """What an embedding with max_norm computes, in words."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(WORDS, 2))
        self.head = nn.Linear(2 * LENGTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        rows = [row * (0.5 / (row.norm() + 1e-7)) if row.norm() > 0.5 else row for row in self.weight]
        return self.head(torch.stack(rows)[x].flatten(1))


PLAIN = {
    "max_norm_embedding": Cut,
    "sparse_embedding": words,
    "scaled_embedding": words,
    "sparse_embedding_bag": lambda: Bag(mode="sum"),
}
"""Models that compute the same, with gradients that are those of the loss and dense."""


def make_setup(name: str, measures: tuple[str, ...], **keys: Any) -> Setup:
    kind = MODULE_TYPES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind.make()
    description = {
        "task": tuple(kind.data()),
        "model": model,
        "topology": {"name": "ring", "agents": 2},
        "strategy": "diffusion",
        "steps": 3,
        "batch_size": 4,
        "replicas": 1,
        "runtime": {"dtype": "float64", "device": "cpu"},
        "analysis": [{"name": measure, **SETTINGS.get(measure, {})} for measure in measures],
    }
    return build_setup(Config.parse(description | keys), trial=False)  # which tests of trainable modules try out


class Exact:
    """A model at two agents and their centroid, without anything of the analysis."""

    def __init__(self, name: str) -> None:
        wanted = MEASURES if name in WHOLE else sorted(OF_MATRICES)
        products = "differences" if name == "opaque" else "exact"
        refused = {"implicit_regularization"} if name == "opaque" else REFUSED.get(name, ())
        self.setup = make_setup(name, tuple(n for n in wanted if n not in refused), analysis_products=products)
        self.x, self.y = (t.clone() for t in self.setup.task.train)
        template = self.setup.template().double()
        parameters = [p for p in template.parameters() if p.requires_grad]
        self.shapes = {n: p.shape for n, p in template.named_parameters() if p.requires_grad}
        start = torch.cat([p.detach().flatten() for p in parameters])
        generator = torch.Generator().manual_seed(5)
        self.agents = start + 0.2 * torch.randn(2, len(start), generator=generator, dtype=torch.float64)
        self.model = (PLAIN[name]() if name in PLAIN else template).double().eval()
        buffers = {n: b.expand(2, *b.shape).clone() for n, b in template.named_buffers()}
        self.state = {"step": 3, "rows": {"parameters": self.agents, "buffers": buffers}}
        self.point = self.agents.mean(0)
        self.size = len(start)

    @cache  # noqa: B019
    def rows(self) -> list[dict[str, Any]]:
        return measure_replica(self.setup, self.state, 0, effort=EFFORT)

    def outputs(self, theta: Tensor, rows: slice = slice(None)) -> Tensor:
        nn.utils.vector_to_parameters(theta.clone(), [p for p in self.model.parameters() if p.requires_grad])
        return output_of(self.model(self.x[rows].clone()))

    def loss(self, theta: Tensor) -> float:
        with torch.no_grad():
            return float(cross_entropy(self.outputs(theta), self.y))

    def gradient(self, theta: Tensor, rows: slice = slice(None)) -> Tensor:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        value = cross_entropy(self.outputs(theta, rows), self.y[rows])
        found = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
        return torch.cat([g.flatten() for g in found])

    def differences(self, function: Any) -> Tensor:
        """Differentiate a vector by central differences, whose error is of the second order: [size, …]."""
        h = 1e-5
        steps = h * torch.eye(self.size, dtype=torch.float64)
        both = [(function(self.point + step).detach(), function(self.point - step).detach()) for step in steps]
        return torch.stack([(after - before) / (2 * h) for after, before in both])

    @cache  # noqa: B019
    def hessian(self) -> Tensor:
        live = self.gradient(self.point) != 0  # the row of a padding index is constant
        found = self.differences(self.gradient) * live * live[:, None]
        return (found + found.T) / 2

    @cache  # noqa: B019
    def sample_gradients(self) -> Tensor:
        return torch.stack([self.gradient(self.point, slice(i, i + 1)) for i in range(len(self.y))])

    @cache  # noqa: B019
    def gauss_newton(self) -> Tensor:
        live = self.gradient(self.point) != 0
        jacobian = (self.differences(self.outputs) * live[:, None, None]).permute(1, 2, 0)
        p = self.outputs(self.point).detach().softmax(1)
        inner = torch.diag_embed(p) - p[:, :, None] * p[:, None]
        return torch.einsum("ncp,ncd,ndq->pq", jacobian, inner, jacobian) / len(p)


exact_of = cache(Exact)

WORKING = [name for name in MODULE_TYPES if name not in UNTRAINABLE and name not in ODD]


@pytest.fixture(params=WORKING)
def exact(request: pytest.FixtureRequest) -> Exact:
    return exact_of(request.param)


@pytest.fixture(params=[name for name in WORKING if name in WHOLE])
def whole(request: pytest.FixtureRequest) -> Exact:
    return exact_of(request.param)


def center(exact: Exact) -> dict[str, Any]:
    (row,) = (row for row in exact.rows() if "table" not in row and "agent" not in row and "failed" not in row)
    return row


def close(found: float, expected: float, scale: float, error: float = 0.0, rtol: float = 1e-5) -> None:
    """Central differences of gradients have a rounding error near 1e-11 and one of the second order near 1e-10."""
    assert abs(found - expected) <= rtol * (abs(expected) + scale) + 6 * error, (found, expected)


def test_nothing_fails_and_everything_allowed_is_there(exact: Exact) -> None:
    config = exact.setup.config
    tried = tuple(measure for measure in config.analysis if measure.name in TRIED)
    check_analysis(replace(exact.setup, config=config.model_copy(update={"analysis": tried})))
    assert [row for row in exact.rows() if "failed" in row] == []
    assert torch.equal(exact.setup.task.train[0], exact.x)  # nothing has been written into it


def test_the_hessian(exact: Exact) -> None:
    wanted, row = exact.setup.config.measures, center(exact)
    if "hessian_trace" not in wanted:
        return
    h = exact.hessian()
    values = torch.linalg.eigvalsh(h)
    norm = float(h.norm())
    diagonal = h.diagonal()
    for name, value in (("hessian_trace", h.trace()), ("hessian_frobenius_norm", norm)):
        close(row[name], float(value), norm, row[f"{name}_error"])
    close(row["hessian_effective_rank"], float(h.trace() ** 2 / norm**2), 1, row["hessian_effective_rank_error"], 1e-4)
    for number in range(1, 6):
        last = "" if number == 1 else f"_{number}"
        close(row[f"hessian_top_eigenvalue{last}"], float(values[-number]), norm, rtol=1e-4)
        close(row[f"hessian_bottom_eigenvalue{last}"], float(values[number - 1]), norm, rtol=1e-4)
    layers = torch.split(diagonal, [shape.numel() for shape in exact.shapes.values()])
    for name, layer in zip(exact.shapes, layers, strict=True):
        close(row[f"hessian_trace/{name}"], float(layer.sum()), norm, row[f"hessian_trace/{name}_error"])
    close(row["adaptive_trace"], float(diagonal @ exact.point**2), norm, row["adaptive_trace_error"])
    scaled = 0.0
    places = torch.split(exact.point, [shape.numel() for shape in exact.shapes.values()])
    for shape, part, layer in zip(exact.shapes.values(), places, layers, strict=True):
        if len(shape) > 1:  # filters are rows
            rows, sums = part.view(shape[0], -1), layer.view(shape[0], -1).sum(1)
            scaled += float((rows.square().mean(1) * sums).sum())
        else:
            scaled += float(part.square() @ layer)
    close(row["filter_normalized_trace"], scaled, norm, row["filter_normalized_trace_error"])
    atoms = [r for r in exact.rows() if r.get("table") == "density"]
    mean = sum(r["eigenvalue"] * r["weight"] for r in atoms)
    assert sum(r["weight"] for r in atoms) == pytest.approx(1)
    if len(atoms) == exact.size:
        close(mean, float(values.mean()), norm)


def test_gauss_newton_and_fisher(exact: Exact) -> None:
    row = center(exact)
    g = exact.sample_gradients()
    matrices = {"gauss_newton": exact.gauss_newton(), "fisher": g.T @ g / len(g)}
    for name, matrix in matrices.items():
        if f"{name}_trace" in exact.setup.config.measures:
            norm = float(matrix.norm())
            close(row[f"{name}_trace"], float(matrix.trace()), norm, row[f"{name}_trace_error"])
            close(row[f"{name}_top_eigenvalue"], float(torch.linalg.eigvalsh(matrix)[-1]), norm)


def test_the_noise_of_gradients(exact: Exact) -> None:
    row, wanted = center(exact), exact.setup.config.measures
    g = exact.sample_gradients()
    g = g - g.mean(0)
    if "tail_index" in wanted:
        logs = g.norm(dim=1).sort(descending=True).values.log()
        close(row["tail_index"], float(1 / (logs[:2] - logs[2]).mean()), 0)
    if "noise_curvature" not in wanted:
        return
    h, trace = exact.hessian(), float(g.square().sum() / len(g))
    along = float(torch.einsum("np,pq,nq->", g, h, g)) / len(g)
    close(row["gradient_noise_trace"], trace, 0)
    close(row["noise_curvature"], along, trace * float(h.norm()), row["noise_curvature_error"])
    aligned = exact.size * along / (float(h.trace()) * trace)
    close(row["noise_alignment"], aligned, exact.size * float(h.norm() / h.trace().abs()), rtol=0.1)


def test_the_loss_around_the_point(whole: Exact) -> None:
    row, wanted = center(whole), whole.setup.config.measures
    start, slope, theta = whole.loss(whole.point), whole.gradient(whole.point), whole.point
    for name, rho, scale in (
        ("worst_sharpness", 0.05, torch.ones_like(theta)),
        ("m_sharpness", 0.05, torch.ones_like(theta)),  # of a single batch
        ("adaptive_sharpness", 0.5, theta.abs()),
    ):
        if name in wanted:
            step = rho * scale * nn.functional.normalize(scale * slope, dim=0)
            assert row[name] >= whole.loss(theta + step) - start - 1e-12
            assert row[name] <= rho * float((scale * slope).norm()) + 50 * rho**2  # far above any curvature here
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(40, whole.size, generator=generator, dtype=torch.float64)
    sigma = row["pac_bayes_sigma"]
    rises = [(whole.loss(theta + sigma * g) + whole.loss(theta - sigma * g)) / 2 - start for g in noise]
    assert sigma > 9 or 0.2 < np.mean(rises) / 0.1 < 5
    if "hessian_trace" not in wanted:
        return
    h = whole.hessian()
    for name, rho, scale in (
        ("average_sharpness", 0.01, torch.ones_like(theta)),
        ("adaptive_average_sharpness", 0.05, theta.abs()),
    ):
        # The mean over the curvature is known; what is not quadratic is estimated.
        steps = rho * scale * noise
        rests = [(whole.loss(theta + d) + whole.loss(theta - d)) / 2 - start - float(d @ h @ d) / 2 for d in steps]
        expected = rho**2 / 2 * float(h.diagonal() @ scale**2) + np.mean(rests)
        error = row[f"{name}_error"] + np.std(rests) / len(rests) ** 0.5
        close(row[name], expected, rho**2 * float(h.norm()), error, rtol=1e-3)
    values, vectors = torch.linalg.eigh(h)
    inside = values > 1e-11 * values.abs().max()
    decrement = float(((vectors.T @ slope)[inside] ** 2 / values[inside]).sum()) / 2
    close(row["newton_decrement"], decrement, 0, rtol=1e-3)
    assert -1e-12 <= row["excess_risk"] <= start
    # All products that are allowed may be spent on a way down that is steeper than where it begins.
    assert row["excess_risk_gradient_norm"] < float(slope.norm()) or row["excess_risk"] > start / 2
    matrix = h.split([shape.numel() for shape in whole.shapes.values()])
    flat, at = 0.0, 0
    for shape, part in zip(whole.shapes.values(), matrix, strict=True):
        count = shape.numel()
        if len(shape) > 1:
            block = part[:, at : at + count].view(shape[0], -1, shape[0], count // shape[0])
            w = theta[at : at + count].view(shape[0], -1)
            flat += float(torch.einsum("si,ti,sjtj->", w, w, block))
        at += count
    if "relative_flatness" in wanted:
        close(row["relative_flatness"], flat, float(h.norm()), row["relative_flatness_error"])


@pytest.mark.parametrize("name", sorted(CONVEX))
def test_the_excess_risk_of_a_convex_loss(name: str) -> None:
    exact = exact_of(name)
    theta = exact.point.clone()
    for _ in range(30):  # Newton's method, by matrices
        gradient = exact.gradient(theta)
        where, exact.point = exact.point, theta
        step = torch.linalg.lstsq(Exact.hessian.__wrapped__(exact), gradient, rcond=1e-9, driver="gelsd").solution
        exact.point = where
        theta = theta - step
        if float(gradient.norm()) < 1e-10:
            break
    assert center(exact)["excess_risk"] == pytest.approx(exact.loss(exact.point) - exact.loss(theta), rel=1e-5)


def test_slices_and_planes(whole: Exact) -> None:
    tables = defaultdict(list)
    for row in whole.rows():
        tables[row.get("table")].append(row)
    start = whole.loss(whole.point)
    for name in ("surface", "random_plane"):
        if name == "random_plane" and name not in whole.setup.config.measures:
            continue
        (middle,) = (row["loss"] for row in tables[name] if row["x"] == row["y"] == 0)
        assert middle == pytest.approx(start, rel=1e-12)
    if "loss_slices" not in whole.setup.config.measures:
        return
    values, vectors = torch.linalg.eigh(whole.hessian())
    along = [row for row in tables["slices"] if row["direction"] == "eigenvector 1"]
    if values[-1] - values[-2] > 1e-3 * values[-1]:  # else the direction is not defined
        both = sorted(whole.loss(whole.point + row["position"] * vectors[:, -1]) for row in along)
        np.testing.assert_allclose(sorted(row["loss"] for row in along), both, rtol=1e-3, atol=1e-3 * start)


def test_the_network(whole: Exact) -> None:
    row, wanted = center(whole), whole.setup.config.measures
    deltas = whole.agents - whole.point
    start, ends = whole.loss(whole.point), [whole.loss(agent) for agent in whole.agents]
    for number, found in enumerate(r for r in whole.rows() if "barrier" in r and "table" not in r):
        half = whole.loss((whole.point + whole.agents[number]) / 2)
        assert found["barrier"] == pytest.approx(max(0.0, half - (start + ends[number]) / 2), abs=1e-12)
    assert row["stability_limit"] == pytest.approx(20)
    if "consensus_sharpness" not in wanted:
        return
    h = whole.hessian()
    forms = torch.einsum("kp,pq,kq->k", deltas, h, deltas)
    distance = deltas.square().sum(1).mean()
    scale = float(distance * h.norm())
    assert row["consensus_sharpness"] == pytest.approx(np.mean(ends) - start, abs=1e-12)
    close(row["consensus_sharpness_quadratic"], float(forms.mean()) / 2, scale)
    mean = h.trace() / whole.size
    close(row["disagreement_alignment"], float(forms.mean() / distance / mean), float(h.norm() / mean.abs()), rtol=0.1)
    values, vectors = torch.linalg.eigh(h)
    if values[-5] - values[-6] > 1e-3 * values[-1]:
        captured = float((deltas @ vectors[:, -5:]).square().sum(1).mean() / distance)
        close(row["disagreement_captured"], captured, 1, rtol=1e-3)
    if "implicit_regularization" not in wanted:
        return
    close(row["implicit_regularization"], float(forms.mean()) / 2, scale)
    t = 1e-4
    third = [
        (whole.gradient(whole.point + t * d) + whole.gradient(whole.point - t * d) - 2 * whole.gradient(whole.point))
        for d in deltas
    ]
    norm = float((torch.stack(third).mean(0) / t**2 / 2).norm())
    close(row["implicit_regularization_gradient"], norm, scale, rtol=1e-3)


@pytest.mark.parametrize("name", WORKING)
@pytest.mark.parametrize("own", [False, True])
def test_mapped_and_one_by_one(name: str, own: bool) -> None:
    exact = exact_of(name)
    if own and name == "branching":
        return  # refused: its loss is not that of single samples
    holdings = [[0, 3, 5, 7, 8], list(range(9, 20)), [1, 2]] if own else None
    model = exact.setup.template().double().eval()
    objective = Objective(model, exact.setup.task.objective, (exact.x, exact.y), holdings=holdings)
    points = torch.cat([exact.agents, exact.point[None]])
    together = Curvature(objective, points)
    vectors = torch.ones_like(points)
    for k in range(3):
        alone = together.part(slice(k, k + 1))
        np.testing.assert_allclose(together.losses()[k], alone.losses()[0], rtol=1e-12)
        np.testing.assert_allclose(together.gradients()[k], alone.gradients()[0], rtol=1e-9, atol=1e-13)
        if name != "opaque":
            product = alone.products(vectors[:1])[0]
            np.testing.assert_allclose(together.products(vectors)[k], product, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_measured_is_refused_before_the_run(name: str) -> None:
    for measure in sorted(REFUSED[name] & TRIED):
        with pytest.raises(ExperimentError, match=rf"^analysis: {measure} ") as refusal:
            check_analysis(make_setup(name, (measure,)))
        assert "\n" not in str(refusal.value)
