"""Derivatives that autograd has wrong are refused, and those that it has right are not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy, l1_loss

from basinet.analysis.curvature import derivatives
from basinet.analysis.curvature.hessian import HessianOperator
from basinet.analysis.curvature.matrices import Curvature, Kind
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.curvature.top_eigenvalues import top_eigenvalues
from basinet.analysis.curvature.trace import trace
from basinet.sim.tasks import Task
from tests.directions import directions


class Detached(torch.autograd.Function):
    """x², whose backward pass hides how it depends on x: the Hessian is wrong, and may still be symmetric."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0].detach() * gradient


class Lopsided(torch.autograd.Function):
    """x², whose backward pass depends on x in another way than it says."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 2 * x * gradient + (x.roll(1, -1) - x.roll(1, -1).detach()) * gradient


class Marked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


class Cube(torch.autograd.Function):
    """x³, whose third derivative alone is wrong."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        return 3 * Detached.apply(ctx.saved_tensors[0]) * gradient


class Segmented:
    """Means over segments, whose backward pass torch cannot differentiate."""

    @staticmethod
    def apply(x: Tensor) -> Tensor:
        found = torch.segment_reduce(x.T.contiguous(), "mean", lengths=torch.tensor([2, 3]), axis=0)
        return torch.cat([found.T, x[:, :3]], 1)


