"""Every measure says what it is, and has a closed form somewhere."""

import ast
import math
from pathlib import Path

import pytest
import torch

from basinet.analysis.measures import DEFAULT, MEASURES, PointMeasure
from basinet.analysis.runs.measure_replica import measure_point
from basinet.launch.listing import describe_component, list_components
from basinet.sim.models import Point
from basinet.sim.tasks import quadratic

H, X = (3.0, 1.0, 0.5), (1.0, -2.0, 0.5)
TRACE, NORM = sum(H), math.hypot(*H)
RISK = sum(h * x**2 for h, x in zip(H, X, strict=True)) / 2
SCALED = sum(h * x**2 for h, x in zip(H, X, strict=True))

ON_A_QUADRATIC = {
    "hessian_trace": {"hessian_trace": TRACE},
    "hessian_top_eigenvalue": {"hessian_top_eigenvalue": 3.0, "hessian_converged": 1},
    "hessian_bottom_eigenvalue": {"hessian_bottom_eigenvalue": 0.5, "hessian_converged": 1},
    "hessian_eigenvalues": {"hessian_top_eigenvalue_2": 1.0, "hessian_bottom_eigenvalue_3": 3.0},
    "hessian_frobenius_norm": {"hessian_frobenius_norm": NORM},
    "hessian_effective_rank": {"hessian_effective_rank": TRACE**2 / NORM**2},
    "hessian_condition_number": {"hessian_condition_number": 6.0},
    "hessian_layer_traces": {"hessian_trace/value": TRACE},
    "adaptive_trace": {"adaptive_trace": SCALED},
    "filter_normalized_trace": {"filter_normalized_trace": SCALED},
    "excess_risk": {"excess_risk": RISK},
    "newton_decrement": {"newton_decrement": RISK},
}
"""What is exact of J = ½ Σ h x²."""

WITH_SPREAD = {
    "average_sharpness": 0.01**2 * TRACE / 2,
    "adaptive_average_sharpness": 0.05**2 * SCALED / 2,
}
"""What is estimated there."""

ELSEWHERE = {
    "hessian_density": "tests/analysis/curvature/test_spectra.py",
    "gradient_noise_trace": "tests/analysis/measures/test_noise_curvature.py",
    "noise_curvature": "tests/analysis/measures/test_noise_curvature.py",
    "noise_alignment": "tests/analysis/measures/test_noise_curvature.py",
    "gauss_newton_trace": "tests/analysis/runs/test_measurable_modules.py::test_gauss_newton_and_fisher",
    "gauss_newton_top_eigenvalue": "tests/analysis/runs/test_measurable_modules.py::test_gauss_newton_and_fisher",
    "fisher_trace": "tests/analysis/runs/test_measurable_modules.py::test_gauss_newton_and_fisher",
    "fisher_top_eigenvalue": "tests/analysis/runs/test_measurable_modules.py::test_gauss_newton_and_fisher",
    "relative_flatness": "tests/analysis/runs/test_measurable_modules.py::test_the_loss_around_the_point",
    "worst_sharpness": "tests/analysis/runs/test_measure.py::test_the_quadratic_has_its_closed_forms",
    "adaptive_sharpness": "tests/analysis/measures/test_sharpness.py",
    "m_sharpness": "tests/analysis/measures/test_sharpness.py",
    "pac_bayes_sigma": "tests/analysis/measures/test_sharpness.py",
    "tail_index": "tests/analysis/measures/test_tail_index.py::test_the_noise_of_a_task_has_the_index_of_its_law",
    "stability_limit": "tests/analysis/runs/test_measure.py::test_limits_of_stability",
    "consensus_sharpness": "tests/analysis/runs/test_measurable_modules.py::test_the_network",
    "disagreement_alignment": "tests/analysis/runs/test_measurable_modules.py::test_the_network",
    "implicit_regularization": "tests/analysis/measures/test_disagreement.py"
    "::test_the_implicit_regulariser_has_its_closed_form",
    "loss_slices": "tests/analysis/runs/test_measurable_modules.py::test_slices_and_planes",
    "loss_surface": "tests/analysis/runs/test_measurable_modules.py::test_slices_and_planes",
    "random_plane": "tests/analysis/runs/test_measure.py::test_a_random_plane_has_the_norms_of_the_filters",
    "agent_barriers": "tests/analysis/runs/test_measurable_modules.py::test_the_network",
}
"""Where the closed forms of all others are."""

ROOT = Path(__file__).parents[3]


def point():
    task = quadratic(curvature=H, minimum=0.0).to("cpu", torch.float64)
    model = Point(3, start=0.0).double()
    torch.nn.utils.vector_to_parameters(torch.tensor(X, dtype=torch.float64), model.parameters())
    return model, task


@pytest.mark.parametrize("name", ON_A_QUADRATIC)
def test_what_is_exact_on_a_quadratic(name):
    found = measure_point(*point(), [name])
    for key, value in ON_A_QUADRATIC[name].items():
        assert found[key] == pytest.approx(value, rel=1e-6), key


@pytest.mark.parametrize("name", WITH_SPREAD)
def test_what_is_estimated_on_a_quadratic(name):
    found = measure_point(*point(), [{"name": name, "pairs": 60}])
    assert abs(found[name] - WITH_SPREAD[name]) < 4 * found[f"{name}_error"]
    twice = measure_point(*point(), [{"name": name, "pairs": 60, "deviation": 2 * MEASURES[name]().deviation}])
    assert twice[name] == pytest.approx(4 * found[name], rel=1e-9)  # the same directions


def test_settings_are_those_of_the_definition():
    found = measure_point(*point(), [{"name": "worst_sharpness", "radius": 1e-3}, "adaptive_sharpness"])
    slope = math.hypot(*(h * x for h, x in zip(H, X, strict=True)))
    assert found["worst_sharpness"] == pytest.approx(1e-3 * slope, rel=1e-3)  # the linear part, and 3 ρ² / 2 at most
    model, task = point()
    torch.nn.init.zeros_(next(model.parameters()))
    at_rest = measure_point(model, task, [{"name": "worst_sharpness", "radius": 0.1}])
    assert at_rest["worst_sharpness"] == pytest.approx(0.1**2 * 3 / 2, rel=1e-6)


def test_every_name_has_a_closed_form():
    assert {*ON_A_QUADRATIC, *WITH_SPREAD, *ELSEWHERE} == set(MEASURES)
    for name, place in ELSEWHERE.items():
        file, _, test = place.partition("::")
        tree = ast.parse((ROOT / file).read_text())
        tests = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        assert not test or test in tests, name


@pytest.mark.parametrize("name", MEASURES)
def test_every_name_says_what_it_is(name):
    described, quantity = describe_component("measures", name), MEASURES[name].quantities[name]
    assert described["about"] and quantity.label and name not in quantity.label
    assert described["direction"] in ("smaller", "larger", None)
    assert described["source"] or described["formula"]
    listed = list_components(["measures"])["measures"][name]
    assert listed == {"about": described["about"], "source": described["source"]}
    assert all(setting["about"] and setting["type"] for setting in described["settings"].values())


def test_the_default_is_of_single_points():
    assert all(issubclass(MEASURES[name], PointMeasure) for name in DEFAULT)
