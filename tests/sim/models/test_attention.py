"""S³Attention and what it is compared to: closed forms, padding, batched gradients, Hessians, in float64."""

import copy
import io
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from basinet.analysis.curvature.hessian import HessianOperator
from basinet.sim.agents.state import StackedState, load_vector
from basinet.sim.engines import ENGINES
from basinet.sim.engines.randomness import KeyedDropout
from basinet.sim.models import MODELS
from basinet.sim.models.attention.heads import join_heads
from basinet.sim.models.attention.linformer import ProjectedAttention
from basinet.sim.models.attention.performer import RandomFeatureAttention
from basinet.sim.models.attention.s3attention import S3Attention
from basinet.sim.models.attention.skeleton import SkeletonAttention
from basinet.sim.models.attention.transformer import SoftmaxAttention
from basinet.sim.models.modules import silence_vmap
from basinet.sim.tasks import Task

LENGTH, WIDTH, WORDS, CLASSES, SAMPLES = 9, 8, 7, 3, 12
SMALL = {"width": WIDTH, "hidden": 6, "layers": 2}
S3 = {"segments": 4, "rows": 4, "columns": 3}

SETTINGS = {
    "s3attention": ("s3attention", {**SMALL, **S3}),
    "s3attention, positions": ("s3attention", {**SMALL, **S3, "norm": "position"}),
    "s3attention, channels": ("s3attention", {**SMALL, **S3, "norm": "channel"}),
    "transformer": ("transformer", SMALL),
    "linformer": ("linformer", {**SMALL, "rank": 3}),
    "performer": ("performer", {**SMALL, "features": 6}),
    "tokenwise": ("tokenwise", SMALL),
}

LAYERS = {
    "s3attention": lambda: S3Attention(LENGTH, WIDTH, **S3),
    "s3attention, positions": lambda: S3Attention(LENGTH, WIDTH, **S3, norm="position"),
    "s3attention, channels": lambda: S3Attention(LENGTH, WIDTH, **S3, norm="channel"),
    "transformer": lambda: SoftmaxAttention(WIDTH, 2),
    "linformer": lambda: ProjectedAttention(LENGTH, WIDTH, 2, rank=3),
    "performer": lambda: RandomFeatureAttention(WIDTH, 2, features=6, seed=0),
}