class Layer(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def plain(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


def stopped(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    outputs = model(batch[0])
    return (outputs * outputs.detach().exp()).mean()


def network(*layers: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 5), *layers, nn.Linear(5, 3))


def make(model: nn.Module, loss: Any = plain, dtype: torch.dtype = torch.float64, **settings: Any) -> Curvature:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(12, 4, generator=generator), torch.randint(3, (12,), generator=generator)
    objective = Objective(model.to(dtype), loss, (x.to(dtype), y), **settings)
    return Curvature(objective, objective.point)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("function", "what"),
    [
        (Detached, "disagrees with differences of the gradient in 0.weight, 0.bias"),
        (Lopsided, "is not symmetric|disagrees"),
        (Marked, "is not symmetric"),
        (Segmented, "is not available .*_segment_reduce_backward"),
    ],
)
def test_a_wrong_second_derivative_is_refused_with_its_layer(function: Any, what: str, dtype: torch.dtype) -> None:
    curvature = make(network(Layer(function.apply), nn.Tanh()), dtype=dtype)
    ones = torch.ones_like(curvature.points)
    with pytest.raises(ValueError, match=rf"{what}.*; the cause is layer '1' \(Layer\)") as refusal:
        curvature.products(ones)
    assert function is Segmented or f"in its {function.__name__}" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert curvature.gradients().isfinite().all() and curvature.losses().isfinite().all()


class Single(nn.Module):
    """Computes in float32, whatever the type of the model."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float()


@pytest.mark.parametrize(("function", "fault"), [(torch.tanh, None), (Marked.apply, "is not symmetric")])
def test_of_a_model_of_one_type_the_symmetry_alone_is_checked(function: Any, fault: str | None) -> None:
    curvature = make(network(Layer(function), Single()), dtype=torch.float32)
    with pytest.warns(UserWarning, match="Hessian of the loss is checked for symmetry only.*in float64"):
        if fault is None:
            assert curvature.products(torch.ones_like(curvature.points)).isfinite().all()
        else:
            with pytest.raises(ValueError, match=fault):
                curvature.products(torch.ones_like(curvature.points))


def test_a_few_samples_are_looked_at_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def watched(model: nn.Module, loss: Any, data: tuple[Tensor, ...], **settings: Any) -> Objective:
        sizes.append(len(data[0]))
        return Objective(model, loss, data, **settings)

    curvature = make(network(nn.Tanh()), dtype=torch.float32)
    monkeypatch.setattr(derivatives, "Objective", watched)
    curvature.products(torch.ones_like(curvature.points))
    assert sizes == [4]  # of 12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_samples_are_looked_at_whose_labels_count(dtype: torch.dtype) -> None:
    labels = torch.full((12,), -100)
    labels[5] = 1  # not among four that are spread over all
    task = Task(train=(torch.ones(12, 4, dtype=dtype), labels), num_outputs=3)
    objective = Objective(network(nn.Tanh()).to(dtype), task.objective, task.train)
    curvature = Curvature(objective, objective.point)
    assert curvature.products(torch.ones_like(curvature.points)).isfinite().all()


class Writer(nn.Linear):
    """Doubles its inputs in place."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(2))


@pytest.mark.parametrize("first", ["losses", "sample_gradients", "output_losses"])
def test_inputs_are_cloned_for_a_model_that_writes_into_them(first: str) -> None:
    x = torch.arange(8.0, dtype=torch.float64).view(4, 2) + 1
    kept, model, given = x.clone(), Writer(2, 3).double(), []

    def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        given.append(batch[0].untyped_storage().data_ptr())
        return model(batch[0]).square().mean()

    plain_model = nn.Linear(2, 3).double()
    plain_model.load_state_dict(model.state_dict())
    writing, reading = Objective(model, loss, (x,)), Objective(plain_model, loss, (2 * x,))
    found = []
    for objective in (writing, reading):
        given.clear()
        (chunk,) = objective.samples.chunks(slice(0, 1))
        point, buffers = objective.point, objective.buffers(1)
        if first == "losses":
            found.append(objective.losses(point, buffers, chunk))
        elif first == "sample_gradients":
            found.append(objective.sample_gradients(point[0], {}, chunk))
        else:
            outputs = objective.outputs(point, buffers, chunk)
            found.append(objective.output_losses(outputs, chunk))
        assert torch.equal(x, kept)
    torch.testing.assert_close(*found, rtol=1e-14, atol=0)
    if first == "losses":
        assert given[-1] == chunk.batch[0].untyped_storage().data_ptr()  # no clone where nothing is written


def test_other_matrices_are_looked_at_by_themselves() -> None:
    curvature = make(network(Layer(Marked.apply)))
    with pytest.raises(ValueError, match="gauss_newton matrix, as autograd computes it, is not symmetric"):
        curvature.of_kind("gauss_newton").products(torch.ones_like(curvature.points))
    right = make(network(Layer(Detached.apply)))
    assert right.of_kind("gauss_newton").products(torch.ones_like(right.points)).isfinite().all()


def test_a_third_derivative_is_looked_at_by_itself() -> None:
    curvature = make(network(Layer(Cube.apply)))
    ones = torch.ones(1, *curvature.points.shape, dtype=torch.float64)
    curvature.products(ones)
    with pytest.raises(ValueError, match="third derivative of the loss, as autograd computes it, disagrees"):
        curvature.form_gradients(ones, torch.ones(1))


def test_a_loss_that_hides_a_path_is_at_fault_itself() -> None:
    curvature = make(network(nn.Tanh()), stopped)
    with pytest.raises(ValueError, match="the cause is the loss of the task"):
        curvature.products(torch.ones_like(curvature.points))


PIECEWISE = {
    "relu": lambda: network(nn.ReLU()),
    "deep": lambda: network(*(layer for _ in range(6) for layer in (nn.ReLU(), nn.Linear(5, 5)))),
    "wide": lambda: nn.Sequential(nn.Linear(4, 3000), nn.ReLU(), nn.Linear(3000, 3)),
    "pooled": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(8, 3),
    ),
    "hard": lambda: network(nn.Hardtanh(), nn.Linear(5, 5), nn.LeakyReLU()),
}  # fmt: skip


@pytest.mark.parametrize("name", PIECEWISE)
@pytest.mark.parametrize("at_kinks", [False, True])
def test_kinks_are_no_faults(name: str, at_kinks: bool) -> None:
    model = PIECEWISE[name]()
    if at_kinks:  # all units are at their kinks
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
    curvature = make(model)
    assert curvature.products(torch.ones_like(curvature.points)).isfinite().all()


def test_a_loss_without_curvature_has_a_hessian_of_zeros() -> None:
    def absolute(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return l1_loss(model(batch[0]), batch[0][:, :3])

    curvature = make(network(nn.ReLU())[:1], lambda model, batch: l1_loss(model(batch[0])[:, :4], batch[0]))
    assert not curvature.products(torch.ones_like(curvature.points)).any()
    assert (
        make(network(nn.ReLU()), absolute).products(torch.ones_like(make(network(nn.ReLU())).points)).isfinite().all()
    )


def test_a_loss_that_is_mostly_rounding_is_no_fault() -> None:
    model = network(nn.Tanh())
    with torch.no_grad():
        model[2].bias.copy_(torch.tensor([40.0, 0.0, 0.0]))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 4, generator=generator, dtype=torch.float64)
    objective = Objective(model.double(), plain, (x, torch.zeros(12, dtype=torch.int64)))
    curvature = Curvature(objective, objective.point)
    assert curvature.losses() < 1e-15
    assert curvature.products(torch.ones_like(curvature.points)).isfinite().all()


