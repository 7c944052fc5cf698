import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from basinet.analysis.curvature.hessian import HessianOperator, hessian_matrix
from basinet.analysis.curvature.top_eigenvalues import top_eigenvalues

Batch = tuple[Tensor, ...]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(-1, 2, 4)
        return self.head((x + self.attention(x, x, x, need_weights=False)[0]).mean(1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(8, 8)
        self.decode = nn.Linear(8, 8)
        self.decode.weight = self.encode.weight
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decode(self.encode(x).tanh()))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "tanh": lambda: nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3)),
    "layer norm": lambda: nn.Sequential(
        nn.Linear(8, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 3)
    ),
    "batch norm": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 2, 2)),
        nn.Conv2d(2, 3, 2, padding=1),
        nn.BatchNorm2d(3),
        nn.SiLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(27, 3),
    ),
    "attention": Attention,
    "tied": Tied,
    "transformer": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 4)), nn.TransformerEncoderLayer(4, 2, 5, batch_first=True), nn.Flatten(), nn.Linear(8, 3)
    ),
}


def loss(model: nn.Module, batch: Batch) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


def make(name: str, num_samples: int = 23) -> tuple[nn.Module, Batch]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS[name]().double()
        data = torch.randn(num_samples, 8, dtype=torch.float64), torch.randint(3, (num_samples,))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
            model.train()(data[0])  # running statistics that are not those of a new layer
    return model.eval(), data