def numbers(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def tokens(*shape, seed=0):
    """Sequences with 0 to all but two of their tokens padded."""
    drawn = torch.randint(1, WORDS, shape, generator=torch.Generator().manual_seed(seed))
    sizes = LENGTH - torch.arange(math.prod(shape[:-1])).reshape(*shape[:-1], 1) % (LENGTH - 1)
    return drawn.masked_fill(torch.arange(LENGTH) >= sizes, 0)


def fixed(make):
    """Make a module with fixed values, none of them a special one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def classifier(case, shape=(LENGTH,), vocabulary=WORDS, seed=3, **more):
    name, settings = SETTINGS[case]
    given = {"vocabulary": vocabulary, "padding": None if vocabulary is None else 0}
    if name in ("s3attention", "performer"):
        given["seed"] = seed
    return fixed(lambda: MODELS[name](shape, CLASSES, **given, **settings, **more))


def test_row_and_column_attention_are_softmax_attention_if_all_is_sampled():
    layer = fixed(lambda: SkeletonAttention(LENGTH, WIDTH, heads=2, rows=LENGTH, columns=WIDTH // 2, seed=0))
    q, k, v = (numbers(2, 2, LENGTH, WIDTH // 2, seed=i) for i in range(3))
    rows = functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(layer.attend_rows(q, k, v), rows, rtol=1e-12, atol=1e-13)
    # The features attend to features: C^T is attention among columns, with √n in the place of √size.
    columns = functional.scaled_dot_product_attention(q.mT, k.mT, v.mT, scale=LENGTH**-0.5).mT
    torch.testing.assert_close(layer.attend_columns(q, k, v), columns, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("norm", ["position", "channel", "layer"])
@pytest.mark.parametrize("length", [8, 9])
def test_s3attention_is_the_published_module(norm, length):
    """Against plain loops: a circular convolution of segment means, torch's convolution, softmax over samples."""
    layer = fixed(lambda: S3Attention(length, WIDTH, **S3, norm=norm)).train()
    x = numbers(4, length, WIDTH)
    means = x.reshape(4, length, 4, 2).mean(-1).repeat_interleave(2, -1)
    kernel = torch.fft.irfft(torch.complex(*layer.smoother.filter), n=length)
    smooth = torch.zeros_like(x)
    for t, s in itertools.product(range(length), range(length)):
        smooth[:, t] += kernel[:, (t - s) % length] * means[:, s]
    taps = layer.stem.taps.weight.view(3, WIDTH, 2 * WIDTH).permute(1, 2, 0)
    h = functional.conv1d(torch.cat((smooth, x), -1).mT, taps, layer.stem.bias, padding=1).mT
    dims = {"position": (0, 2), "channel": (0, 1), "layer": (2,)}[norm]
    weight, bias = layer.stem.normalization.weight, layer.stem.normalization.bias
    if norm == "position":
        weight, bias = weight[:, None], bias[:, None]
    variance, mean = torch.var_mean(h, dims, correction=0, keepdim=True)
    h = torch.relu((h - mean) / torch.sqrt(variance + 1e-5) * weight + bias)
    attention = layer.attention
    q, k, v = (part.view(4, length, 2, 4) for part in attention.projections(h).chunk(3, -1))
    rows, columns = torch.zeros(4, length, 2, 4).double(), torch.zeros(4, length, 2, 4).double()
    for head in range(2):
        qh, kh, vh = (part[:, :, head] for part in (q, k, v))
        chosen = attention.rows.tolist(), attention.columns.tolist()
        rows[:, :, head] = torch.softmax(qh @ kh[:, chosen[0]].mT / 2, -1) @ vh[:, chosen[0]]
        columns[:, :, head] = vh[..., chosen[1]] @ torch.softmax(kh[..., chosen[1]].mT @ qh / length**0.5, 1)
    mixed = attention.row_norm(rows.flatten(2)) / 2 + attention.column_norm(columns.flatten(2)) / 2
    torch.testing.assert_close(layer(x), attention.output(mixed), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("length", [8, 9])
def test_a_smoother_of_ones_without_segments_changes_nothing(length):
    layer = fixed(lambda: S3Attention(length, WIDTH, segments=WIDTH, rows=2, columns=2))
    with torch.no_grad():
        layer.smoother.filter.copy_(torch.tensor([1.0, 0.0])[:, None, None])
    x = numbers(3, length, WIDTH)
    torch.testing.assert_close(layer.smoother(x), x, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("case", SETTINGS)
def test_a_state_or_a_copy_gives_identical_outputs(case):
    model, other, x = classifier(case, dropout=0.2), classifier(case, seed=4), tokens(SAMPLES, LENGTH)
    model(x)  # so that running statistics are those of data
    expected = model.eval()(x)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(torch.load(file))
    assert torch.equal(other.eval()(x), expected)


@pytest.mark.parametrize("name", ["s3attention", "performer"])
def test_what_is_drawn_depends_on_the_seed_and_the_layer_alone(name):
    def drawn(model):
        return [b for key, b in model.named_buffers() if key.endswith(("rows", "columns", "directions"))]

    torch.manual_seed(1)
    first = drawn(classifier(name, (40,), None))
    torch.manual_seed(2)
    with torch.device("meta"):
        again = drawn(MODELS[name]((40,), CLASSES, vocabulary=None, padding=None, seed=3, **SETTINGS[name][1]))
    other = drawn(classifier(name, (40,), None, seed=5))
    assert len(first) == 2 * (2 if name == "s3attention" else 1)
    assert all(
        a.device.type == "cpu" and torch.allclose(a.double(), b.double()) for a, b in zip(again, first, strict=True)
    )
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[len(first) // 2])  # the other layer's


@pytest.mark.parametrize("case", LAYERS)
def test_padded_tokens_change_no_output_of_others(case):
    padding = tokens(SAMPLES, LENGTH) == 0
    x = numbers(SAMPLES, LENGTH, WIDTH)
    noisy = torch.where(padding.unsqueeze(-1), 1e3 * numbers(SAMPLES, LENGTH, WIDTH, seed=1), x)
    layer = fixed(LAYERS[case])
    for mode in (True, False):
        a, b = (layer.train(mode)(part, padding)[~padding] for part in (x, noisy))
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)
    none = layer(x, torch.zeros_like(padding))
    torch.testing.assert_close(layer(x), none, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("case", LAYERS)
def test_a_sequence_of_padding_alone_has_finite_outputs_and_derivatives(case):
    layer = fixed(LAYERS[case]).eval()
    padding = torch.ones(2, LENGTH, dtype=torch.bool)
    x = numbers(2, LENGTH, WIDTH).requires_grad_()
    gradient = torch.autograd.grad(layer(x, padding).square().sum(), x, create_graph=True)[0]
    assert gradient.isfinite().all()
    if case != "transformer":  # its kernel has one derivative
        second = torch.autograd.grad(gradient.sum(), list(layer.parameters()), allow_unused=True)
        assert all(part is None or part.isfinite().all() for part in second)


def test_rows_all_of_which_are_padded_attend_to_nothing():
    layer = fixed(lambda: SkeletonAttention(LENGTH, WIDTH, heads=2, rows=2, columns=3, seed=0))
    padding = torch.zeros(1, LENGTH, dtype=torch.bool)
    padding[:, layer.rows] = True
    q, k, v = (numbers(1, 2, LENGTH, WIDTH // 2, seed=i) for i in range(3))
    value = v.masked_fill(padding[:, None, :, None], 0)
    assert torch.equal(layer.attend_rows(q, k, value, padding), torch.zeros_like(q))


@pytest.mark.parametrize("case", SETTINGS)
@pytest.mark.parametrize("pair", [False, True])
def test_padding_has_no_gradient(case, pair):
    """Neither the vector of the padding token nor positions that are padded in all samples reach the outputs."""
    shape = (2, LENGTH) if pair else (LENGTH,)
    model = classifier(case, shape)
    x = tokens(5, *shape).clone()
    x[..., -2:] = 0
    model(x).square().sum().backward()
    assert torch.equal(model.embedding.weight.grad[0], torch.zeros(WIDTH).double())
    assert torch.equal(model.positions.grad[-2:], torch.zeros(2, WIDTH).double())
    assert (model.positions.grad[:2] != 0).any()


def test_pairs_are_encoded_alike():
    model = classifier("s3attention", (2, LENGTH)).eval()
    x = tokens(4, 2, LENGTH)
    single = classifier("s3attention")
    single.load_state_dict({k: v for k, v in model.state_dict().items() if "head.0" not in k}, strict=False)
    single.head = nn.Identity()
    a, b = single.eval()(x[:, 0]), single(x[:, 1])
    torch.testing.assert_close(model(x), model.head(torch.cat((a, b, a * b, a - b), -1)), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", [(LENGTH,), (LENGTH, 2)])
def test_numbers_are_embedded_by_a_linear_map(shape):
    model = classifier("s3attention", shape, None)
    assert model(numbers(4, *shape)).shape == (4, CLASSES)
    assert model.embedding.in_features == (shape[1] if len(shape) > 1 else 1)


@pytest.mark.parametrize("features", [64, 16384])
def test_random_features_converge_to_the_softmax(features):
    """Within five times a bound on the standard deviation, of first order in that of the estimated exponentials.

    exp(qᵀk) is estimated with the relative variance (exp(|q + k|²) − 1)/m or, as directions are orthogonal, less.
    """
    layer = RandomFeatureAttention(WIDTH, 2, features=features, seed=0).double()
    q, k, v = (numbers(3, 2, 20, WIDTH // 2, seed=i) / 2 for i in range(3))
    expected = functional.scaled_dot_product_attention(q, k, v)
    weights = torch.softmax(q @ k.mT / 2, -1)
    both = (q.unsqueeze(3) + k.unsqueeze(2)) / (WIDTH // 2) ** 0.25
    relative = (torch.expm1(both.square().sum(-1)) / features).sqrt()
    bound = join_heads(((weights * relative).unsqueeze(-1) * (v.unsqueeze(2) - expected.unsqueeze(3)).abs()).sum(3))
    error = (layer.attend(q, k, v, None) - join_heads(expected)).abs()
    assert (error <= 5 * bound).all()
    assert 0.01 * bound.mean() < error.mean() < bound.mean()  # a bias would be of another order


def test_linformer_attends_to_mixtures():
    layer = fixed(lambda: ProjectedAttention(LENGTH, WIDTH, 2, rank=3))
    q, k, v = (numbers(2, 2, LENGTH, WIDTH // 2, seed=i) for i in range(3))
    expected = functional.scaled_dot_product_attention(q, layer.keys @ k, layer.values @ v)
    torch.testing.assert_close(layer.attend(q, k, v, None), join_heads(expected), rtol=1e-12, atol=1e-13)


AGENTS, BATCH = 3, 4


@pytest.mark.parametrize("case", SETTINGS)
@pytest.mark.parametrize("engine", ENGINES)
def test_batched_gradients_equal_a_loop_of_autograd(case, engine):
    model = classifier(case, dropout=0.1)
    task = Task(train=(tokens(SAMPLES, LENGTH), torch.arange(SAMPLES) % CLASSES), num_outputs=CLASSES)
    state = StackedState(model, AGENTS, torch.device("cpu"), torch.float64)
    state.fill(slice(None), model)
    state.parameters += 0.1 * numbers(*state.parameters.shape)
    picks = torch.arange(AGENTS * BATCH).view(AGENTS, BATCH)
    batch, keys = tuple(part[picks] for part in task.train), torch.arange(AGENTS)
    runner = ENGINES[engine](model, task, state)
    before = {name: b.clone() for name, b in state.buffers.items()}
    losses = runner.gradients(batch, keys)
    for n in range(AGENTS):
        agent = load_vector(copy.deepcopy(model), state.parameters[n], {name: b[n] for name, b in before.items()})
        with KeyedDropout(keys[n]):
            loss = functional.cross_entropy(agent(batch[0][n]), batch[1][n])
        flat = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(agent.parameters()))])
        torch.testing.assert_close(state.gradients[n], flat, rtol=1e-10, atol=1e-11)
        torch.testing.assert_close(losses[n], loss.detach(), rtol=1e-10, atol=1e-11)
        for name, b in agent.named_buffers():
            torch.testing.assert_close(state.buffers[name][n], b, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("case", ["s3attention", "transformer", "linformer", "performer", "tokenwise"])
def test_gradients_of_samples_by_vmap_equal_those_of_each(case):
    silence_vmap()  # the kernel of softmax attention is mapped by a loop
    model = classifier(case)
    x, y = tokens(3, LENGTH), torch.arange(3)
    parameters = dict(model.named_parameters())

    def loss(parameters, x, y):
        return functional.cross_entropy(torch.func.functional_call(model, parameters, x.unsqueeze(0))[0], y)

    found = torch.vmap(torch.func.grad(loss), (None, 0, 0))({k: p.detach() for k, p in parameters.items()}, x, y)
    for i in range(3):
        expected = torch.autograd.grad(loss(parameters, x[i], y[i]), list(parameters.values()))
        for name, gradient in zip(parameters, expected, strict=True):
            torch.testing.assert_close(found[name][i], gradient, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("case", SETTINGS)
def test_half_precision_by_autocast_is_near(case):
    model, x = classifier(case).float(), tokens(SAMPLES, LENGTH)
    expected = model(x).detach()
    with torch.autocast("cpu", torch.bfloat16):
        found = model(x)
    found.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    # Each of some ten products after each other, of numbers of order one, is rounded to eight bits.
    torch.testing.assert_close(found.detach().float(), expected, rtol=0, atol=10 * 2**-8)


@pytest.mark.parametrize("case", SETTINGS)
def test_hessian_products_equal_explicit_ones(case):
    name, settings = SETTINGS[case]
    tiny = settings | {"width": 4, "layers": 1, "hidden": 3} | ({"segments": 2, "columns": 2} if "s3" in name else {})
    given = {"vocabulary": WORDS, "padding": 0} | ({"seed": 0} if name in ("s3attention", "performer") else {})
    model = fixed(lambda: MODELS[name]((LENGTH,), CLASSES, **given, **tiny)).eval()
    data = tokens(4, LENGTH), torch.arange(4) % CLASSES

    def loss(model, batch):
        return functional.cross_entropy(model(batch[0]), batch[1])

    parameters = list(model.parameters())
    vectors = numbers(2, sum(p.numel() for p in parameters))
    found = HessianOperator(model, loss, data) @ vectors.T.numpy()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        gradient = torch.autograd.grad(loss(model, data), parameters, create_graph=True)
    flat = torch.cat([g.flatten() for g in gradient])
    for i, vector in enumerate(vectors):
        rows = torch.autograd.grad(flat @ vector, parameters, retain_graph=True, materialize_grads=True)
        expected = torch.cat([part.flatten() for part in rows]).numpy()
        np.testing.assert_allclose(found[:, i], expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: S3Attention(8, 12, segments=5), "segments: got 5, which does not divide the width 12"),
        (lambda: S3Attention(8, 12, segments=4, heads=5), "heads: got 5, which does not divide the width 12"),
        (lambda: S3Attention(6, 32), "rows: got 8, but there are only 6 tokens"),
        (lambda: S3Attention(8, 8, heads=2), "columns: got 8, but a head has only 4 features"),
        (lambda: S3Attention(8, 16)(torch.zeros(1, 9, 16)), "is for 8 tokens, not 9"),
        (lambda: classifier("transformer", (1, 8, 8), None), r"\(T,\) or \(T, channels\), but got \(1, 8, 8\)"),
        (lambda: classifier("transformer", (3, 8)), r"\(T,\) or \(2, T\), but got \(3, 8\)"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()