@pytest.mark.parametrize("scale", [1.0, 4.0, 8.0, 20.0, 100.0])
def test_a_classifier_may_be_sure_of_all_samples(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 4, generator=generator, dtype=torch.float64)
    x[:, 0] += x[:, 0].sign()
    for model in (nn.Linear(4, 2), nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))):
        with torch.no_grad():
            for layer in (part for part in model.modules() if isinstance(part, nn.Linear)):
                layer.weight.zero_()
                layer.bias.zero_()
                layer.weight[:, 0] = scale
            layer.weight[0] *= -1
            if layer is not model:
                layer.weight[:, 1:] = layer.weight[:, :1]
        objective = Objective(model.double(), plain, (x, (x[:, 0] > 0).long()))
        curvature = Curvature(objective, objective.point)
        assert curvature.products(torch.ones_like(curvature.points)).isfinite().all()


class Root(nn.Module):
    """Has no second derivative where its input is not above zero."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu().sqrt()


def test_a_layer_whose_second_derivative_is_not_finite_is_named() -> None:
    curvature = make(network(Root()))
    with pytest.raises(ValueError, match=r"is not finite; the cause is layer '1' \(Root\)"):
        curvature.products(torch.ones_like(curvature.points))


def segments(x: Tensor) -> Tensor:
    return torch.cat([x[:, :2].mean(1, keepdim=True), x[:, 2:].mean(1, keepdim=True), x[:, :3]], 1)


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton", "empirical_fisher"])
@pytest.mark.parametrize("function", [Detached, Lopsided, Marked, Segmented])
def test_differences_need_no_second_derivative(function: Any, kind: Kind) -> None:
    """Their error is of the square of the step, here below 1e-9, and of rounding over the step, below 1e-10."""
    exact = make(network(Layer(segments if function is Segmented else torch.square), nn.Tanh())).of_kind(kind)
    units = directions(exact.points.shape[1])[:, None]
    expected = exact.products(units)[:, 0]
    model = network(Layer(function.apply), nn.Tanh())
    for settings in ({}, {"chunk": 5}):
        found = make(model, products="differences", **settings).of_kind(kind)
        torch.testing.assert_close(found.products(units)[:, 0], expected, rtol=0, atol=1e-8)
        torch.testing.assert_close(found.gradients(), exact.gradients(), rtol=0, atol=1e-14)
        assert not found.products(torch.zeros_like(found.points)).any()
    two = Curvature(found.objective, torch.cat([found.points, 2 * found.points]), kind=kind)
    torch.testing.assert_close(two.products(units.expand(-1, 2, -1))[:, 0], expected, rtol=0, atol=1e-8)


def test_eigenvalues_and_trace_by_differences() -> None:
    exact = HessianOperator.of(make(network(Layer(torch.square))))
    found = HessianOperator.of(make(network(Layer(Marked.apply)), products="differences"))
    values = np.linalg.eigvalsh(exact @ np.eye(exact.shape[0]))
    np.testing.assert_allclose(top_eigenvalues(found, 3).values, values[:-4:-1], rtol=1e-7)
    assert trace(found, num_products=100).value == pytest.approx(values.sum(), rel=1e-6)


class Through(torch.autograd.Function):
    """x², with the gradient of x: that of no loss at all."""

    @staticmethod
    def forward(ctx, x):
        return x.square()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_differences_of_what_is_no_gradient_are_refused() -> None:
    curvature = make(network(Layer(Through.apply)), products="differences")
    with pytest.raises(ValueError, match=r"by differences of autograd's gradient, is not symmetric"):
        curvature.products(torch.ones_like(curvature.points))


def test_differences_take_float64_and_have_no_third_derivative() -> None:
    with pytest.raises(ValueError, match=r"need parameters in float64, got torch\.float32"):
        make(network(nn.Tanh()), dtype=torch.float32, products="differences")
    curvature = make(network(nn.Tanh()), products="differences")
    with pytest.raises(ValueError, match="Third derivatives need exact products"):
        curvature.form_gradients(curvature.points[None], torch.ones(1))