def explicit(model: nn.Module, data: Batch) -> np.ndarray:
    """The Hessian by torch's own double backward, block by block from the parameters themselves."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        value = loss(model, data)
    parameters = list(model.parameters())
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters, create_graph=True)])
    rows = [torch.autograd.grad(g, parameters, retain_graph=True, materialize_grads=True) for g in gradient]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows]).numpy()


@pytest.mark.parametrize("name", MODELS)
def test_matrix_is_the_explicit_hessian(name: str) -> None:
    model, data = make(name)
    expected = explicit(model, data)
    scale = np.abs(expected).max()
    found = hessian_matrix(model, loss, data)
    assert found.shape == 2 * (sum(p.numel() for p in model.parameters()),)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(found, found.T, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("name", MODELS)
def test_eigenvalues_at_both_ends(name: str) -> None:
    model, data = make(name)
    exact = np.linalg.eigvalsh(explicit(model, data))
    operator = HessianOperator(model, loss, data)
    for sign, expected in ((1, exact[::-1]), (-1, -exact)):
        signed = LinearOperator(operator.shape, lambda v, s=sign: s * (operator @ v), dtype=np.float64)
        found = top_eigenvalues(signed, num_eigenvalues=3, tol=1e-9)
        assert found.converged
        np.testing.assert_allclose(found.values, expected[:3], rtol=1e-8)


def test_functional_hessian_agrees() -> None:
    model, data = make("tanh")
    names = [name for name, _ in model.named_parameters()]

    def of_parameters(*parameters: Tensor) -> Tensor:
        return cross_entropy(
            torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), data[0]), data[1]
        )

    parameters = tuple(model.parameters())
    blocks = torch.autograd.functional.hessian(of_parameters, parameters)
    rows = [
        torch.cat([block.reshape(p.numel(), -1) for block in row], 1) for p, row in zip(parameters, blocks, strict=True)
    ]
    np.testing.assert_allclose(hessian_matrix(model, loss, data), torch.cat(rows).detach(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", MODELS)
def test_products_agree_with_central_differences(name: str) -> None:
    model, data = make(name)
    operator = HessianOperator(model, loss, data)
    v = np.random.default_rng(0).standard_normal(operator.shape[0])
    h = 1e-5
    difference = operator.at(operator.point + h * v).gradient() - operator.at(operator.point - h * v).gradient()
    product = operator @ v
    np.testing.assert_allclose(difference / (2 * h), product, rtol=0, atol=1e-7 * np.linalg.norm(product))


def test_softmax_regression_has_its_closed_form() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3, bias=False).double()
    x, y = torch.randn(11, 4, dtype=torch.float64), torch.randint(3, (11,))
    p = model(x).softmax(-1).detach()
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    expected = torch.einsum("nab,ni,nj->aibj", inner, x, x).reshape(12, 12) / 11
    np.testing.assert_allclose(hessian_matrix(model, loss, (x, y)), expected, rtol=0, atol=1e-14)
    gradient = torch.einsum("na,ni->ai", p - one_hot(y, 3), x).flatten() / 11
    np.testing.assert_allclose(HessianOperator(model, loss, (x, y)).gradient(), gradient, rtol=0, atol=1e-14)


class Point(nn.Module):
    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(start.double())


def test_quadratic_read_from_the_parameter_itself() -> None:
    # The loss does not call the model: the parameters must be swapped wherever it reads them.
    a = torch.tensor([[2.0, 1.0], [1.0, -3.0]], dtype=torch.float64)
    operator = HessianOperator(
        Point(torch.tensor([1.0, 2.0])), lambda model, _: model.theta @ a @ model.theta / 2, (torch.zeros(1),)
    )
    assert operator.loss() == pytest.approx(-3.0)
    np.testing.assert_allclose(operator.gradient(), [4.0, -5.0])
    np.testing.assert_allclose(operator @ np.eye(2), a)
    moved = operator.at(np.array([0.0, 1.0]))
    assert moved.loss() == pytest.approx(-1.5)
    assert operator.loss() == pytest.approx(-3.0)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chunk", [1, 5, 22, 23, 100])
def test_ragged_chunks_equal_the_full_batch(name: str, chunk: int) -> None:
    model, data = make(name)
    whole, parts = HessianOperator(model, loss, data), HessianOperator(model, loss, data, chunk=chunk)
    vectors = np.random.default_rng(0).standard_normal((whole.shape[0], 2))
    assert parts.loss() == pytest.approx(whole.loss(), rel=1e-12)
    np.testing.assert_allclose(parts.gradient(), whole.gradient(), rtol=0, atol=1e-13)
    products = whole @ vectors
    np.testing.assert_allclose(parts @ vectors, products, rtol=0, atol=1e-12 * np.abs(products).max())


def test_matrix_products_are_the_vector_products_and_are_counted() -> None:
    operator = HessianOperator(*make_with_loss("tanh"))
    vectors = np.random.default_rng(0).standard_normal((operator.shape[0], 3))
    together = operator @ vectors
    assert operator.num_products == 3
    for i in range(3):
        np.testing.assert_allclose(operator @ vectors[:, i], together[:, i], rtol=0, atol=1e-15)
    assert operator.num_products == 6
    assert together.dtype == np.float64
    np.testing.assert_allclose(operator.T @ vectors[:, 0], together[:, 0], rtol=0, atol=1e-15)
    assert operator.num_products == 7
    assert operator.at(operator.point).num_products == 0


def make_with_loss(name: str) -> tuple[nn.Module, Callable[[nn.Module, Batch], Tensor], Batch]:
    model, data = make(name)
    return model, loss, data


@pytest.mark.parametrize("readonly", [False, True])
def test_vectors_of_any_layout(readonly: bool) -> None:
    operator = HessianOperator(*make_with_loss("tanh"))
    v = np.random.default_rng(0).standard_normal(operator.shape[0])
    expected = operator @ v
    backwards = np.ascontiguousarray(v[::-1])[::-1]
    backwards.flags.writeable = not readonly
    np.testing.assert_allclose(operator @ backwards, expected, rtol=0, atol=1e-15)
    np.testing.assert_array_equal((operator @ v[:, None]).shape, (len(v), 1))
    np.testing.assert_array_equal(operator @ np.ones(len(v), dtype=np.int64), operator @ np.ones(len(v)))


def test_eigsh_takes_the_operator() -> None:
    model, data = make("layer norm")
    operator = HessianOperator(model, loss, data)
    values = eigsh(operator, k=4, which="LA", v0=np.ones(operator.shape[0]), return_eigenvectors=False)
    expected = np.linalg.eigvalsh(explicit(model, data))[-4:]
    np.testing.assert_allclose(np.sort(values), expected, rtol=1e-10)


def test_unused_frozen_and_linear_parameters() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
            self.frozen = nn.Parameter(torch.full((1,), 3.0, dtype=torch.float64), requires_grad=False)
            self.linear = nn.Parameter(torch.ones(1, dtype=torch.float64))

    data = (torch.ones(1),)
    matrix = hessian_matrix(Parts(), lambda m, _: (m.frozen * m.linear**2).sum(), data)
    np.testing.assert_array_equal(matrix, np.diag([0.0, 0.0, 6.0]))
    linear = HessianOperator(Parts(), lambda m, _: 5 * m.linear.sum(), data)
    np.testing.assert_array_equal(linear.gradient(), [0, 0, 5])
    np.testing.assert_array_equal(linear @ np.ones(3), np.zeros(3))
    constant = HessianOperator(Parts(), lambda m, b: b[0].sum(), data)
    assert constant.loss() == 1.0
    np.testing.assert_array_equal(constant.gradient(), np.zeros(3))
    np.testing.assert_array_equal(constant @ np.ones(3), np.zeros(3))


def test_loss_gradient_and_products_at_a_point_take_one_evaluation() -> None:
    model, data = make("tanh")
    calls = 0

    def counted(model: nn.Module, batch: Batch) -> Tensor:
        nonlocal calls
        calls += 1
        return loss(model, batch)

    operator = HessianOperator(model, counted, data)
    vector = np.ones(operator.shape[0])
    operator @ vector  # the first product is compared with differences
    there = operator.at(operator.point + 0.1)
    before = calls
    value, gradient, _ = there.loss(), there.gradient(), there @ vector
    assert calls == before + 1
    assert value == pytest.approx(HessianOperator(model, loss, data, chunk=5).at(there.point).loss(), rel=1e-13)
    assert there.loss() == value and np.array_equal(there.gradient(), gradient)  # nothing writes to what is kept
    assert calls == before + 1


def test_float32_models_compute_in_float32_behind_a_float64_border() -> None:
    model, data = make("tanh")
    expected = HessianOperator(model, loss, data) @ np.ones(75)
    found = HessianOperator(model.float(), loss, (data[0].float(), data[1])) @ np.ones(75)
    assert found.dtype == np.float64
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 1e-9 < error < 1e-5


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chunk", [None, 5])
def test_the_model_is_left_as_it_was(name: str, chunk: int | None) -> None:
    model, data = make(name)
    for i, parameter in enumerate(model.parameters()):
        parameter.grad = None if i else torch.ones_like(parameter)
    before = copy.deepcopy(model.state_dict())
    tensors = [id(t) for t in (*model.parameters(), *model.buffers())]
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    operator = HessianOperator(model, loss, data, chunk=chunk)
    operator.loss(), operator.gradient(), operator @ np.ones(operator.shape[0])
    after = model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert tensors == [id(t) for t in (*model.parameters(), *model.buffers())]
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(random, torch.get_rng_state())
    gradients = [p.grad for p in model.parameters()]
    assert torch.equal(gradients[0], torch.ones_like(gradients[0])) and not any(g is not None for g in gradients[1:])
    assert all(p.grad_fn is None and p.is_leaf for p in model.parameters())


def test_later_training_does_not_move_the_operator() -> None:
    model, data = make("batch norm")
    operator = HessianOperator(model, loss, data, chunk=7)
    expected = operator @ np.ones(operator.shape[0])
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.add_(1)
    np.testing.assert_array_equal(operator @ np.ones(operator.shape[0]), expected)


def test_works_where_gradients_are_off() -> None:
    operator = HessianOperator(*make_with_loss("tanh"))
    expected = operator @ np.ones(75)
    with torch.no_grad():
        np.testing.assert_array_equal(HessianOperator(*make_with_loss("tanh")) @ np.ones(75), expected)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.BatchNorm1d(8), "BatchNorm1d '1'"),
        (nn.BatchNorm1d(8, track_running_stats=False).eval(), "BatchNorm1d '1'"),
        (nn.Dropout(0.5), "Dropout '1'"),
    ],
)
def test_layers_in_training_mode_are_refused(layer: nn.Module, said: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8), layer, nn.Linear(8, 3)).double()
    with pytest.raises(ValueError, match=said):
        HessianOperator(model, loss, make("tanh")[1])


def test_a_mode_that_changes_later_is_refused() -> None:
    model, data = make("batch norm")
    operator = HessianOperator(model, loss, data)
    model.train()
    with pytest.raises(ValueError, match="statistics of the batch"):
        operator.loss()


def test_modes_that_do_not_matter_are_accepted() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.0), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3)).double()
    data = make("tanh")[1]
    trained = HessianOperator(model.train(), loss, data).gradient()
    np.testing.assert_array_equal(trained, HessianOperator(model.eval(), loss, data).gradient())


def test_random_losses_are_refused_and_leave_the_generator() -> None:
    model, data = make("attention")
    model.train()  # its dropout is no module
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="draws random numbers"):
        HessianOperator(model, loss, data).loss()
    assert torch.equal(state, torch.get_rng_state())


def test_what_cannot_be_measured_is_refused() -> None:
    model, (x, y) = make("tanh")
    with pytest.raises(ValueError, match="equally many samples"):
        HessianOperator(model, loss, (x, y[1:]))
    with pytest.raises(ValueError, match="equally many samples"):
        HessianOperator(model, loss, (x[:0], y[:0]))
    with pytest.raises(ValueError, match="equally many samples"):
        HessianOperator(model, loss, ())
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        HessianOperator(model, loss, (x, y), chunk=0)
    with pytest.raises(ValueError, match="got none"):
        HessianOperator(nn.Flatten(), loss, (x, y))
    mixed = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3).double())
    with pytest.raises(ValueError, match=r"torch\.float32 on cpu, torch\.float64 on cpu"):
        HessianOperator(mixed, loss, (x, y))
